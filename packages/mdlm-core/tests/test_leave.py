"""A program that forgets to leave the other processes does not abort at its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import torch.distributed as dist
from mdlm_core.train import processes

start = f"file://{sys.argv[1]}"
dist.init_process_group("gloo", init_method=start, rank=0, world_size=1)
processes.time.sleep = lambda seconds: print("waits", seconds)
"""


@pytest.mark.parametrize("leaves", [False, True])
def test_the_last_thread_is_waited_for_once(tmp_path: Path, leaves: bool) -> None:
    program = PROGRAM + leaves * "processes.leave()"
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["waits 0.3"]
