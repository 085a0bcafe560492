"""One run in a process of its own.

``python -m mdlm_atat.ablation.worker JOB.json`` reads a job, and writes how it ended to
the file that the job names. It stops, saving, when its standard input is closed: so no
run goes on when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from mdlm_atat.datasets import DatasetConfig
from mdlm_core.cache import write_atomic
from mdlm_core.catalog import load_catalog
from mdlm_core.config import read_run

from .measure import Extras, Stopped, attempt
from .rows import STOPPED
from .score import Scoring


def main(path: Path) -> None:
    """Do the job in the file `path`, and write the result where it says."""
    job = json.loads(path.read_text(encoding="utf-8"))
    threading.Thread(target=_stop_when_alone, daemon=True).start()
    catalog = load_catalog(*job["imports"])
    try:
        result = attempt(
            read_run(Path(job["config"]), catalog),
            Path(job["folder"]),
            Scoring(**job["scoring"]),
            extras=_extras(job["extras"]),
            held_out=_dataset(job["held_out"]),
            device=job["device"],
            catalog=catalog,
        )
    except (Stopped, KeyboardInterrupt):
        result = {"status": STOPPED, "error": None}
    text = json.dumps(result, allow_nan=False)
    write_atomic(Path(job["result"]), text.encode())


def _extras(values: dict[str, Any]) -> Extras:
    """Return what JSON has made plain."""
    lists = ("steps", "entropy_bounds")
    return Extras(**{**values, **{name: tuple(values[name]) for name in lists}})


def _dataset(values: dict[str, Any] | None) -> DatasetConfig | None:
    """Return the data set that `asdict` and JSON have made plain."""
    if values is None:
        return None
    folder = values["folder"]
    plain = {**values, "folder": None if folder is None else Path(folder)}
    return DatasetConfig(**{**plain, "splits": tuple(values["splits"])})


def _stop_when_alone() -> None:
    # Not through sys.stdin, whose lock Python wants when it ends.
    while os.read(0, 1):  # nothing comes; it returns when the other end is closed
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
