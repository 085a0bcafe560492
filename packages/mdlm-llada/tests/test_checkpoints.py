"""Checkpoints are read as transformers reads the same tensors, and written back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UnknownNameError, UsageError
from mdlm_llada.checkpoint.read import read_checkpoint
from mdlm_llada.checkpoint.tiny import FAMILIES, tiny_checkpoint
from mdlm_llada.checkpoint.write import split, write_checkpoint

MASKS = {"llada": 261, "dream": 259, "llada-moe": 259, "llada2": 259}
PEERS = {
    "llada": ("LlamaForCausalLM", "llama"),
    "dream": ("Qwen2ForCausalLM", "qwen2"),
    "llada-moe": ("Qwen3MoeForCausalLM", "qwen3_moe"),
    "llada2": ("Glm4MoeForCausalLM", "glm4_moe"),
}


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a
    )


RENAMED = {
    "llada": (
        (r"model\.transformer\.wte\.", "model.embed_tokens."),
        (r"model\.transformer\.ln_f\.", "model.norm."),
        (r"model\.transformer\.ff_out\.", "lm_head."),
        (r"model\.transformer\.blocks\.", "model.layers."),
        (r"\.attn_norm\.", ".input_layernorm."),
        (r"\.([qkv]_proj)\.", r".self_attn.\1."),
        (r"\.attn_out\.", ".self_attn.o_proj."),
        (r"\.ff_norm\.", ".post_attention_layernorm."),
        (r"\.ff_proj\.", ".mlp.gate_proj."),
        (r"\.up_proj\.", ".mlp.up_proj."),
        (r"\.ff_out\.", ".mlp.down_proj."),
    ),
    "dream": (),
    "llada-moe": (),
    "llada2": (
        ("word_embeddings", "embed_tokens"),
        (r"attention\.query_layernorm", "self_attn.q_norm"),
        (r"attention\.key_layernorm", "self_attn.k_norm"),
        (r"attention\.dense", "self_attn.o_proj"),
        (r"gate\.expert_bias", "gate.e_score_correction_bias"),
    ),
}
"""The published tables, written out once more and applied to names as text."""


def peer(folder: Path, family: str, into: Path) -> Any:
    """Return transformers' model of the same tensors, which it loads by itself."""
    config = json.loads((folder / "config.json").read_text())
    architecture, kind = PEERS[family]
    if family == "llada":
        config |= {
            "hidden_size": config["d_model"],
            "intermediate_size": config["mlp_hidden_size"],
            "num_hidden_layers": config["n_layers"],
            "num_attention_heads": config["n_heads"],
            "num_key_value_heads": config["n_kv_heads"],
        }
    if family == "llada-moe":
        config |= {
            "moe_intermediate_size": config["expert_intermediate_size"],
            "norm_topk_prob": False,
        }
    if family == "llada2":
        config |= {
            "n_routed_experts": config["num_experts"],
            "n_shared_experts": config["num_shared_experts"],
            "num_nextn_predict_layers": 0,
        }
    into.mkdir()
    config |= {"architectures": [architecture], "model_type": kind}
    (into / "config.json").write_text(json.dumps(config))
    values: dict[str, Tensor] = {}
    for name, value in tensors(folder).items():
        renamed = name
        for old, new in RENAMED[family]:
            renamed = re.sub(old, new, renamed)
        if "query_key_value" in name:
            size = config["head_dim"]
            groups = config["num_key_value_heads"] * size
            sizes = [config["num_attention_heads"] * size, groups, groups]
            for letter, part in zip("qkv", value.split(sizes), strict=True):
                at = name.replace(
                    "attention.query_key_value", f"self_attn.{letter}_proj"
                )
                values[at] = part.clone()
        else:
            values[renamed] = value
    save_file(values, into / "model.safetensors", metadata={"format": "pt"})
    model, report = AutoModelForCausalLM.from_pretrained(
        into, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys")), report
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers_with_the_same_tensors(
    family: str, tmp_path: Path
) -> None:
    folder = tiny_checkpoint(
        tmp_path / "tiny", family, shards=2, heads=4, kv_heads=2, blocks=3, seed=5
    )
    other = peer(folder, family, tmp_path / "peer")
    model = read_checkpoint(folder).eval()
    tokens = torch.arange(40).view(2, 20) * 6 % 250
    with torch.no_grad():
        expected = other(tokens, attention_mask=torch.zeros(2, 1, 20, 20)).logits
        states = model.hidden(Batch.of(tokens))
        found = model.logits(states.flatten(0, 1)).view_as(expected)
    if family == "dream":  # the state at i is about token i + 1
        expected = torch.cat((expected[:, :1], expected[:, :-1]), dim=1)
    assert expected.std() > 0.5
    if family in ("llada", "dream"):
        assert (found - expected).abs().max() == 0.0
    else:  # experts are added up in another order
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_and_written_again_is_the_same(
    family: str, dtype: str, tmp_path: Path
) -> None:
    folder = tiny_checkpoint(
        tmp_path / "tiny", family, shards=3, dtype=dtype, vocab_size=270
    )
    (folder / "modeling.py").write_text("raise RuntimeError('this is never run')")
    out = write_checkpoint(
        read_checkpoint(folder),
        tmp_path / "out",
        tokenizer=folder,
        beside=folder,
        shard_bytes=90_000,
    )
    assert same(tensors(folder), tensors(out))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert (out / "modeling.py").exists()
    files = sorted(out.glob("*.safetensors"))
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1
    assert all(file.stat().st_size < 100_000 for file in files)
    assert len(files) > 1 or dtype == "bfloat16"


def test_no_shard_is_larger_than_it_may_be_if_no_tensor_is() -> None:
    sizes = {"a": 4, "b": 4, "c": 9, "d": 1, "e": 5}
    assert split(sizes, 8) == [["a", "b"], ["c"], ["d", "e"]]


def test_the_index_names_every_tensor_and_the_sum_of_their_bytes(
    tmp_path: Path,
) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", shards=4)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    values = tensors(folder)
    assert index["weight_map"].keys() == values.keys()
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in values.values())
    assert len(list(folder.glob("model-0000?-of-00004.safetensors"))) == 4


