"""JSON lines: one alignment per line, ``{"id", "query", "sequences"}``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mdlm_core.errors import DataError
from mdlm_msa.alignment import Alignment

from .a3m import parse_rows
from .joining import letters_of
from .letters import quoted
from .opening import family_name, opened
from .options import Reading


def read_json_lines(path: Path, reading: Reading) -> Iterator[Alignment]:
    """Yield the alignments of a JSON lines file.

    `sequences` are the homologues; if the first of them is the query it is not taken
    twice, unless `headers` has a header for the query and one for each of them.

    Raises:
        DataError: if a line is no such object, or a row breaks the rules; with line.
    """
    count = 0
    with opened(path) as stream:
        for line, data in enumerate(stream, start=1):
            if not data.strip():
                continue
            count += 1
            yield _alignment(data, f"{path}, line {line}", line, path, reading)
    if not count:
        raise DataError(
            f"'{path}' is empty; each line is an object with query and sequences"
        )


def _alignment(
    data: bytes, place: str, line: int, path: Path, reading: Reading
) -> Alignment:
    try:
        entry: Any = json.loads(data)
    except ValueError as error:
        raise DataError(f"{quoted(place)} is no JSON: {error}") from None
    if not isinstance(entry, dict):
        raise DataError(f"{quoted(place)} is no object with query and sequences")
    if "sequences" not in entry and {"winner", "chosen"} & entry.keys():
        raise DataError(
            f"{quoted(place)} is a pair of preferences, not an alignment; it is "
            "data for mdlm msa align"
        )
    rows = entry.get("sequences", [])
    query = entry.get("query", rows[0] if isinstance(rows, list) and rows else None)
    if not isinstance(query, str) or not (
        isinstance(rows, list) and all(isinstance(row, str) for row in rows)
    ):
        raise DataError(
            f"{quoted(place)} needs query, a text, and sequences, a list of texts; it "
            f"has the keys {', '.join(map(str, entry)) or 'none'}"
        )
    name = str(entry.get("id") or f"{family_name(path)}_{line}")
    given = entry.get("headers")
    apart = isinstance(given, list) and len(given) == len(rows) + 1
    if rows and rows[0] == query and not apart:
        rows = rows[1:]
    headers = _headers(given, name, len(rows), place)
    return parse_rows(
        [query.encode(), *(row.encode() for row in rows)],
        [header.encode() for header in headers],
        name=name,
        place=place,
        reading=reading,
    )


def _headers(given: Any, name: str, rows: int, place: str) -> list[str]:
    if given is None:
        return [name, *(f"row{i}" for i in range(1, rows + 1))]
    if (
        isinstance(given, list)
        and all(isinstance(header, str) for header in given)
        and len(given) in (rows, rows + 1)
    ):
        found = [" ".join(header.split("\n")) for header in given]
        return found if len(found) == rows + 1 else [name, *found]
    raise DataError(f"{quoted(place)}: headers is not a list of {rows + 1} texts")


def json_line(alignment: Alignment) -> str:
    """Return the alignment as one line of JSON, with headers; insertions are kept."""
    letters = [row.decode() for row in letters_of(alignment)]
    return json.dumps(
        {
            "id": alignment.name,
            "query": letters[0],
            "sequences": letters[1:],
            "headers": list(alignment.headers),
            "depth": alignment.depth,
            "length": alignment.length,
        },
        ensure_ascii=False,
    )
