"""Rows that are all as long as each other: aligned FASTA, and what has its shape.

Columns are those where the query has a letter; letters of other rows elsewhere are
insertions. Case says nothing here: HMMER writes insertions in lower case, others mask
regions of low complexity with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import Ids

from .builder import Builder
from .joining import find_row
from .letters import (
    BLANKS,
    MARK,
    NUCLEOTIDES,
    TABLE,
    bad_byte,
    is_protein,
    like_nucleotides,
    where,
)
from .opening import family_name, opened
from .options import Reading
from .records import pieces

_GAPS = np.isin(np.arange(256), list(b"-.~"))
_LOWER = np.isin(np.arange(256), list(range(ord("a"), ord("z") + 1)))


def _ids() -> Ids:
    table = np.frombuffer(TABLE, np.uint8).copy()
    table[_LOWER] = table[ord("A") : ord("Z") + 1]
    table[_GAPS] = TABLE[ord("-")]
    table[ord(">")] = 255
    return table


IDS = _ids()
"""The id of every byte where case says nothing and `.` and `~` are gaps."""


def fold(raw: Ids, columns: NDArray[np.bool_], letters: bool) -> list[bytes] | None:
    """Return rows ``(n, W)`` of bytes as a3m writes them, over ``(W,)`` `columns`."""
    if not letters:
        return None
    text = np.empty((len(raw), raw.shape[1] + 1), np.uint8)
    gap = _GAPS[raw]
    upper = np.where(_LOWER[raw], raw & 0xDF, raw)
    lower = np.where((upper >= ord("A")) & (upper <= ord("Z")), upper | 0x20, ord("x"))
    outside = np.where(gap, 0, lower)
    text[:, :-1] = np.where(columns, np.where(gap, ord("-"), upper), outside)
    text[:, -1] = ord("\n")
    return text.tobytes().translate(None, b"\0").splitlines()


class AlignedRows:
    """Collects rows of equal length, the query first."""

    def __init__(
        self,
        place: str,
        query: bytes,
        header: bytes,
        reading: Reading,
        columns: NDArray[np.bool_] | None = None,
    ) -> None:
        """Begin with the query.

        Args:
            place: the file, for errors.
            query: the row that is the query, gaps included.
            header: what stands after its `>`.
            reading: how the file is read.
            columns: ``(W,)``; those where the query has a letter if not given.
        """
        raw = np.frombuffer(query, np.uint8)
        self.place = place
        self.width = len(raw)
        self.columns = ~_GAPS[raw] if columns is None else columns
        if not self.columns.any():
            raise DataError(
                f"{where(place, 1, header)}, the query, has no residue in any column"
            )
        if not is_protein(query) and bad_byte(query, b"~") is None:
            raise DataError(
                f"{where(place, 1, header)}, the query, has no residue that is known, "
                "only X and gaps; it must be a protein"
            )
        self._reading = reading
        self._rows = Builder(int(self.columns.sum()), reading.max_rows, reading.seed)
        self._counts: Counter[str] = Counter()
        self._counts[NUCLEOTIDES] += like_nucleotides(query)
        self._inserted = False
        outside = int((~self.columns).sum())
        self._counts["columns without a residue of the query, now insertions"] = (
            outside if columns is None else 0
        )
        self._counts["columns outside of the reference, now insertions"] = (
            0 if columns is None else outside
        )
        self.add([header], [query], [1])

    def add(
        self, headers: Sequence[bytes], bodies: Sequence[bytes], numbers: Sequence[int]
    ) -> None:
        """Add rows without blanks; `numbers` count from 1."""
        joined = b"".join(bodies)
        raw = np.frombuffer(joined, np.uint8)
        equal = all(len(body) == self.width for body in bodies)
        if not equal or IDS[raw].max() >= MARK:
            self._refuse(headers, bodies, numbers)
        raw = raw.reshape(-1, self.width)
        self._counts["letters J read as X"] += joined.upper().count(b"J")
        self._counts["letters * read as X"] += joined.count(b"*")
        self._counts["lower-case letters in columns of the query"] += int(
            _LOWER[raw[:, self.columns]].sum()
        )
        self._inserted |= bool((~_GAPS[raw[:, ~self.columns]]).any())
        kept = fold(raw, self.columns, self._reading.keep_letters)
        self._rows.add(IDS[raw[:, self.columns]], headers, kept)

    def _refuse(
        self, headers: Sequence[bytes], bodies: Sequence[bytes], numbers: Sequence[int]
    ) -> None:
        for row, header, body in zip(numbers, headers, bodies, strict=True):
            place = where(self.place, row, header)
            if not body:
                raise DataError(f"{place} has no sequence; every header needs one")
            bad = bad_byte(body, b"~")
            if bad is not None:
                column, byte = bad
                what = "a NUL byte" if byte == 0 else f"{chr(byte)!r} (byte {byte})"
                raise DataError(
                    f"{place} has {what} at letter {column}; a row is made of the 20 "
                    "residues, X, B, U, Z, O, J, '*', '-', '.' and '~'"
                )
            if len(body) != self.width:
                raise DataError(
                    f"{place} has {len(body)} letters and gaps, where the query has "
                    f"{self.width}; rows of an aligned file are equally long. If they "
                    "are not aligned yet, align them to the query first"
                )

    def finish(self, name: str, comments: Sequence[str] = ()) -> Alignment:
        """Return the alignment."""
        rows, headers, letters = self._rows.finish()
        if len(rows) < self._rows.seen:
            self._counts["rows left out, at random"] = self._rows.seen - len(rows)
        return Alignment(
            rows=rows,
            headers=tuple(h.decode(errors="replace").strip("\r") for h in headers),
            letters=tuple(letters) if letters is not None and self._inserted else None,
            name=name,
            comments=tuple(comments),
            notes={note: count for note, count in self._counts.items() if count},
        )


def read_fasta(path: Path, reading: Reading) -> Alignment:
    """Return the aligned FASTA file `path`; one sequence alone is a query.

    Raises:
        DataError: if it is empty, or a row breaks the rules; with file, row, header.
        UnknownNameError: if there is no row of the name that the query shall have.
    """
    rows: AlignedRows | None = None
    chosen = -1
    if reading.query is not None:
        chosen, header, body = _find(path, reading.query)
        rows = AlignedRows(str(path), body, header, reading)
    number, comments = 0, []
    with opened(path) as stream:
        for piece in pieces(stream):
            if piece.before:
                start = piece.before[:40].decode(errors="replace")
                raise DataError(
                    f"'{path}' begins with {start!r}; a FASTA file begins with '>' and "
                    "a name"
                )
            comments += [line.decode(errors="replace") for line in piece.comments]
            headers = piece.headers
            bodies = [body.translate(None, BLANKS) for body in piece.bodies]
            places = list(range(number, number + len(headers)))
            number += len(headers)
            if rows is None and headers:
                rows = AlignedRows(str(path), bodies[0], headers[0], reading)
                chosen = 0
            left = [i for i, place in enumerate(places) if place != chosen]
            if rows is not None and left:
                rows.add(
                    [headers[i] for i in left],
                    [bodies[i] for i in left],
                    [places[i] + 1 for i in left],
                )
    if rows is None:
        raise DataError(
            f"'{path}' holds no sequence; a FASTA file begins with '>' and a name"
        )
    return rows.finish(family_name(path), comments)


def _find(path: Path, query: str) -> tuple[int, bytes, bytes]:
    """Return (index, header, letters) of the row that shall be the query."""
    headers: list[str] = []
    with opened(path) as stream:
        for piece in pieces(stream):
            headers += [header.decode(errors="replace") for header in piece.headers]
    index = find_row([header.strip("\r") for header in headers], query, f"'{path}'")
    number = 0
    with opened(path) as stream:
        for piece in pieces(stream):
            if index < number + len(piece.headers):
                place = index - number
                body = piece.bodies[place].translate(None, BLANKS)
                return index, piece.headers[place], body
            number += len(piece.headers)
    raise DataError(f"'{path}' changed while it was read")
