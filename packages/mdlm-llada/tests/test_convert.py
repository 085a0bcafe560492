"""From one format to another, and back to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mdlm_core.cli import run
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_llada.checkpoint.convert import convert
from mdlm_llada.checkpoint.llama import from_llama, from_transformers, to_llama
from mdlm_llada.checkpoint.read import read_checkpoint
from mdlm_llada.checkpoint.tiny import tiny_checkpoint
from mdlm_llada.nn.trunk import LLaDA


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def both(model: LLaDA, other: Any) -> tuple[Tensor, Tensor]:
    """Return the logits of a trunk and of transformers' model, both ways."""
    tokens = torch.arange(30).view(2, 15) * 7 % 250
    positions = torch.arange(15).expand(2, 15)
    with torch.no_grad():
        ours = model.logits(model.states(tokens, positions=positions).flatten(0, 1))
        theirs = other(tokens, attention_mask=torch.zeros(2, 1, 15, 15)).logits
    return ours.view_as(theirs), theirs


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [2, 1])
def test_llada_is_a_llama_to_the_last_bit(
    kv_heads: int, tied: bool, tmp_path: Path
) -> None:
    changes = {"weight_tying": tied}
    folder = tiny_checkpoint(tmp_path / "tiny", kv_heads=kv_heads, changes=changes)
    model = read_checkpoint(folder).eval()
    llama = to_llama(model)
    ours, theirs = both(model, llama)
    assert theirs.std() > 0.5
    assert (ours - theirs).abs().max() == 0.0
    assert (llama.lm_head.weight is llama.model.embed_tokens.weight) == tied
    back = from_llama(llama, model.mask_id)
    assert back.architecture == model.architecture
    assert (back.head.weight is back.embed.weight) == tied
    assert same(back.state_dict(), model.state_dict())
    with torch.no_grad():  # the weights are copies
        llama.model.embed_tokens.weight.zero_()
    assert same(back.state_dict(), model.state_dict())


def test_other_families_are_no_llama(tmp_path: Path) -> None:
    model = read_checkpoint(tiny_checkpoint(tmp_path / "tiny", "dream"))
    with pytest.raises(ConfigError, match="family 'dream' is no Llama"):
        to_llama(model)
    biased = tiny_checkpoint(tmp_path / "a", changes={"include_qkv_bias": False})
    llada = read_checkpoint(biased)
    object.__setattr__(llada.architecture, "qkv_bias", True)
    with pytest.raises(ConfigError, match=r"bias \(of queries: True"):
        to_llama(llada)


@pytest.mark.parametrize(
    ("family", "partner"), [("llada", "llama"), ("dream", "qwen2")]
)
def test_folders_go_to_transformers_and_back_through_the_command(
    family: str, partner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", family, dtype="bfloat16", shards=2)
    there, back = tmp_path / "there", tmp_path / "back"
    command = ["llada", "convert"]
    assert run([*command, str(folder), str(there), "--to", partner, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == partner
    assert facts["dtype"] == "bfloat16"
    other = AutoModelForCausalLM.from_pretrained(there).eval()
    assert other.config.model_type == partner
    assert other.dtype == torch.bfloat16
    assert len(AutoTokenizer.from_pretrained(there)) == facts["mask_token_id"] + 1
    model = read_checkpoint(folder, dtype="float32").eval()
    ours, theirs = both(model, other.float())
    assert (ours - theirs).abs().max() == 0.0
    # the mask went along, so that it need not be given on the way back
    assert run([*command, str(there), str(back)]) == 0
    assert f"{family}," in capsys.readouterr().out
    assert same(tensors(back), tensors(folder))
    assert read_checkpoint(back).mask_id == facts["mask_token_id"]


def test_shards_and_types_are_chosen(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", "llada2")
    facts = convert(folder, tmp_path / "out", dtype="bfloat16", shard_bytes=50_000)
    assert facts["dtype"] == "bfloat16"
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    model = read_checkpoint(tmp_path / "out")
    assert model.embed.weight.dtype == torch.bfloat16
    assert model.blocks[1].experts.bias.dtype == torch.float32


def test_a_llama_is_written_in_shards_too(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", width=128, blocks=4, mlp_width=512)
    convert(folder, tmp_path / "out", to="llama", shard_bytes=1_000_000)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2


def test_a_llama_needs_a_mask_to_become_llada(tmp_path: Path) -> None:
    model = read_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    llama = to_llama(model)
    del llama.config.mask_token_id
    llama.save_pretrained(tmp_path / "llama")
    with pytest.raises(UsageError, match="give --mask-token-id"):
        convert(tmp_path / "llama", tmp_path / "out")
    facts = convert(tmp_path / "llama", tmp_path / "out", mask_token_id=258)
    assert facts["mask_token_id"] == read_checkpoint(tmp_path / "out").mask_id == 258


def small(kind: str, **changes: Any) -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "bos_token_id": 2,
        **changes,
    }
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**sizes))
    return Qwen2ForCausalLM(Qwen2Config(**sizes))


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("llama", {"attention_bias": True}, "LlamaForCausalLM has attention_bias"),
        ("llama", {"mlp_bias": True}, "LlamaForCausalLM has mlp_bias"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("llama", {"head_dim": 4}, "2 heads of size 4 and a width of 16"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
            "of the kind 'linear'",
        ),
        (
            "qwen2",
            {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": 4},
            "layers that see a window only|use_sliding_window",
        ),
    ],
)
def test_what_a_llama_has_and_llada_has_not_is_refused(
    kind: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        from_transformers(small(kind, **changes), 5)


@pytest.mark.parametrize("mask", [-1, 40, 1])
def test_a_mask_that_cannot_be_one_is_refused(mask: int) -> None:
    with pytest.raises(ConfigError, match=f"mask_token_id is {mask}; .* 0 to 39"):
        from_llama(small("llama"), mask)


def test_where_there_is_no_way_the_ways_are_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    with pytest.raises(UsageError, match=r"written as qwen2; .*llada or llama"):
        convert(folder, tmp_path / "out", to="qwen2")
    moe = tiny_checkpoint(tmp_path / "moe", "llada-moe")
    with pytest.raises(UsageError, match="cannot be written as llama; it can be llada"):
        convert(moe, tmp_path / "out", to="llama")
    with pytest.raises(UsageError, match="not an empty folder"):
        convert(folder, moe)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["GPT2LMHeadModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="of the kind GPT2LMHeadModel"):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("family", "form"), [("llada", "llama"), ("dream", "qwen2")])
def test_what_was_converted_answers_as_before(
    tmp_path: Path, family: str, form: str
) -> None:
    from mdlm_core.data.batch import Batch
    from mdlm_llada.models import load_model

    source = tiny_checkpoint(tmp_path / "source", family, seed=3)
    convert(str(source), tmp_path / "out", to=form)
    before, after = load_model(source), load_model(tmp_path / "out")
    batch = Batch.of(torch.tensor([[5, before.backbone.mask_id, 7, 8]]))
    with torch.no_grad():
        logits = [
            model.backbone.logits(model.backbone.hidden(batch)[0])
            for model in (before, after)
        ]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
