"""Cut a stream of FASTA-like text into pieces of whole records."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import IO, NamedTuple

PIECE = 1 << 17
"""Bytes that are read at once; few enough that their memory is used again and again."""

_COMMENT = re.compile(rb"^#[^\n]*\n?", re.MULTILINE)
_BORDER = re.compile(rb"(?:\0\s*)+(?=[>#]|\Z)")


class Piece(NamedTuple):
    """Some records of one block, in order."""

    block: int
    """Which block they are of; NUL bytes stand between blocks."""
    headers: list[bytes]
    """What stands after `>`, without the line's end."""
    bodies: list[bytes]
    """What stands up to the next `>` at the start of a line, stripped."""
    comments: list[bytes]
    """Lines that begin with `#`, before or between them."""
    before: bytes
    """Text before the first record of the file that is no comment."""


def pieces(stream: IO[bytes], size: int = PIECE) -> Iterator[Piece]:
    """Yield the records of `stream`, those of about `size` bytes at a time.

    Constant memory, however long the file; a record is never cut.
    """
    block, rest, wanted = 0, b"", size
    while data := stream.read(wanted):
        data = rest + data  # a mark may lie across the border of two reads
        cut = data.rfind(b"\n>") + 1
        if b"\0" in data:
            cut = max(cut, data.rfind(b"\0>"))
        if cut <= 0:
            rest, wanted = data, 2 * wanted  # one long record
            continue
        block = yield from _blocks(data[:cut], block)
        rest, wanted = data[cut:], size
    yield from _blocks(rest, block)


def _blocks(data: bytes, block: int) -> Generator[Piece, None, int]:
    """Yield `data`, which begins where a record begins; return the number that follows.

    Servers end each of several results with a NUL byte.
    """
    parts = _BORDER.split(data) if b"\0" in data else [data]
    for number, part in enumerate(parts, start=block):
        if part and not part.isspace():
            yield _piece(part, number)
    return block + len(parts) - 1


def _piece(data: bytes, block: int) -> Piece:
    lines = data.rstrip().split(b"\n")
    headers, bodies = lines[::2], lines[1::2]
    if len(headers) == len(bodies) and min(headers)[:1] == max(headers)[:1] == b">":
        text = b"\n".join(bodies)
        if b">" not in text and b"#" not in text:  # one line for a row, as nearly all
            return Piece(block, [line[1:] for line in headers], bodies, [], b"")
    comments: list[bytes] = []
    if data.startswith(b"#") or b"\n#" in data:
        comments = [line.rstrip() for line in _COMMENT.findall(data)]
        data = _COMMENT.sub(b"", data)
    before, mark, text = (b"\n" + data).partition(b"\n>")
    if not mark:
        return Piece(block, [], [], comments, before.strip())
    headers, bodies = [], []
    for record in text.split(b"\n>"):
        header, _, body = record.partition(b"\n")
        headers.append(header)
        bodies.append(body.strip())
    return Piece(block, headers, bodies, comments, before.strip())
