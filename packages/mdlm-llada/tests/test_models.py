"""One way to load whatever can be asked: runs, checkpoints, models of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from mdlm_core.cli import run
from mdlm_core.data.batch import Batch
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_llada.checkpoint.read import read_checkpoint
from mdlm_llada.checkpoint.tiny import FAMILIES, tiny_checkpoint
from mdlm_llada.checkpoint.write import PROMPTS
from mdlm_llada.models import LoadedModel, load_model

from .toy_tokenizer import write_tokenizer

TINY = ["--plugin", "llada", "--tiny", "--device", "cpu", "--set", "train.steps=1"]


def logits(model: LoadedModel) -> torch.Tensor:
    tokens = torch.arange(12).view(1, 12)
    with torch.no_grad():
        hidden = model.backbone.hidden(Batch.of(tokens))
        return model.backbone.logits(hidden[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_comes_with_its_tokenizer_and_its_mask(
    family: str, tmp_path: Path
) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", family)
    model = load_model(folder)
    assert model.backbone.mask_id == model.tokenizer.mask_id
    assert model.template == ("llada" if family == "llada" else "plain")
    assert not model.module.training
    assert model.device == torch.device("cpu")
    assert model.name == str(folder)
    assert model.tokenizer.decode(model.tokenizer.encode("1 + 2")) == "1 + 2"


def test_ids_that_are_no_tokens_are_no_text(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", vocab_size=270)
    model = load_model(folder)
    assert model.tokenizer.vocab_size == model.backbone.vocab_size == 270
    assert model.tokenizer.decode([72, 265, 105, 269]) == "Hi"


def test_a_mask_that_is_given_must_be_the_one_that_is_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", vocab_size=270)
    assert load_model(folder, mask_token_id=261).backbone.mask_id == 261
    for command in (
        ["generate", str(folder), "--prompt", "a", "--gen-length", "4"],
        ["convert", str(folder), str(tmp_path / "out")],
    ):
        assert run(["llada", *command, "--mask-token-id", "5"]) == 2
    with pytest.raises(
        ConfigError, match=r"given as 5, but .* 261; leave"
    ):
        load_model(folder, mask_token_id=5)


def test_a_config_and_a_tokenizer_must_name_the_same_mask(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    path = folder / "config.json"
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), "mask_token_id": 5}))
    match = r"config.json' says mask_token_id 5, but .*tokenizer in .* is 261"
    for load in (load_model, read_checkpoint):
        with pytest.raises(ConfigError, match=match):
            load(folder)
    path.write_text(text)
    dream = tiny_checkpoint(tmp_path / "dream", "dream")
    for file in dream.glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"mask_token_id 261, but .* is 25\d; they"):
        load_model(folder)


def test_a_checkpoint_without_a_mask_is_not_given_one(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", vocab_size=270)
    for path in (folder / "config.json", folder / "tokenizer.json"):
        text = path.read_text().replace("mask_token_id", "not_read")
        path.write_text(text.replace("<|mdm_mask|>", "<|hole|>"))
    with pytest.raises(ConfigError, match="does not say which token is the mask"):
        load_model(folder)
    model = load_model(folder, mask_token_id=266)
    assert model.backbone.mask_id == model.tokenizer.mask_id == 266
    assert model.tokenizer.decode([72, 266], mask="_") == "H_"
    with pytest.raises(ConfigError, match="mask_token_id is 270"):
        load_model(folder, mask_token_id=270)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "content": "<|a|>"})
    content["added_tokens"][-1]["id"] = 262
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"tokenizer has 263 ids.*rows for 262"):
        load_model(folder)


def test_the_type_and_the_template_may_be_chosen(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", dtype="bfloat16")
    assert load_model(folder).module.embed.weight.dtype == torch.bfloat16
    model = load_model(folder, dtype="float32", template="none")
    assert model.module.embed.weight.dtype == torch.float32
    assert model.template == "none"
    with pytest.raises(ConfigError, match="template llada needs"):
        load_model(tiny_checkpoint(tmp_path / "b", "dream"), template="llada")
    with pytest.raises(UsageError, match="device 'tpu'"):
        load_model(folder, device="tpu")


def test_a_masked_model_of_transformers_is_loaded_too(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=260,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        architectures=["BertForMaskedLM"],
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    special = ("<|endoftext|>", "[MASK]")
    write_tokenizer(tmp_path / "bert", special, mask_token="[MASK]")
    model = load_model(tmp_path / "bert")
    assert type(model.backbone).__name__ == "HuggingFaceBackbone"
    assert model.backbone.mask_id == model.tokenizer.mask_id == 257
    assert logits(model).shape == (12, 260)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step from a checkpoint, with adapters."""
    pytest.importorskip("peft", reason="adapters need peft")
    place = tmp_path_factory.mktemp("trained")
    folder = str(tiny_checkpoint(place / "tiny"))
    sets = {
        "model.path": folder,
        "data.tokenizer": folder,
        "model.lora.rank": 2,
        "train.optimizer": "adamw",
        "task.eval_generate": 0,
    }
    given = [part for k, v in sets.items() for part in ("--set", f"{k}={v}")]
    assert run(["train", *TINY, *given, "--out", str(place / "run")]) == 0
    return place / "run"


def test_a_run_keeps_the_template_that_it_was_trained_with(trained: Path) -> None:
    model = load_model(trained)
    assert model.template == "plain"  # and not llada, which its tokenizer could do
    assert load_model(trained, template="llada").template == "llada"
    assert model.backbone.mask_id == model.tokenizer.mask_id == 261
    with pytest.raises(UsageError, match="is a run, which knows its mask"):
        load_model(trained, mask_token_id=3)


def test_a_run_with_adapters_becomes_a_checkpoint_of_its_own(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["llada", "convert", str(trained), str(out), "--json"]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert facts["merged_adapters"] == 14
    assert facts["format"] == "llada"
    before, after = load_model(trained), load_model(out)
    assert after.template == before.template == "plain"
    torch.testing.assert_close(logits(after), logits(before), atol=1e-5, rtol=1e-5)
    base = read_checkpoint(trained.parent / "tiny")
    assert not torch.equal(after.module.blocks[0].q.weight, base.blocks[0].q.weight)
    (out / PROMPTS).write_text("[]")
    with pytest.raises(CheckpointError, match=rf"{PROMPTS}' cannot be read"):
        load_model(out)
