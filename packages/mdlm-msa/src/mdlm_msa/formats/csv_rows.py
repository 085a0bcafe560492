"""Boltz's table of rows: ``key,sequence``, the query first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from mdlm_core.errors import DataError
from mdlm_msa.alignment import Alignment

from .a3m import parse_rows
from .opening import family_name, opened
from .options import Reading


def read_csv(path: Path, reading: Reading) -> Iterator[Alignment]:
    """Yield the one alignment of a table with the columns key and sequence.

    A key, which pairs rows of different chains, becomes the header ``key=...``.

    Raises:
        DataError: if it has other columns, or a row breaks the rules.
    """
    with opened(path) as stream:
        table = csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline=""))
        names = [name.strip() for name in table.fieldnames or []]
        if "sequence" not in names:
            raise DataError(
                f"'{path}' has the columns {', '.join(names) or 'none'}; a table of "
                "rows has key and sequence"
            )
        headers, bodies = [], []
        for number, entry in enumerate(table, start=1):
            row = {str(key).strip(): value for key, value in entry.items()}
            key = (row.get("key") or "").strip()
            label = "query" if number == 1 else f"row{number - 1}"
            headers.append(f"{label} key={key}" if key else label)
            bodies.append((row["sequence"] or "").encode())
    parsed = [header.encode() for header in headers]
    name = family_name(path)
    yield parse_rows(bodies, parsed, name=name, place=str(path), reading=reading)
