"""The record beside a file of rows that a model wrote: where it is, and what it says.

Light: imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_core.errors import DataError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import encode

FORMAT = 2
"""Of records: since 2 the letters of all rows that were shown are in every record."""


def sidecar(path: Path) -> Path:
    """Return where the record of a file is."""
    return path.with_name(f"{path.name}.json")


def recorded_prompt(path: Path) -> Alignment | None:
    """Return what a model was shown to write a file: the query, and rows below it.

    For rows that were filled, what they were before is among them.

    Args:
        path: the file, beside which its record may be.

    Returns:
        None if there is no record.

    Raises:
        DataError: if what is there is no such record, or one of another version that
            does not say it.
    """
    place = sidecar(path)
    if not place.is_file():
        return None
    found: Any = None
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        rows = found["prompt"]
        ids = np.stack([encode(row["letters"]) for row in rows])
        headers = tuple(str(row["header"]) for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{_trouble(place, found, error)}; give --prompt") from error
    return Alignment(rows=ids, headers=headers, name=place.name)


def _trouble(place: Path, found: Any, error: Exception) -> str:
    """Return why a record does not say which rows were shown."""
    if not isinstance(found, dict) or not {"model", "shown"} <= set(found):
        return f"'{place}' is no record of rows that a model wrote ({error})"
    number = found.get("format")
    if isinstance(number, int) and number > FORMAT:
        return (
            f"'{place}' is a record of format {number}, by a newer version of "
            f"mdlm-msa; this one reads up to {FORMAT}"
        )
    if "prompt" not in found:
        return (
            f"'{place}' is an older record (format {number}) without the letters of "
            f"the rows that the model was shown"
        )
    return f"'{place}' is a damaged record: its rows cannot be read ({error})"
