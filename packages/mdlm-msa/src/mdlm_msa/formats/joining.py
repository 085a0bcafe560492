"""Alignments of one query as one; another row as the query; rows in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np

from mdlm_core.errors import DataError, UnknownNameError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import DOT, GAP, ID_OF_BYTE, decode


def letters_of(alignment: Alignment) -> tuple[bytes, ...]:
    """Return the rows as a3m writes them, with insertions if they were kept."""
    if alignment.letters is not None:
        return alignment.letters
    return tuple(decode(row).encode() for row in alignment.rows)


def join(parts: Sequence[Alignment], how: str = "blocks joined") -> Alignment:
    """Return alignments of one query as one, with all of their rows, in order.

    Each begins with the query, which is taken once. So further copies of it are left
    out, and counted: rows with its letters that come first in their alignment, or have
    its name (the first word of the header).

    Raises:
        DataError: if the queries differ.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for number, part in enumerate(parts[1:], start=2):
        if part.query != first.query:
            raise DataError(
                f"'{first.name}' consists of {len(parts)} alignments, and the query of "
                f"number {number} ('{part.headers[0]}', {part.length} columns) is not "
                f"that of the first ('{first.headers[0]}', {first.length} columns); "
                "read them one by one (read_alignments), or convert to a folder"
            )
    notes: Counter[str] = Counter()
    for part in parts:
        notes.update(part.notes)
    notes[how] = len(parts)
    fresh = [first, *(_without_query(part, first) for part in parts[1:])]
    again = sum(part.depth for part in parts) - sum(part.depth for part in fresh)
    if again:
        notes["further copies of the query left out"] = again
    parts = fresh
    kept = any(part.letters is not None for part in parts)
    return Alignment(
        rows=np.concatenate([part.rows for part in parts]),
        headers=tuple(header for part in parts for header in part.headers),
        letters=tuple(row for part in parts for row in letters_of(part))
        if kept
        else None,
        name=first.name,
        comments=tuple(line for part in parts for line in part.comments),
        notes=dict(notes),
    )


def _without_query(part: Alignment, first: Alignment) -> Alignment:
    """Return an alignment without the rows that are the query of the first."""
    query, name = letters_of(first)[0], first.headers[0].split(None, 1)[:1]
    equal = np.flatnonzero((part.rows == first.rows[0]).all(1))
    letters = part.letters
    again = [
        row
        for row in equal.tolist()
        if (row == 0 or part.headers[row].split(None, 1)[:1] == name)
        and (letters is None or letters[row] == query)
    ]
    return part.select(np.delete(np.arange(part.depth), again))


def find_row(headers: Sequence[str], query: str, place: str) -> int:
    """Return the index of the row `query`: a header, its first word, or a number.

    Raises:
        UnknownNameError: if there is none; with near misses.
    """
    words = [header.split(None, 1)[0] if header.strip() else "" for header in headers]
    for names in (headers, words):
        if query in names:
            return list(names).index(query)
    if query.isdigit() and 1 <= int(query) <= len(headers):
        return int(query) - 1
    near = get_close_matches(query, words, cutoff=0.6)
    raise UnknownNameError(
        f"{place} has no row '{query}'; "
        + (
            f"did you mean {' or '.join(near)}?"
            if near
            else f"name one of its {len(headers)} rows, or give its number from 1"
        )
    )


def anchor(alignment: Alignment, index: int) -> Alignment:
    """Return the alignment with row `index` as its query.

    That row comes first. Columns where it has a gap are no columns any more: residues
    of other rows there become insertions.
    """
    columns = (alignment.rows[index] != GAP) & (alignment.rows[index] != DOT)
    order = [index, *(i for i in range(alignment.depth) if i != index)]
    moved = alignment.select(order)
    if columns.all():
        return moved
    if not columns.any():
        raise DataError(
            f"row {index + 1} of '{alignment.name}' ('{alignment.headers[index]}') has "
            "no residue in any column, so it cannot be the query"
        )
    letters = moved.letters
    if letters is not None:
        letters = tuple(_narrow(row, columns) for row in letters)
    notes = dict(moved.notes)
    notes["columns without a residue of the query, now insertions"] = int(
        (~columns).sum()
    )
    return replace(moved, rows=moved.rows[:, columns], letters=letters, notes=notes)


def _narrow(row: bytes, columns: np.ndarray) -> bytes:
    """Return an a3m row with other columns as insertions, without their gaps."""
    data = np.frombuffer(row, np.uint8).copy()
    match = (data < ord("a")) | (data > ord("z"))
    outside = match & ~columns[np.cumsum(match) - 1]
    gap = ID_OF_BYTE[data] == GAP
    data[outside & ~gap] |= 0x20
    kept: bytes = data[~(outside & gap)].tobytes()
    return kept


def widen(alignment: Alignment, query: bytes) -> Alignment:
    """Return the alignment with a column for every insertion of the query.

    Args:
        alignment: its first row is the query.
        query: the query as a3m writes it, insertions in lower case, without `.`.
    """
    data = np.frombuffer(query, np.uint8)
    added = (data >= ord("a")) & (data <= ord("z"))
    if not added.any():
        return alignment
    rows = np.full((alignment.depth, len(data)), GAP, np.uint8)
    rows[:, ~added] = alignment.rows
    rows[0] = ID_OF_BYTE[np.frombuffer(query.upper().translate(_AS_X), np.uint8)]
    letters = alignment.letters
    if letters is not None:
        before = np.diff(np.flatnonzero(np.r_[True, ~added, True])) - 1
        letters = (query.upper(), *(_spread(row, before) for row in letters[1:]))
    return replace(alignment, rows=rows, letters=letters)


_AS_X = bytes.maketrans(b"J*", b"XX")


def _spread(row: bytes, before: np.ndarray) -> bytes:
    """Return an a3m row with `before[i]` gaps before column i, and after the last."""
    parts, column = [b"-" * int(before[0])], 0
    for byte in row:
        parts.append(bytes([byte]))
        if not ord("a") <= byte <= ord("z"):
            column += 1
            parts.append(b"-" * int(before[column]))
    return b"".join(parts)
