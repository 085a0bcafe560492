"""The flags of the original in our settings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from shlex import split
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from mdlm_core.catalog import load_catalog
from mdlm_core.config import RunConfig, resolve
from mdlm_core.errors import UsageError
from mdlm_personality.original_flags import (
    DEFAULTS,
    FLAGS,
    PRESETS,
    PROGRAMS,
    run_of,
    translate,
)
from mdlm_personality.train_causal_mdlm import training

SCRATCH = split(
    """--encoder_type beta_vae --latent_dim 64 --beta 4.0 --hidden_dim 768
    --num_layers 12 --num_heads 12 --max_length 1024 --batch_size 32 --epochs 100
    --use_cfg --use_wandb --output_dir experiments/causal_mdlm_v1"""
)
SMALL = split(
    """--hidden_dim 512 --num_layers 8 --num_heads 8 --max_length 512
    --batch_size 64"""
)
LARGE = split(
    """--hidden_dim 1024 --num_layers 16 --num_heads 16 --max_length 1024
    --batch_size 16 --gpus 8"""
)
FOUR = split(
    """--gpus 4 --batch_size 16 --accumulate_grad_batches 2 --precision bf16-mixed
    --output_dir experiments/causal_mdlm_4gpu"""
)
MEMORY = split("--batch_size 8 --accumulate_grad_batches 4 --precision 16-mixed")


def resolved(program: str, arguments: list[str]) -> RunConfig:
    found = translate(program, arguments)
    return resolve(load_catalog(), preset=PRESETS[program], sets=found.sets).config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "experiments" / "stage1"
    (folder / "checkpoints" / "step-00000500").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    return folder


def test_the_first_command_of_the_description() -> None:
    config = resolved("train_causal_mdlm", SCRATCH)
    model: Any = config.model.config
    assert (model.width, model.blocks, model.heads) == (768, 12, 12)
    assert (model.encoder, model.latent_dim, model.beta) == ("beta-vae", 64, 4.0)
    task: Any = config.task.config
    assert (task.stage, task.condition_dropout) == ("all", 0.1)
    data: Any = config.data.config
    assert data.length == 1024
    assert (config.train.batch_size, config.train.epochs) == (32, 100)
    assert config.train.report_to == ("wandb",)
    out = translate("train_causal_mdlm", SCRATCH).out
    assert out == Path("experiments/causal_mdlm_v1")


@pytest.mark.parametrize(
    ("arguments", "size"),
    [(SMALL, (512, 8, 8, 512, 64)), (LARGE, (1024, 16, 16, 1024, 128))],
)
def test_sizes(arguments: list[str], size: tuple[int, ...]) -> None:
    config = resolved("train_causal_mdlm", arguments)
    model: Any = config.model.config
    data: Any = config.data.config
    found = (model.width, model.blocks, model.heads, data.length)
    assert (*found, config.train.batch_size) == size


@pytest.mark.parametrize(
    ("arguments", "batch", "micro", "precision", "gpus"),
    [(FOUR, 128, 16, "bf16", 4), (MEMORY, 32, 8, "fp16", None)],
)
def test_rows_of_all_processes_and_passes_are_one_batch(
    arguments: list[str], batch: int, micro: int, precision: str, gpus: int | None
) -> None:
    train = resolved("train_causal_mdlm", arguments).train
    assert (train.batch_size, train.micro_batch) == (batch, micro)
    assert train.precision == precision
    assert translate("train_causal_mdlm", arguments).gpus == gpus


def test_one_stage_after_the_other(run: Path) -> None:
    first = resolved("train_stage1", ["--epochs", "200"])
    one: Any = first.task.config
    assert (one.stage, first.train.epochs) == (1, 200)
    second: Any = resolved(
        "train_stage2", ["--encoder_path", str(run / "best_model.pt")]
    ).task.config
    assert (second.stage, second.persona_from) == (2, str(run))
    third: Any = resolved(
        "train_causal_mdlm",
        ["--causal_vae_path", f"{run}/best_model.pt", "--freeze_causal_vae"],
    ).task.config
    assert (third.stage, third.persona_from, third.freeze) == (3, str(run), True)


def test_every_flag_becomes_settings_that_exist(run: Path) -> None:
    takes = {"a whole number": "32", "a number": "2", "a path": str(run), "": ""}
    for program in PROGRAMS:
        given: list[str] = []
        for name, flag in FLAGS.items():
            if program in flag.programs:
                value = next(iter(flag.values), None) or takes.get(flag.takes, "")
                given += [f"--{name}"] if not flag.takes else [f"--{name}={value}"]
        if "--num_heads=32" in given:
            given += ["--hidden_dim=64"]
        config = resolved(program, given)
        assert config.train.epochs == 2
        assert config.model.config.latent_dim == 32


def test_dashes_are_underscores_and_our_settings_win() -> None:
    found = translate(
        "train_causal_mdlm",
        ["--latent-dim=32", "--train.lr", "1e-4", "--model.latent_dim=40"],
    )
    assert "model.latent_dim=40" in found.sets
    assert "model.latent_dim=32" not in found.sets
    assert "train.lr=1e-4" in found.sets
    assert len({text.partition("=")[0] for text in found.sets}) == len(found.sets)
    assert {text for text in DEFAULTS if "latent" not in text} <= set(found.sets)


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (
            "train_causal_mdlm",
            ["--hiden_dim", "8"],
            "there is no flag --hiden_dim. Did you mean --hidden_dim",
        ),
        ("train_causal_mdlm", ["--trian.lr", "8"], "there is no flag --trian.lr"),
        ("train_stage1", ["--hidden_dim", "8"], "is a flag of train_causal_mdlm, not"),
        ("train_stage1", ["--epochs"], "--epochs has no value"),
        ("train_stage1", ["epochs"], "'epochs' is no option"),
        ("train_stage1", ["--epochs", "many"], "--epochs is 'many'; it must be a num"),
        ("train_stage1", ["--latent_dim", "6.5"], "must be a whole number, at least 1"),
        ("train_stage1", ["--encoder_type", "factor_vae"], "it must be beta_vae"),
        ("train_stage1", ["--precision", "8"], "--precision is '8'; it must be 32"),
        ("train_stage1", ["--use_wandb=yes"], "--use_wandb takes no value"),
        ("train_stage1", ["--gpus", "2"], "--gpus needs --batch_size too"),
        ("train_stage2", [], "train_stage2 needs --encoder_path RUN"),
        ("train_stage2", ["--encoder_path", "x/y.pt"], "'x/y.pt' is no run"),
        ("train_causal_mdlm", ["--freeze_causal_vae"], "needs --causal_vae_path RUN"),
    ],
)
def test_what_is_wrong_is_named(
    program: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        translate(program, arguments)


def test_paths_into_a_run_name_the_run_and_a_checkpoint(run: Path) -> None:
    assert run_of(run) == (run, "best")
    assert run_of(run / "best_model.pt") == (run, "best")
    assert run_of(run / "checkpoints" / "last.ckpt") == (run, "last")
    assert run_of(run / "checkpoints" / "step-00000500") == (run, 500)
    with pytest.raises(UsageError, match="is in none"):
        run_of(run.parent / "another")


def call(program: str, *arguments: str) -> Result:
    app = typer.Typer()
    free = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(context_settings=free)(training(program))
    return CliRunner().invoke(app, arguments)


def test_dump_is_a_command_of_mdlm_train() -> None:
    found = call("train_causal_mdlm", *SCRATCH, "--dump", "--seed", "3")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("mdlm train --preset personality/medium ")
    for text in ("model.width=768", "train.batch_size=32", "--seed 3"):
        assert text in found.stdout


def test_without_data_the_persons_are_invented_and_this_is_said() -> None:
    found = call("train_causal_mdlm", "--dump-config")
    assert "name: persona-corpus" in found.stdout
    assert "length: 1024" in found.stdout
    assert "invented persons" in found.stderr
    given = call("train_causal_mdlm", "--data", "here.csv", "--dump-config")
    assert "name: persona-text" in given.stdout
    assert "path: here.csv" in given.stdout
    assert "bpe:16384" in given.stdout
    assert "invented" not in given.stderr


def test_tiny_is_tiny() -> None:
    found = call("train_causal_mdlm", "--tiny", "--use_cfg", "--dump-config")
    assert "width: 32" in found.stdout
    assert "encoder: beta-vae" in found.stdout
    assert "length: 32" in found.stdout


def test_more_processes_than_there_are_need_the_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    found = call("train_causal_mdlm", *FOUR)
    message = str(found.exception)
    assert isinstance(found.exception, UsageError)
    assert "accelerate launch --num_processes 4 -m mdlm_personality.train" in message


def test_it_is_light() -> None:
    program = (
        "import sys; from mdlm_personality.original_flags import translate;"
        "from mdlm_personality.train_causal_mdlm import training;"
        "import mdlm_personality.train_stage1, mdlm_personality.train_stage2;"
        "translate('train_stage1', ['--epochs', '3']);"
        "print(sorted({'torch', 'numpy', 'scipy', 'networkx'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
