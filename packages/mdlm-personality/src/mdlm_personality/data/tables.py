"""Rows of tables, read one after the other: comma separated values, JSON lines."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mdlm_core.data.files import read_lines
from mdlm_core.errors import DataError

Row = tuple[int, Mapping[str, object]]
"""The line in which a row begins, and its cells by column."""

_LONGEST = 2**31 - 1
_LOOK = 1000
_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}


def ending(path: Path) -> str:
    """Return what a file's name ends with, without .gz or .xz: ".csv" or ".jsonl"."""
    name = path.name.lower()
    for packed in (".gz", ".xz"):
        name = name.removesuffix(packed)
    return Path(name).suffix


def csv_table(path: Path, *, old: bool = False) -> tuple[list[str], Iterator[Row]]:
    """Return the columns of a file with commas, as RFC 4180 has it, and its rows.

    Args:
        path: the file; it may end in .gz or .xz.
        old: whether a file that is not UTF-8 is Windows-1252, as in older data sets;
            it is then read at once, otherwise line by line.

    Raises:
        DataError: if there is no header, a column stands twice, or, when the place is
            reached, a row is damaged.
    """
    lines = old_lines(path) if old else read_lines(path)
    rows = _csv_rows(path, lines)
    _, head = next(rows, (0, []))
    head = [name.strip() for name in head]
    twice = next((name for name in head if name and head.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"'{path}', line 1: the column '{twice}' stands twice")
    if not any(head):
        raise DataError(f"'{path}' has no first line with the names of its columns")
    return head, _named(path, head, rows)


def _named(
    path: Path, head: list[str], rows: Iterable[tuple[int, list[str]]]
) -> Iterator[Row]:
    for line, cells in rows:
        if len(cells) != len(head):
            raise DataError(
                f"'{path}', line {line}: there are {len(cells)} cells, and the first "
                f"line names {len(head)} columns; a text with a comma or a line end "
                "stands in double quotes"
            )
        yield line, dict(zip(head, cells, strict=True))


def _csv_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line in which each row begins, and its cells; blank lines have none."""
    rows, line = csv.reader(lines, strict=True), 1
    while True:
        limit = csv.field_size_limit(_LONGEST)
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(
                f"'{path}', line {line}: the row that begins here is no csv: {error}; "
                "a text with a comma, a quote or a line end stands in double quotes, "
                "and a quote inside is doubled"
            ) from None
        finally:
            csv.field_size_limit(limit)
        if row is None:
            return
        if row:
            yield line, row
        line = rows.line_num + 1


def old_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file that is UTF-8, or else Windows-1252.

    Raises:
        DataError: if it is neither, cannot be read or is empty.
    """
    try:
        with _OPEN.get(path.suffix, open)(path, "rb") as file:
            raw: bytes = file.read()
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(
            f"'{path}' is damaged, it cannot be unpacked: {error}"
        ) from error
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be read: {error.strerror or error}"
        ) from error
    if not raw.strip():
        raise DataError(f"'{path}' is empty; name another file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"'{path}', line {line}: the byte 0x{raw[error.start]:02x} is neither "
                "UTF-8 nor Windows-1252; convert the file, for example with: iconv -f "
                "latin1 -t utf-8"
            ) from None
    yield from text.splitlines(keepends=True) if "\n" not in text else _cut(text)


def _cut(text: str) -> Iterator[str]:
    """Yield lines that end in a line feed; other separators may stand in a text."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def jsonl_table(path: Path) -> tuple[list[str], Iterator[Row]]:
    """Return the keys of the objects in a file of JSON lines, and the objects.

    An object need not have all of them: a trait that is not known may be left out. The
    keys are those of the first `_LOOK` objects.

    Raises:
        DataError: if a line holds no object, the first one at once.
    """
    rows = _jsonl_rows(path)
    first = list(islice(rows, _LOOK))
    if not first:
        raise DataError(f"'{path}' holds no object; each line is one")

    def all_rows() -> Iterator[Row]:
        yield from first
        yield from rows

    return list(dict.fromkeys(key for _, row in first for key in row)), all_rows()


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"'{path}', line {number} is no JSON: {error}") from None
        if not isinstance(record, dict):
            raise DataError(
                f"'{path}', line {number} holds a {type(record).__name__}, not an "
                'object; each line is like {"text": "...", "openness": 0.7}'
            )
        yield number, record
