"""One way to load whatever can be asked: runs, checkpoints, models of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from mdlm_core.catalog import load_catalog
from mdlm_core.cli import run
from mdlm_core.data.batch import Batch
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_llada.checkpoint.read import read_checkpoint
from mdlm_llada.checkpoint.tiny import FAMILIES, tiny_checkpoint
from mdlm_llada.checkpoint.write import PROMPTS
from mdlm_llada.cli.decoding import decoding
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
    with pytest.raises(ConfigError, match=r"given as 5, but .* 261; leave"):
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


def test_what_is_no_model_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        CheckpointError, match=r"neither a run nor a checkpoint: it has"
    ):
        load_model(empty)
    for path in ("", "  "):
        with pytest.raises(UsageError, match="the path of the model is empty"):
            load_model(path)
        with pytest.raises(UsageError, match="the path of the model is empty"):
            decoding(path, load_catalog(), gen_length=None, sets=None)
    folder = tiny_checkpoint(tmp_path / "tiny")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json' cannot be read"):
        load_model(folder)
    (folder / "config.json").write_text(text)
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"has no tokenizer: .* tokenizer\.json"):
        load_model(folder)


@pytest.mark.parametrize("choice", [{"checkpoint": "99"}, {"weights": "raw"}])
def test_what_is_for_runs_alone_is_refused(
    choice: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is no run, which alone has several"):
        load_model(tiny_checkpoint(tmp_path / "tiny"), **choice)


@pytest.mark.parametrize("length", [0, -16])
def test_an_answer_has_a_token(length: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"gen-length is {length}; .* at least 1"):
        decoding(str(tmp_path), load_catalog(), gen_length=length, sets=None)


def test_the_block_is_the_models_where_none_is_asked_for(tmp_path: Path) -> None:
    folder = str(
        tiny_checkpoint(tmp_path / "two", "llada2", changes={"block_size": 16})
    )
    other = str(tiny_checkpoint(tmp_path / "one"))
    catalog = load_catalog()

    def block(model: str, sets: list[str] | None = None, **given: object) -> int:
        return decoding(model, catalog, gen_length=32, sets=sets, **given)[0].block

    assert block(folder) == 16
    assert block(other) == 32
    assert block(folder, block=8) == block(folder, ["sampler.block=8"]) == 8
    command = ["llada", "generate", folder, "--prompt", "a", "--gen-length", "32"]
    command += ["--device", "cpu"]
    assert run(command) == 0
    assert run([*command, "--block-length", "8"]) == 2
    sets = ["model.path=" + folder, "data.tokenizer=" + folder, "task.eval_generate=0"]
    given = [part for text in sets for part in ("--set", text)]
    assert run(["train", *TINY, *given, "--out", str(tmp_path / "run")]) == 0
    assert block(str(tmp_path / "run")) == 16
    assert block(str(tmp_path / "run"), block=8) == 8


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
