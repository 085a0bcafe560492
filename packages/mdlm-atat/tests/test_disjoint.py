"""Training on held-out text is refused before it starts."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from mdlm_atat.cli import app
from mdlm_atat.datasets import get_dataset_manager
from mdlm_atat.datasets.disjoint import check_disjoint
from mdlm_atat.datasets.prepare import prepare_phase
from mdlm_core import DataError

from .tiny_phase import PHASE, registry


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "cache"))


def phase(folder, repeat, **changes):
    manager = get_dataset_manager(config_file=registry(folder, repeat=repeat))
    return prepare_phase(replace(manager.get_phase_config(PHASE), **changes))


def test_text_that_stands_apart_is_let_pass_in_silence(tmp_path):
    told = []
    assert check_disjoint(phase(tmp_path, 0), tell=told.append) == ""
    assert not told


def test_repeated_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"50\.00% of 110 runs.*val_dataset"):
        check_disjoint(phase(tmp_path, 5), tell=print)


def test_a_fallback_is_let_pass_and_told(tmp_path):
    told = []
    chosen = replace(phase(tmp_path, 5), replaced="stands in for another")
    assert check_disjoint(chosen, tell=told.append).startswith("50.00%")
    assert "too low" in told[0]


@pytest.mark.parametrize(
    "command",
    [
        ["ablate", "--phase", PHASE, "--tiny", "--out", "runs"],
        ["train", f"phase={PHASE}", "variant=uniform", "--tiny", "--out", "run"],
    ],
    ids=lambda command: command[0],
)
def test_commands_refuse_it_before_training(tmp_path, monkeypatch, command):
    monkeypatch.setenv("MDLM_DATASETS", str(registry(tmp_path, repeat=5)))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, DataError)
    assert "stand in the training text" in str(result.exception)
    assert not (tmp_path / "runs" / "runs").exists()
    assert not (tmp_path / "run").exists()
