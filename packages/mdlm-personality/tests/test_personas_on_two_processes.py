"""Two processes learn what one does, though a stage leaves weights without gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mdlm_core.train.checkpoint import MODEL, checkpoints, read_tensors

from .two_personas import RUNS, runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("personas")
    runs(folder / "one")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--main_process_port"]
    command += ["0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    program = Path(__file__).with_name("two_personas.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [*command, str(program), str(folder / "two")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_does(folder: Path, name: str) -> None:
    one, two = (
        read_tensors(checkpoints(folder / part / name / "checkpoints")[-1], MODEL)
        for part in ("one", "two")
    )
    assert one.keys() == two.keys()
    for key, expected in one.items():
        assert torch.allclose(two[key].double(), expected.double(), atol=5e-5), key
