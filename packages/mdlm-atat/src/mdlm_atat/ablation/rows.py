"""The rows of an ablation: one JSON object a line, appended and never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdlm_core.cache import write_atomic
from mdlm_core.errors import DataError, UsageError

Row = dict[str, Any]
DONE, FAILED = "done", "failed"
STOPPED = "stopped"
"""By a signal: no row, as the run can go on."""


@dataclass(frozen=True, slots=True)
class AblationFolder:
    """The places inside the folder of an ablation."""

    path: Path

    @property
    def rows(self) -> Path:
        """One line for every run that ended, of these settings and of earlier ones."""
        return self.path / "rows.jsonl"

    @property
    def plan(self) -> Path:
        """What the report is about: the variants, seeds and hashes asked for last."""
        return self.path / "plan.json"

    @property
    def runs(self) -> Path:
        """The run folders."""
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        """What each run in a process of its own has said."""
        return self.path / "logs"

    @property
    def plots(self) -> Path:
        """The figures of the report."""
        return self.path / "plots"

    def read(self) -> list[Row]:
        """Return all rows; a last line that was not finished is left out.

        Raises:
            DataError: if a line before the last is no JSON.
        """
        if not self.rows.is_file():
            return []
        lines = self.rows.read_text(encoding="utf-8").split("\n")
        found: list[Row] = []
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                if number == len(lines):
                    break
                raise DataError(
                    f"line {number} of '{self.rows}' is no JSON; remove that line, "
                    f"and its run is scored again"
                ) from None
        return found

    def append(self, row: Row) -> None:
        """Append a row; it is on the disk when this returns."""
        text = json.dumps(row, allow_nan=False)
        whole = not self.rows.is_file() or self.rows.read_bytes().endswith(b"\n")
        if not whole:  # a row that was not finished when the machine went down
            kept = self.rows.read_bytes().rpartition(b"\n")
            self.rows.write_bytes(kept[0] + kept[1])
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write the plan, or nothing at all."""
        write_atomic(self.plan, json.dumps(plan, indent=1).encode())

    def read_plan(self) -> dict[str, Any]:
        """Return the plan.

        Raises:
            UsageError: if there is no ablation here.
        """
        if not self.plan.is_file():
            raise UsageError(
                f"there is no ablation in '{self.path}'; start one with mdlm atat "
                f"ablate --phase PHASE --out {self.path}"
            )
        plan: dict[str, Any] = json.loads(self.plan.read_text(encoding="utf-8"))
        return plan


def latest(rows: list[Row]) -> dict[tuple[str, str], Row]:
    """Return the row that counts for each (hash, scoring): the last one that is done.

    A failure counts only where no attempt was successful.
    """
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row["hash"], row["scoring_hash"])
        if row["status"] == DONE or found.get(key, row)["status"] == FAILED:
            found[key] = row
    return found
