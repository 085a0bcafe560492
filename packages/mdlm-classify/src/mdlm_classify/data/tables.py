"""Tables of texts: comma separated values, and lines divided by tabs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdlm_core.data.files import read_text
from mdlm_core.errors import DataError

from .columns import Columns, Record

_LONGEST = 2**31 - 1


@contextmanager
def _long_fields() -> Iterator[None]:
    limit = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def read_csv(path: Path, columns: Columns) -> Iterator[Record]:
    """Yield the rows of a file with commas, as RFC 4180 has it.

    Raises:
        DataError: if a row is damaged, or a column is missing.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    return _table(path, columns, _csv_rows(path, rows))


def _csv_rows(path: Path, rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line in which each row begins, and its cells."""
    line = 1
    while True:
        try:
            with _long_fields():
                row = next(rows, None)
        except csv.Error as error:
            raise DataError(
                f"'{path}', line {line}: the row that begins here is no csv: {error}; "
                "a text with a comma, a quote or a line end stands in double quotes, "
                "and a quote inside is doubled"
            ) from None
        if row is None:
            return
        yield line, row
        line = rows.line_num + 1  # type: ignore[attr-defined]


def read_tsv(path: Path, columns: Columns) -> Iterator[Record]:
    """Yield the lines of a file with tabs; quotes may stand anywhere in a text.

    Raises:
        DataError: if a line has too few cells or too many, or a column is missing.
    """
    lines = read_text(path).split("\n")
    rows = (
        (number, [_unquoted(cell) for cell in line.removesuffix("\r").split("\t")])
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    return _table(path, columns, rows)


def _unquoted(cell: str) -> str:
    """Return a cell without the quotes around all of it, if they are csv's."""
    inside = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    if quoted and '"' not in inside.replace('""', ""):
        return inside.replace('""', '"')
    return cell


def _table(
    path: Path, columns: Columns, rows: Iterator[tuple[int, list[str]]]
) -> Iterator[Record]:
    rows = ((line, row) for line, row in rows if row)
    _, head = next(rows, (0, []))
    twice = next((name for name in head if head.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"'{path}', line 1: the column '{twice}' stands twice")
    parts, label = columns.found_in(head, f"'{path}', line 1,")
    places = [head.index(part) for part in parts]
    of_label = head.index(label) if label else None
    for line, row in rows:
        where = f"'{path}', line {line}"
        if len(row) != len(head):
            raise DataError(
                f"{where}: there are {len(row)} cells, and the first line names "
                f"{len(head)} columns; a text with a separator or a line end in it "
                "stands in double quotes, in a .csv"
            )
        text = "\n".join(row[place] for place in places)
        yield text, None if of_label is None else row[of_label], where
