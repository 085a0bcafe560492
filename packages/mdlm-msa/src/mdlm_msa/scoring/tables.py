"""Scores as CSV, and numbers that JSON can hold."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

LINES = 40
"""Rows of a table that are printed, at most."""


def csv_text(lines: Iterable[Sequence[Any]]) -> str:
    """Return lines as CSV; numbers have six digits, and nan and None are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in lines:
        writer.writerow([_cell(value) for value in line])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value


def finite(value: float | None) -> float | None:
    """Return a number, or None if it is none that JSON has."""
    return None if value is None or not math.isfinite(value) else float(value)
