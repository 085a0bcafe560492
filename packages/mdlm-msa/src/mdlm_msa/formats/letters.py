"""Which byte of a row means what, and what to say of a row that breaks the rules."""

from __future__ import annotations

import re
from pathlib import Path

from mdlm_core.errors import DataError
from mdlm_msa.alphabet import ID_OF_BYTE, RESIDUES, X

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

NUCLEOTIDES = "letters of the query, all of them nucleotides (is it a protein?)"
"""The note of a query that looks like DNA or RNA."""
_BASES = b"ACGTUN"
_FEWEST_BASES = 8
"""Letters of a query that must all be bases before it is said: of a protein with the
usual composition fewer than one in 10^5 is made of them."""
_PART = re.compile(r"(.*), ((?:record|line|chain) \S+)", re.DOTALL)

ALLOWED = "the 20 residues, X, B, U, Z, O, J, '*', '-', '.' and lower case"


def quoted(place: Path | str) -> str:
    """Return a file in quotes, or ``FILE, line 3`` with the file alone in quotes."""
    part = _PART.fullmatch(str(place))
    return f"'{part[1]}', {part[2]}" if part else f"'{place}'"


def where(path: Path | str, row: int, header: bytes | str) -> str:
    """Return how an error names a row; `path` as `quoted` takes it."""
    text = header.decode(errors="replace") if isinstance(header, bytes) else header
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{quoted(path)}, row {row} ('{text.strip()}')"


def is_protein(query: bytes) -> bool:
    """Return whether there is a letter in a query that names a residue."""
    return bool(set(query.upper()) & _NAMED)


def like_nucleotides(query: bytes) -> int:
    """Return the letters of a query if all are those of nucleotides, otherwise 0."""
    letters = query.upper().translate(None, BLANKS + b"-.~")
    few = len(letters) < _FEWEST_BASES
    return 0 if few or letters.translate(None, _BASES) else len(letters)


_NAMED = frozenset((RESIDUES + "BZUO").encode())


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
