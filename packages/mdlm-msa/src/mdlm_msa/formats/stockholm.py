"""Stockholm files, read and written by pyhmmer."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError, MissingExtraError
from mdlm_msa.alignment import Alignment

from .aligned import AlignedRows
from .joining import find_row, letters_of
from .opening import family_name, opened
from .options import Reading

_NO_DESCRIPTION = "-"


def _easel() -> Any:
    try:
        from pyhmmer import easel
    except ImportError:
        raise MissingExtraError(
            "Stockholm files need pyhmmer; try: pip install 'mdlm-msa[stockholm]'"
        ) from None
    return easel


def read_stockholm(path: Path, reading: Reading) -> Iterator[Alignment]:
    """Yield the alignments of a Stockholm file, interleaved or not.

    The columns are those where the query has a residue, or with
    ``reading.columns="reference"`` those where the line ``#=GC RF`` has a letter.

    Raises:
        DataError: if it is empty or damaged.
        MissingExtraError: if pyhmmer is not installed.
        UnknownNameError: if there is no row of the name that the query shall have.
    """
    easel = _easel()
    number = 0
    with opened(path) as stream:
        for number, text in enumerate(_texts(stream), start=1):
            place = f"{path}, alignment {number}"
            try:
                with easel.MSAFile(
                    io.BytesIO(text), digital=False, format="stockholm"
                ) as file:
                    parsed = file.read()
            except (ValueError, EOFError) as error:
                raise DataError(f"'{place}' is no Stockholm: {error}") from error
            if parsed is None:
                raise DataError(f"'{place}' has no rows")
            order = _order(text)
            yield _alignment(parsed, order, place, path, reading)
    if not number:
        raise DataError(f"'{path}' holds no alignment; Stockholm begins '# STOCKHOLM'")


def _texts(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the text of each alignment; ``//`` ends one."""
    lines: list[bytes] = []
    for line in stream:
        lines.append(line)
        if line.strip() == b"//":
            yield b"".join(lines)
            lines = []
    if b"".join(lines).strip():
        yield b"".join(lines)


def _order(text: bytes) -> dict[str, int]:
    """Return the place of each name among the rows.

    Easel orders rows by where their names occur first, and in what jackhmmer writes the
    query has no line of description, so that it would come last.
    """
    names = (
        line.split(None, 1)[0].decode(errors="replace")
        for line in text.splitlines()
        if line.strip() and not line.startswith((b"#", b"//"))
    )
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _alignment(
    found: Any, order: dict[str, int], place: str, path: Path, reading: Reading
) -> Alignment:
    rows = sorted(
        zip(found.names, found.sequences, found.alignment, strict=True),
        key=lambda row: order.get(row[0], len(order)),
    )
    headers = [
        name
        if sequence.description in ("", _NO_DESCRIPTION, None)
        else f"{name} {sequence.description}"
        for name, sequence, _ in rows
    ]
    bodies = [row.encode() for _, _, row in rows]
    if not bodies or not bodies[0]:
        raise DataError(f"'{place}' has no rows")
    chosen = 0
    if reading.query is not None:
        chosen = find_row(headers, reading.query, f"'{place}'")
    columns = None
    if reading.columns == "reference":
        if not found.reference:
            raise DataError(
                f"'{place}' has no reference line (#=GC RF), which the columns were to "
                "be taken from; take those of the query"
            )
        columns = ~np.isin(
            np.frombuffer(found.reference.encode(), np.uint8), list(b".-_~ ")
        )
    table = AlignedRows(
        place, bodies[chosen], headers[chosen].encode(), reading, columns
    )
    left = [i for i in range(len(bodies)) if i != chosen]
    if left:
        table.add(
            [headers[i].encode() for i in left],
            [bodies[i] for i in left],
            [i + 1 for i in left],
        )
    return table.finish(found.name or family_name(path))


def stockholm_text(alignment: Alignment) -> bytes:
    """Return an alignment in Stockholm format; insertions get columns, marked in RF.

    Names there are the first word of a header and occur once; a repeated one gets
    ``_2``, ``_3``, and so on. The rest of a header is its description; if some rows
    have one, ``-`` stands for the others, since Easel orders rows by these lines.

    Raises:
        MissingExtraError: if pyhmmer is not installed.
    """
    easel = _easel()
    rows, reference = padded(letters_of(alignment), alignment.length)
    used: Counter[str] = Counter()
    words = [header.split(None, 1) or ["row"] for header in alignment.headers]
    described = any(len(word) > 1 for word in words)
    sequences = [
        easel.TextSequence(
            name=_once(word[0], used),
            description=" ".join(word[1].split())
            if len(word) > 1
            else _NO_DESCRIPTION
            if described
            else "",
            sequence=row.decode(),
        )
        for word, row in zip(words, rows, strict=True)
    ]
    msa = easel.TextMSA(name=alignment.name or "alignment", sequences=sequences)
    buffer = io.BytesIO()
    msa.write(buffer, "pfam")
    text = buffer.getvalue()
    if b"." in reference:
        width = max(len(s.name) for s in sequences)
        line = b"#=GC RF".ljust(max(width, 7)) + b" " + reference + b"\n//"
        before, _, after = text.rpartition(b"//")
        text = before + line + after
    return text


def _once(word: str, used: Counter[str]) -> str:
    used[word] += 1
    if used[word] == 1:
        return word
    name = f"{word}_{used[word]}"
    return _once(name, used)


def padded(letters: Sequence[bytes], columns: int) -> tuple[list[bytes], bytes]:
    """Return a3m rows padded to one length, with `.` where others have insertions.

    Also returns the reference line: ``x`` for a column, ``.`` for an insertion.
    """
    widths = np.zeros(columns + 1, np.int64)
    runs = [_runs(row, columns) for row in letters]
    for run in runs:
        np.maximum(widths, run, out=widths)
    starts = np.concatenate([[0], np.cumsum(widths + 1)])[: columns + 1]
    total = int(widths.sum()) + columns
    out = []
    for row, run in zip(letters, runs, strict=True):
        line = np.full(total, ord("."), np.uint8)
        data = np.frombuffer(row, np.uint8)
        match = (data < ord("a")) | (data > ord("z"))
        site: NDArray[np.int64] = np.cumsum(match) - match  # the column, or the next
        inside = np.arange(len(data)) - np.concatenate([[0], np.cumsum(run + 1)])[site]
        line[np.where(match, starts[site] + widths[site], starts[site] + inside)] = data
        out.append(line.tobytes())
    reference = np.full(total, ord("."), np.uint8)
    reference[starts[:columns] + widths[:columns]] = ord("x")
    return out, reference.tobytes()


def _runs(row: bytes, columns: int) -> Any:
    """Return ``(L + 1,)``: the insertions before each column, and after the last."""
    data = np.frombuffer(row, np.uint8)
    match = (data < ord("a")) | (data > ord("z"))
    return np.bincount(np.cumsum(match)[~match], minlength=columns + 1)
