"""`metrics.jsonl`: one JSON object a line, exact to the last bit of a float."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdlm_core.errors import TrainingError


class MetricsFile:
    """Append lines; every line is with the operating system before the next step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one object. A number that is not finite is written as null.

        Raises:
            TrainingError: if it cannot be written, for example on a full disk.
        """
        finite = {
            key: None
            if isinstance(value, float) and not math.isfinite(value)
            else value
            for key, value in line.items()
        }
        try:
            self._file.write(json.dumps(finite, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"'{self._path}' cannot be written: {error.strerror}. Make room and go "
                f"on with --resume"
            ) from error

    def close(self) -> None:
        """Close the file; what a full disk kept back has been told already."""
        try:
            self._file.close()
        except OSError:
            return


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file; an unfinished last line is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def truncate_metrics(path: Path, step: int) -> None:
    """Drop what was written after `step`, so that a resumed run repeats no line."""
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        "".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8"
    )
    os.replace(temporary, path)
