"""Configurations of the original in our settings."""

import re
from pathlib import Path

import pytest

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.errors import ConfigError, UsageError
from mdlm_msa.original.config import dotted, translate
from mdlm_msa.original.keys import KEYS


def one_of_each() -> dict[str, object]:
    return {
        path: next(iter(key.values)) if key.values else 8 for path, key in KEYS.items()
    }


@pytest.mark.parametrize("program", ["train_mdlm", "train_mdlm_dpo"])
def test_every_key_becomes_settings_that_exist(program: str) -> None:
    preset = "msa/large" if program == "train_mdlm" else "msa/align"
    only = ("data.max_rows",)
    if program == "train_mdlm":
        only = ("data.min_score_difference", "dpo.")
    special = {
        "model.hidden_size": 64,
        "model.dropout": 0.1,
        "noise_schedule.eps": 1e-3,
        "training.weight_decay": 0.1,
        "dpo.label_smoothing": 0.1,
    }
    given = {**one_of_each(), **special, "data.path": "x"}
    arguments = [
        f"--{path}={value}"
        for path, value in given.items()
        if not path.startswith(only)
    ]
    found = translate(program, (), arguments)
    config = resolve(load_catalog(), preset=preset, sets=found.sets).config
    assert config.model.config.width == 64
    assert config.schedule.name == "loglinear-reversed"
    assert config.schedule.config.eps == 1e-3
    assert config.train.steps == 8
    assert config.seed == 8


def test_files_and_options_are_merged(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("model: {num_layers: 3, num_heads: 2}\ndata: {path: one}\n")
    second.write_text("model: {num_layers: 5}\ntraining: {learning_rate: 1e-4}\n")
    arguments = ["--data.path", "two", "--train.steps", "7", "--output_dir=out"]
    found = translate("train_mdlm", [first, second], arguments)
    assert found.path == "two"
    assert found.out == "out"
    assert found.checkpoint is None
    assert set(found.sets) == {
        "model.blocks=5",
        "model.heads=2",
        "train.lr=0.0001",
        "train.steps=7",
    }


def test_names_come_before_what_they_reset() -> None:
    found = translate(
        "train_mdlm",
        (),
        ["--noise_schedule.eps", "0.01", "--noise_schedule.name", "loglinear"],
    )
    assert found.sets == ("schedule.name=loglinear-reversed", "schedule.eps=0.01")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model.hiden_size", "8"],
            "'model.hiden_size'; did you mean model.h",
        ),
        (["--trian.steps", "8"], "no key 'trian.steps'; did you mean train.steps"),
        (["--backbone", "gpt"], "backbone is 'gpt'; it must be mdlm: autoregressive"),
        (["--model.vocab_size", "100"], "model.vocab_size is 100; it must be 37, 128"),
        (["--model.mask_token_id", "28"], "it must be 36"),
        (["--model.checkpoint_path", "x/last.ckpt"], "give the folder"),
        (["--dpo.beta", "1"], "dpo.beta is a key of train_mdlm_dpo, not of train_mdlm"),
        (["--data.path", "3"], "data.path is 3; it must be a path"),
    ],
)
def test_wrong_keys_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        translate("train_mdlm", (), arguments)


def test_wrong_files_and_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--data\.path has no value"):
        list(dotted(["--data.path", "--train.steps", "3"]))
    with pytest.raises(UsageError, match=r"'data\.path' is no option"):
        list(dotted(["data.path", "x"]))
    with pytest.raises(ConfigError, match="No such file"):
        translate("train_mdlm", [tmp_path / "none.yaml"], [])
    path = tmp_path / "a.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds no mapping"):
        translate("train_mdlm", [path], [])
    path.write_text("a: [\n")
    with pytest.raises(ConfigError, match="is no YAML"):
        translate("train_mdlm", [path], [])
    path.write_text("model: {num_leyers: 2}\n")
    with pytest.raises(ConfigError, match=r"model.num_layers.*\(from .*a.yaml\)"):
        translate("train_mdlm", [path], [])
    path.write_text("")
    assert translate("train_mdlm", [path], []).sets == ()
