"""MSAGPT's text: one alignment per line, ``id:QUERY<M>ROW<M>ROW``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mdlm_core.errors import DataError
from mdlm_msa.alignment import Alignment

from .a3m import parse_rows
from .opening import family_name, opened
from .options import Reading

DELIMITER = b"<M>"


def read_text(path: Path, reading: Reading) -> Iterator[Alignment]:
    """Yield the alignments of a file with one per line.

    ``id:`` may be missing: then the name is that of the file and the line. A ``<M>`` at
    the end, as in prompts, is passed over.

    Raises:
        DataError: if the file has no line, or a row breaks the rules; with file, line.
    """
    stem, count = family_name(path), 0
    with opened(path) as stream:
        for line, data in enumerate(stream, start=1):
            text = data.strip()
            if not text:
                continue
            count += 1
            first, *rows = text.split(DELIMITER)
            name, colon, query = first.rpartition(b":")
            if rows and not rows[-1].strip():
                rows.pop()
            label = name.decode(errors="replace").strip() if colon else ""
            headers = [(label or f"{stem}_{line}").encode()]
            headers += [f"row{i}".encode() for i in range(1, len(rows) + 1)]
            yield parse_rows(
                [query, *rows],
                headers,
                name=label or f"{stem}_{line}",
                place=f"{path}, line {line}",
                reading=reading,
            )
    if not count:
        raise DataError(f"'{path}' is empty; each line is QUERY<M>ROW<M>ROW")


def text_line(alignment: Alignment, *, label: bool = True) -> str:
    """Return the alignment as one line; insertions have no place there."""
    from mdlm_msa.alphabet import decode

    rows = "<M>".join(decode(row) for row in alignment.rows)
    name = alignment.name.replace(":", "_").replace("\n", " ")
    return f"{name}:{rows}" if label and name else rows
