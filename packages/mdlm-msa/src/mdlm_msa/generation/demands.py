"""What a new row must be, column by column.

Letters: L columns, V vocabulary (mask included).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import UsageError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import (
    GAP,
    ID_OF_BYTE,
    MASK,
    RESIDUES,
    VOCAB_SIZE,
    WRITTEN,
    Ids,
    X,
    decode,
)
from mdlm_msa.config import GenerationConfig

Columns = NDArray[np.bool_]
"""``(L,)``: which columns are meant."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What may stand in a column, and what must."""

    allowed: NDArray[np.bool_]
    """``(L, V)``: the ids that may be drawn."""
    fixed: Ids
    """``(L,)``: the id that every new row has there; `MASK` where it is drawn."""


def parse_columns(
    text: str, length: int, *, what: str, unit: str = "column"
) -> Columns:
    """Return the columns that a text such as ``10-25,40`` names, from 1.

    Args:
        text: numbers and ranges with commas between; empty for none.
        length: L.
        what: the option or setting, for errors.
        unit: what is numbered, for errors: columns, or rows of an alignment.

    Raises:
        UsageError: if a part is no number or range, or outside of the query.
    """
    chosen = np.zeros(length, bool)
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, sign, last = (piece.strip() for piece in part.partition("-"))
        ends = (first, last if sign else first)
        if not all(end.isascii() and end.isdigit() for end in ends):
            raise UsageError(
                f"{what} has '{part}', which is no {unit} or range of {unit}s; write "
                f"such as 10-25,40"
            )
        low, high = map(int, ends)
        if not 1 <= low <= high <= length:
            raise UsageError(
                f"{what} has '{part}'; {unit}s go from 1 to {length}, and a range from "
                f"its lower to its higher end"
            )
        chosen[low - 1 : high] = True
    return chosen


def parse_allowed(text: str) -> dict[int, str]:
    """Return what ``12=AG,40=-ST`` says: the letters allowed in a column.

    Raises:
        UsageError: if a part is no COLUMN=LETTERS, or names a column twice.
    """
    found: dict[int, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        column, sign, letters = (piece.strip() for piece in part.partition("="))
        if not sign or not letters or not (column.isascii() and column.isdigit()):
            raise UsageError(
                f"allowed residues '{part}' are no COLUMN=LETTERS; write such as "
                f"12=AG,40=-ST, where - is the gap"
            )
        if int(column) in found:
            raise UsageError(f"allowed residues name column {column} twice")
        found[int(column)] = letters.upper()
    return found


def demands(query: Ids, config: GenerationConfig) -> Demands:
    """Return what new rows of a query must be.

    Args:
        query: ``(L,)`` ids.
        config: `gaps`, `allow_x`, `freeze` and `allowed` are read.

    Raises:
        UsageError: if a column or letter is wrong, or nothing may stand in a column.
    """
    length = len(query)
    allowed = np.zeros((length, VOCAB_SIZE), bool)
    allowed[:, list(WRITTEN)] = True
    allowed[:, GAP] = config.gaps == "free"
    allowed[:, X] = config.allow_x
    _restrict(allowed, config.allowed, gaps=config.gaps)
    fixed = np.full(length, MASK, np.uint8)
    frozen = parse_columns(config.freeze, length, what="freeze")
    fixed[frozen] = query[frozen]
    for place in frozen.nonzero()[0]:
        letter = decode(query[place : place + 1])
        if letter not in RESIDUES:
            raise UsageError(
                f"freeze names column {place + 1}, where the query has '{letter}'; "
                f"only columns with one of the twenty residues can be kept"
            )
        if place + 1 in config.allowed and not allowed[place, query[place]]:
            raise UsageError(
                f"column {place + 1} is kept as the query's {letter}, and only "
                f"'{config.allowed[int(place) + 1]}' is allowed there; take one away"
            )
    return Demands(allowed, fixed)


def _restrict(
    allowed: NDArray[np.bool_], letters: Mapping[int, str], *, gaps: str
) -> None:
    """Take away, in place, what a column's letters do not name."""
    for column, text in letters.items():
        if not 1 <= column <= len(allowed):
            raise UsageError(
                f"allowed residues name column {column}; columns go from 1 to "
                f"{len(allowed)}"
            )
        if wrong := sorted(set(text) - set(RESIDUES + "X-")):
            raise UsageError(
                f"allowed residues of column {column} have '{wrong[0]}'; the letters "
                f"are {RESIDUES}, X and - for the gap"
            )
        named = np.zeros(VOCAB_SIZE, bool)
        named[ID_OF_BYTE[np.frombuffer(text.encode(), np.uint8)]] = True
        allowed[column - 1] &= named
        if not allowed[column - 1].any():
            raise UsageError(
                f"nothing may stand in column {column}: '{text}' is allowed there, and "
                f"gaps={gaps} or allow_x=false forbids it"
            )


def rows_to_fill(source: Alignment, rows: Sequence[int] | None) -> NDArray[np.int64]:
    """Return the rows that may be filled, from 0; all but the query by default.

    Raises:
        UsageError: if a row is not there or is the query.
    """
    if rows is None:
        return np.arange(1, source.depth)
    for row in rows:
        if not 1 <= row < source.depth:
            raise UsageError(
                f"row {row + 1} cannot be filled: "
                + ("it is the query" if row == 0 else f"there are {source.depth} rows")
                + f"; rows that can be are 2 to {source.depth}"
            )
    return np.unique(np.array(rows, np.int64))
