"""`MDLMClassifier.fit` on two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdlm_classify import load_classifier


def test_two_processes_learn_one_classifier(tmp_path):
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--main_process_port"]
    command += ["0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    program = Path(__file__).with_name("two_fits.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [*command, str(program), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = (
        json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)
    )
    assert first["classes"] == second["classes"] == [0, 1, 2]
    for name in ("temporary", "kept"):
        for one, other in zip(first[name], second[name], strict=True):
            assert one == pytest.approx(other, abs=1e-6)
    assert load_classifier(tmp_path / "run").classes_.tolist() == [0, 1]
    left = [path.name for path in (tmp_path / "temporary").iterdir()]
    assert not [name for name in left if name.startswith("mdlm-classify-")]