def test_a_tied_head_is_read_into_one_matrix_with_the_embedding(
    tmp_path: Path,
) -> None:
    tied = {"weight_tying": True}
    folder = tiny_checkpoint(tmp_path / "tiny", changes=tied)
    model = read_checkpoint(folder)
    assert model.head.weight is model.embed.weight
    out = write_checkpoint(model, tmp_path / "out")
    assert same(tensors(folder), tensors(out))


def test_weights_have_the_type_that_is_asked_for(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", "llada2", dtype="bfloat16")
    kept = read_checkpoint(folder)
    assert {p.dtype for p in kept.parameters()} == {torch.bfloat16}
    assert kept.blocks[1].experts.bias.dtype == torch.float32
    cast = read_checkpoint(folder, dtype="float32")
    assert {p.dtype for p in cast.parameters()} == {torch.float32}
    assert torch.equal(cast.embed.weight, kept.embed.weight.float())
    out = write_checkpoint(cast, tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "float32"


def test_old_buffers_of_rotary_positions_are_passed_over(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", "dream")
    values = tensors(folder)
    values["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(values, folder / "model.safetensors")
    assert read_checkpoint(folder).mask_id == MASKS["dream"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mask_is_that_of_the_settings_or_the_tokenizer(
    family: str, tmp_path: Path
) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", family)
    config = json.loads((folder / "config.json").read_text())
    # the mixtures are published without a mask in their settings
    assert ("mask_token_id" in config) == (family in ("llada", "dream"))
    assert read_checkpoint(folder).mask_id == MASKS[family]


def test_a_mask_that_is_given_is_written_down(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", vocab_size=300)
    config = json.loads((folder / "config.json").read_text())
    del config["mask_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<|mdm_mask|>", "<|hole|>"))
    model = read_checkpoint(folder, mask_token_id=290)
    assert model.mask_id == 290
    out = write_checkpoint(model, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    before = json.loads((folder / "config.json").read_text())
    assert config == {**before, "mask_token_id": 290}


def test_a_tiny_one_is_the_same_every_time_and_another_with_another_seed(
    tmp_path: Path,
) -> None:
    first = tensors(tiny_checkpoint(tmp_path / "a", seed=3))
    again = tensors(tiny_checkpoint(tmp_path / "b", seed=3, shards=5))
    other = tensors(tiny_checkpoint(tmp_path / "c", seed=4))
    assert same(first, again)
    assert not same(first, other)
    matrix = first["model.transformer.blocks.0.q_proj.weight"]
    assert matrix.std().item() == pytest.approx(32**-0.5, rel=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_a_tiny_tokenizer(family: str, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", family)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = "Größe 3 × 4,\n\t🙂 <|endoftext|>"
    ids = tokenizer(text.split("<|")[0], add_special_tokens=False)["input_ids"]
    assert bytes(ids) == text.split("<|")[0].encode()
    assert tokenizer.decode(ids) == text.split("<|")[0]
    assert tokenizer.eos_token == "<|endoftext|>"
    config = json.loads((folder / "config.json").read_text())
    assert tokenizer.eos_token_id == config["eos_token_id"]
    assert len(tokenizer) == config["vocab_size"] == MASKS[family] + 1
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert whole[-1] == tokenizer.eos_token_id


def test_tiny_checkpoints_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'lada'.*did you mean 'llada'"):
        tiny_checkpoint(tmp_path / "a", "lada")
    with pytest.raises(ConfigError, match=r"vocab_size is 100.*262 ids"):
        tiny_checkpoint(tmp_path / "a", vocab_size=100)
    with pytest.raises(ConfigError, match=r"width \(36\).*heads \(8\)"):
        tiny_checkpoint(tmp_path / "a", width=36, heads=8)
    assert not (tmp_path / "a").exists()
    tiny_checkpoint(tmp_path / "a")
    with pytest.raises(UsageError, match="not an empty folder"):
        tiny_checkpoint(tmp_path / "a")
