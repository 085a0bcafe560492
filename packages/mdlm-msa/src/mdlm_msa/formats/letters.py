"""Which byte of a row means what, and what to say of a row that breaks the rules."""

from __future__ import annotations

from pathlib import Path

from mdlm_core.errors import DataError
from mdlm_msa.alphabet import ID_OF_BYTE, X

BLANKS = b" \t\r\n\v\f"
LOWER = bytes(range(ord("a"), ord("z") + 1))
MARK = 254
"""What `>` becomes: it stands after each row while rows are joined."""
NOTHING = 255
"""What a byte becomes that has no meaning in a row."""
READ_AS_X = b"J*"
"""Letters that are read as X: leucine or isoleucine, and a stop."""


def _table() -> bytes:
    table = bytearray(ID_OF_BYTE.tobytes())
    for byte in READ_AS_X:
        table[byte] = X
    table[ord(">")] = MARK
    return bytes(table)


TABLE = _table()
"""The id of every byte, for ``bytes.translate``."""

ALLOWED = "the 20 residues, X, B, U, Z, O, J, '*', '-', '.' and lower case"


def where(path: Path | str, row: int, header: bytes | str) -> str:
    """Return how an error names a row."""
    text = header.decode(errors="replace") if isinstance(header, bytes) else header
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"'{path}', row {row} ('{text.strip()}')"


def bad_byte(data: bytes, allowed: bytes = b"") -> tuple[int, int] | None:
    """Return (place from 1, byte) of the first byte without a meaning, blanks apart."""
    known = LOWER + BLANKS + b"." + allowed
    place = 0
    for byte in data:
        if byte in BLANKS:
            continue
        place += 1
        if byte not in known and (TABLE[byte] >= MARK):
            return place, byte
    return None


def complain(
    path: Path | str, row: int, header: bytes | str, body: bytes, length: int
) -> DataError:
    """Return the error of a row that is not `length` columns long or has bad letters.

    Args:
        path: of the file.
        row: its number, from 1.
        header: what stands after `>`.
        body: the row as it is in the file.
        length: columns of the query.
    """
    place = where(path, row, header)
    if not body.strip():
        return DataError(
            f"{place} has no sequence; every header is followed by one, so remove the "
            "header or add the sequence"
        )
    bad = bad_byte(body)
    if bad is not None:
        column, byte = bad
        what = "a NUL byte" if byte == 0 else f"{chr(byte)!r} (byte {byte})"
        rule = (
            "a NUL stands between two alignments only, before a header"
            if byte == 0
            else f"a row is made of {ALLOWED}"
        )
        return DataError(f"{place} has {what} at letter {column}; {rule}")
    count = len(body.translate(None, LOWER + BLANKS + b"."))
    return DataError(
        f"{place} has {count} columns, where the query has {length}; every row has one "
        "upper-case letter or '-' for each column of the query, and insertions in "
        "lower case. If the rows are not aligned yet, align them to the query first"
    )
