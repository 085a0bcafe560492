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
from mdlm_msa.alphabet import GAP, Ids, decode

from .builder import Builder
from .letters import BLANKS, LOWER, MARK, READ_AS_X, TABLE, complain, where
from .opening import family_name, opened
from .records import Piece, pieces

_DELETED = LOWER + BLANKS + b"."
_ANNOTATIONS = (b"ss_pred", b"ss_conf", b"ss_dssp", b"sa_pred", b"sa_dssp")
"""Names of rows that hh-suite adds, which are no proteins."""


def read_blocks(
    path: Path,
    *,
    query: str | None = None,
    keep_letters: bool = False,
    max_rows: int = 0,
    seed: int = 0,
) -> Iterator[Alignment]:
    """Yield the alignments of an a3m or a2m file; NUL bytes stand between them.

    Args:
        path: the file, compressed or not.
        query: the name of a row that `max_rows` never leaves out.
        keep_letters: whether insertions are kept, in `Alignment.letters`.
        max_rows: rows besides the query, at most: a random choice; 0 means all.
        seed: decides the choice.

    Raises:
        DataError: if it is empty, or a row breaks the rules; with file, row, header.
    """
    reader: _Block | None = None
    earlier: list[str] = []
    with opened(path) as stream:
        for piece in pieces(stream):
            if piece.before:
                raise _no_header(path, piece.before)
            if reader is None or piece.block != reader.block:
                if reader is not None and reader.started:
                    yield reader.finish()
                    earlier = []
                elif reader is not None:
                    earlier = reader.comments
                reader = _Block(path, piece.block, query, keep_letters, max_rows, seed)
                reader.comments = earlier
            reader.add(piece)
    if reader is None or not reader.started:
        raise DataError(
            f"'{path}' holds no sequence; an a3m file begins with '>' and the name of "
            "the query, and its sequence in the next line"
        )
    yield reader.finish()


class _Block:
    """One alignment while it is read."""

    def __init__(
        self,
        path: Path,
        block: int,
        query: str | None,
        keep_letters: bool,
        max_rows: int,
        seed: int,
    ) -> None:
        self.path = path
        self.block = block
        self.comments: list[str] = []
        self.started = False
        self._query = query
        self._keep_letters = keep_letters
        self._max_rows = max_rows
        self._seed = seed
        self._counts: Counter[str] = Counter()
        self._rows = Builder(1)
        self._row = 0
        self._inserted = False

    def add(self, piece: Piece) -> None:
        """Add the records of a piece."""
        self.comments.extend(line.decode(errors="replace") for line in piece.comments)
        headers, bodies = piece.headers, piece.bodies
        if any(header.startswith(_ANNOTATIONS) for header in headers):
            kept = [i for i, h in enumerate(headers) if not h.startswith(_ANNOTATIONS)]
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
        self._count(joined, len(bodies))
        letters = None
        if self._keep_letters:
            letters = joined.translate(None, BLANKS + b".").split(b">")[:-1]
            self._inserted |= sum(map(len, letters)) > len(bodies) * length
        keep = None
        if self._query is not None:
            keep = named(headers, self._query)
        self._rows.add(ids.reshape(-1, length + 1)[:, :-1], headers, letters, keep)
        self._row += len(bodies)

    def _start(self, header: bytes, body: bytes) -> None:
        """Take the number of columns from the query, which is the first row."""
        text = body.translate(None, _DELETED)
        text = text.removesuffix(b"*")
        if not text:
            if body.translate(None, BLANKS + b"."):
                raise DataError(
                    f"{where(self.path, 1, header)}, the query, has lower-case letters "
                    "only, which are insertions; write its residues in upper case"
                )
            raise complain(self.path, 1, header, body, 0)
        if text.translate(TABLE).count(bytes([GAP])) == len(text):
            raise DataError(
                f"{where(self.path, 1, header)}, the query, has gaps only; the first "
                "row must be a protein"
            )
        self._rows = Builder(len(text), self._max_rows, self._seed)
        lower = len(body) - len(body.translate(None, LOWER))
        self._counts["letters of the query in lower case, in no column"] += lower
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
                raise complain(self.path, row, header, body, length)
            before, _, after = body.rpartition(b"*")
            mended.append(before + after if stop else body)
        return mended

    def _count(self, joined: bytes, rows: int) -> None:
        counts = self._counts
        for byte in READ_AS_X:
            letter = chr(byte)
            counts[f"letters {letter} read as X"] += joined.count(letter.encode())
        counts["'.' dropped"] += joined.count(b".")
        inner = joined.count(b"\n") - joined.count(b"\n>")
        counts["line breaks inside sequences"] += inner

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
        return Alignment(
            rows=rows,
            headers=tuple(names.split("\n")),
            letters=tuple(letters) if letters is not None and self._inserted else None,
            name=family_name(self.path),
            comments=tuple(self.comments),
            notes={name: count for name, count in self._counts.items() if count},
        )


def _whole(ids: Ids, rows: int, length: int) -> bool:
    """Return whether every row has `length` letters, each with an id."""
    if len(ids) != rows * (length + 1):
        return False
    table = ids.reshape(rows, length + 1)
    return bool(table[:, :-1].max() < MARK and table[:, -1].min() == MARK)


def named(headers: Sequence[bytes], name: str) -> int | None:
    """Return the index of the row `name`: its header, or the first word of it."""
    wanted = name.encode()
    for i, header in enumerate(headers):
        if header.startswith(wanted) and wanted in (
            header.strip(),
            header.split(None, 1)[0],
        ):
            return i
    return None


def join(blocks: Sequence[Alignment]) -> Alignment:
    """Return blocks of one query as one alignment, in their order.

    Raises:
        DataError: if the queries differ.
    """
    first = blocks[0]
    if len(blocks) == 1:
        return first
    for number, block in enumerate(blocks[1:], start=2):
        if block.query != first.query:
            raise DataError(
                f"'{first.name}' holds {len(blocks)} alignments with NUL bytes between "
                f"them, and the query of number {number} ('{block.headers[0]}', "
                f"{block.length} columns) is not that of the first "
                f"('{first.headers[0]}', {first.length} columns); read them one by one "
                "(read_alignments), or convert to a folder"
            )
    notes: Counter[str] = Counter()
    for block in blocks:
        notes.update(block.notes)
    notes["blocks joined, with NUL bytes between them"] = len(blocks)
    kept = any(block.letters is not None for block in blocks)
    return Alignment(
        rows=np.concatenate([block.rows for block in blocks]),
        headers=tuple(h for block in blocks for h in block.headers),
        letters=tuple(row for block in blocks for row in letters_of(block))
        if kept
        else None,
        name=first.name,
        comments=tuple(c for block in blocks for c in block.comments),
        notes=dict(notes),
    )


def letters_of(alignment: Alignment) -> tuple[bytes, ...]:
    """Return the rows as a3m writes them, with insertions if they were kept."""
    if alignment.letters is not None:
        return alignment.letters
    return tuple(decode(row).encode() for row in alignment.rows)


def _no_header(path: Path, text: bytes) -> DataError:
    start = text[:40].decode(errors="replace")
    return DataError(
        f"'{path}' begins with {start!r}; an a3m or FASTA file begins with '>' and a "
        "name (lines that begin with '#' may come before it)"
    )
