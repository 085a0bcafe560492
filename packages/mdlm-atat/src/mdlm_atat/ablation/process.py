"""Start a run in a process of its own, and read how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdlm_core.config import to_yaml

from .plan import Job
from .rows import FAILED


class Process:
    """One job in a process of its own."""

    def __init__(
        self, job: Job, place: Path, facts: Mapping[str, Any], threads: int | None
    ) -> None:
        """Start it.

        Args:
            job: the run.
            place: the folder for what it reads, writes and says.
            facts: what else the worker has to know; see `worker.main`.
            threads: of torch, on a CPU; None means as many as in this process.
        """
        self.job = job
        place.mkdir(parents=True, exist_ok=True)
        config = place / f"{job.folder}.yaml"
        config.write_text(to_yaml(job.config), encoding="utf-8")
        self._log = place / f"{job.folder}.log"
        self._result = place / f"{job.folder}.result.json"
        self._result.unlink(missing_ok=True)
        task = place / f"{job.folder}.json"
        files = {"config": str(config), "result": str(self._result)}
        text = json.dumps({**facts, **files}, default=str)
        task.write_text(text, encoding="utf-8")
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mdlm_atat.ablation.worker", str(task)],
                stdin=subprocess.PIPE,  # closed when this process is gone
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process to pass on
            )

    @property
    def ended(self) -> bool:
        """Whether it has ended, however it did."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.terminate()

    def result(self) -> dict[str, Any]:
        """Return what the process wrote, or that it wrote nothing."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._result.is_file():
            found: dict[str, Any] = json.loads(self._result.read_text("utf-8"))
            self._result.unlink()
            return found
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        error = (
            f"its process ended with code {self._process.returncode}: {last.strip()} "
            f"(see '{self._log}')"
        )
        return {"status": FAILED, "error": error}


def threads_each(at_once: int) -> int | None:
    """Return the threads for each of several runs at once; None for one alone."""
    if at_once == 1:
        return None
    return max(1, _cores() // at_once)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
