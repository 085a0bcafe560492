"""a3m and a2m: columns in upper case or `-`, insertions in lower case.

In a3m insertions take no place in other rows; in a2m the others have `.` there. Both
are read by deleting lower case and `.`, after which every row has the query's columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mdlm_core.errors import DataError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import GAP, Ids

from .builder import Builder
from .joining import anchor, find_row, widen
from .letters import (
    BLANKS,
    LOWER,
    MARK,
    NUCLEOTIDES,
    READ_AS_X,
    TABLE,
    complain,
    is_protein,
    like_nucleotides,
    quoted,
    where,
)
from .opening import family_name, opened
from .options import Reading
from .records import Piece, pieces

_DELETED = LOWER + BLANKS + b"."
_ANNOTATIONS = (b"ss_pred", b"ss_conf", b"ss_dssp", b"sa_pred", b"sa_dssp")
"""First words of rows that hh-suite adds, which are no proteins."""
_WORDS = [[word] for word in _ANNOTATIONS]

_COUNTED = (
    *((bytes([byte]), f"letters {chr(byte)} read as X") for byte in READ_AS_X),
    (b".", "'.' dropped"),
    (b"\n", "line breaks inside sequences"),
)


def read_blocks(path: Path, reading: Reading) -> Iterator[Alignment]:
    """Yield the alignments of an a3m or a2m file; NUL bytes stand between them.

    Raises:
        DataError: if it is empty, or a row breaks the rules; with file, row, header.
        UnknownNameError: if there is no row of the name that the query shall have.
    """
    rows: _Rows | None = None
    earlier: list[str] = []
    with opened(path) as stream:
        for piece in pieces(stream):
            if piece.before:
                raise _no_header(path, piece.before)
            if rows is None or piece.block != rows.block:
                if rows is not None and rows.started:
                    yield rows.finish()
                    earlier = []
                elif rows is not None:
                    earlier = rows.comments
                rows = _Rows(str(path), family_name(path), reading, piece.block)
                rows.comments = earlier
            rows.add(piece)
    if rows is None or not rows.started:
        raise DataError(
            f"'{path}' holds no sequence; an a3m file begins with '>' and the name of "
            "the query, and its sequence in the next line"
        )
    yield rows.finish()


def parse_rows(
    bodies: Sequence[bytes],
    headers: Sequence[bytes],
    *,
    name: str,
    place: str,
    reading: Reading | None = None,
) -> Alignment:
    """Return rows in memory, written as in a3m, as an alignment.

    Args:
        bodies: the rows, the query first.
        headers: as many.
        name: of the family.
        place: the file and line they are from, for errors.
        reading: how they are read.

    Raises:
        DataError: if there is no row, or one breaks the rules.
    """
    if not bodies:
        raise DataError(f"{quoted(place)} holds no sequence")
    rows = _Rows(place, name, reading or Reading())
    rows.add(Piece(0, list(headers), list(bodies), [], b""))
    return rows.finish()


class _Rows:
    """One alignment while it is read."""

    def __init__(self, place: str, name: str, reading: Reading, block: int = 0) -> None:
        self.block = block
        self.comments: list[str] = []
        self.started = False
        self._place = place
        self._name = name
        self._reading = reading
        self._counts: Counter[str] = Counter()
        self._query = b""
        self._rows = Builder(1)
        self._row = 0
        self._inserted = False

    def add(self, piece: Piece) -> None:
        """Add the records of a piece."""
        self.comments.extend(line.decode(errors="replace") for line in piece.comments)
        headers, bodies = piece.headers, piece.bodies
        if any(header.startswith(_ANNOTATIONS) for header in headers):
            kept = [i for i, h in enumerate(headers) if not _annotates(h)]
            self._counts["rows of secondary structure left out"] += len(headers) - len(
                kept
            )
            headers, bodies = [headers[i] for i in kept], [bodies[i] for i in kept]
        if not headers:
            return
        joined = b">".join(bodies) + b">"
        if not self.started:
            self._start(headers[0], bodies[0])
        length = self._rows.length
        ids = np.frombuffer(joined.translate(TABLE, _DELETED), np.uint8)
        if not _whole(ids, len(bodies), length):
            bodies = self._mend(headers, bodies)
            joined = b">".join(bodies) + b">"
            ids = np.frombuffer(joined.translate(TABLE, _DELETED), np.uint8)
        self._count(joined)
        letters = None
        if self._reading.keep_letters:
            letters = joined.translate(None, BLANKS + b".").split(b">")[:-1]
            self._inserted |= sum(map(len, letters)) > len(bodies) * length
        keep = None
        if self._reading.query is not None:
            keep = named(headers, self._reading.query, self._row)
        self._rows.add(ids.reshape(-1, length + 1)[:, :-1], headers, letters, keep)
        self._row += len(bodies)

    def _start(self, header: bytes, body: bytes) -> None:
        """Take the number of columns from the query, which is the first row."""
        text = body.translate(None, _DELETED)
        text = text.removesuffix(b"*")
        if not text:
            if body.translate(None, BLANKS + b"."):
                raise DataError(
                    f"{where(self._place, 1, header)}, the query, has letters in "
                    "lower case only, which are insertions; write them in upper case"
                )
            raise complain(self._place, 1, header, body, 0)
        if text.translate(TABLE).count(bytes([GAP])) == len(text):
            raise DataError(
                f"{where(self._place, 1, header)}, the query, has gaps only; the first "
                "row must be a protein"
            )
        if self._reading.query is None and not is_protein(body):
            bad = max(text.translate(TABLE)) >= MARK
            raise (
                complain(self._place, 1, header, body, len(text))
                if bad
                else DataError(
                    f"{where(self._place, 1, header)}, the query, has no residue that "
                    "is known, only X and gaps; the first row must be a protein"
                )
            )
        self._counts[NUCLEOTIDES] += like_nucleotides(body)
        self._query = body.translate(None, BLANKS + b".").removesuffix(b"*")
        lower = len(self._query) - len(text)
        how = self._reading.query_insertions
        if lower and how == "error":
            raise DataError(
                f"{where(self._place, 1, header)}, the query, has {lower} letters in "
                "lower case, which are insertions and in no column; write them in "
                "upper case, or choose to drop or keep them (query_insertions)"
            )
        self._rows = Builder(len(text), self._reading.max_rows, self._reading.seed)
        place = "in columns of their own" if how == "keep" else "in no column"
        self._counts[f"letters of the query in lower case, {place}"] += lower
        self._counts["gaps in the query"] += text.count(b"-")
        self.started = True

    def _mend(self, headers: Sequence[bytes], bodies: Sequence[bytes]) -> list[bytes]:
        """Remove stop signs that follow the last column; refuse what is wrong."""
        length, mended = self._rows.length, []
        for row, (header, body) in enumerate(
            zip(headers, bodies, strict=True), start=self._row + 1
        ):
            columns = body.translate(None, _DELETED)
            stop = len(columns) == length + 1 and columns.endswith(b"*")
            if stop:
                columns = columns[:-1]
                self._counts["stop signs after the last column removed"] += 1
            if len(columns) != length or max(columns.translate(TABLE)) >= MARK:
                raise complain(self._place, row, header, body, length)
            before, _, after = body.rpartition(b"*")
            mended.append(before + after if stop else body)
        return mended

    def _count(self, joined: bytes) -> None:
        for letter, note in _COUNTED:
            if letter in joined:  # much faster than to count what is not there
                self._counts[note] += joined.count(letter)

    def finish(self) -> Alignment:
        """Return the alignment."""
        rows, headers, letters = self._rows.finish()
        if len(rows) < self._rows.seen:
            self._counts["rows left out, at random"] = self._rows.seen - len(rows)
        text = b"\n".join(headers)
        try:
            names = text.decode()
        except UnicodeDecodeError:
            names = text.decode("latin-1")
            self._counts["headers that are not UTF-8, read as Latin-1"] = 1
        if b"\r" in text:
            names = names.replace("\r\n", "\n").removesuffix("\r")
        found = Alignment(
            rows=rows,
            headers=tuple(names.split("\n")),
            letters=tuple(letters) if letters is not None and self._inserted else None,
            name=self._name,
            comments=tuple(self.comments),
            notes={note: count for note, count in self._counts.items() if count},
        )
        if self._reading.query is not None:
            row = find_row(found.headers, self._reading.query, quoted(self._place))
            found = anchor(found, row) if row else found
        elif self._reading.query_insertions == "keep":
            found = widen(found, self._query)
        return found


def _annotates(header: bytes) -> bool:
    """Return whether the first word of a header is just that of an annotation."""
    return header.split(None, 1)[:1] in _WORDS


def named(headers: Sequence[bytes], name: str, first: int = 0) -> int | None:
    """Return the index of the row `name`: its header, or the first word of it.

    Args:
        headers: of rows `first` and those after it.
        name: may be a number too, from 1.
        first: how many rows come before.
    """
    wanted = name.encode()
    for i, header in enumerate(headers):
        if header.startswith(wanted):
            text = header.strip()
            if text == wanted or text.split(None, 1)[0] == wanted:
                return i
    if name.isdigit() and first < int(name) <= first + len(headers):
        return int(name) - 1 - first
    return None


def _whole(ids: Ids, rows: int, length: int) -> bool:
    """Return whether every row has `length` letters, each with an id."""
    if len(ids) != rows * (length + 1):
        return False
    table = ids.reshape(rows, length + 1)
    return bool(table[:, :-1].max() < MARK and table[:, -1].min() == MARK)


def _no_header(path: Path, text: bytes) -> DataError:
    start = text[:40].decode(errors="replace")
    return DataError(
        f"'{path}' begins with {start!r}; an a3m or FASTA file begins with '>' and a "
        "name (lines that begin with '#' may come before it)"
    )
