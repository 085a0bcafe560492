"""Where rows stand on a canvas: ``[gMASK] [sop] query [<M>] row [<M>] row ... [<M>]``.

Every row has its separator before it, in column 0, and residue i in column i; rows are
numbered from 0, the query. The separator at the end closes the last row. N rows of L
columns take ``N (L + 1) + 2`` tokens. The columns and rows are those of MSAGPT: token j
>= 1 is in row ``(j - 1) div (L + 1)`` and column ``(j - 1) mod (L + 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mdlm_core.data.batch import Batch

from .alphabet import DOT, GAP, GMASK, MASK, PAD, SEPARATOR, SOP, STATE_OF, Ids

SUPPORT = "support"
"""Name of the condition ``(B, M, L)`` that holds further rows, column 1 first."""
BEFORE = 2
"""Tokens before the first residue of the query."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """One alignment to put on a canvas."""

    rows: Ids
    """``(N, L)``, the query first; `MASK` where to write."""
    given: int
    """How many rows are given, the query included; the others are free."""
    support: Ids | None = None
    """``(M, L)`` further rows that are not on the canvas: a profile sees them."""


def size(rows: int, columns: int) -> int:
    """Return the tokens of N rows of L columns."""
    return rows * (columns + 1) + 2


def capacity(tokens: int, columns: int) -> int:
    """Return how many rows of L columns fit, the query included."""
    return max(0, (tokens - 2) // (columns + 1))


def place(row: int, columns: int) -> int:
    """Return the index on the canvas of the first residue of a row."""
    return BEFORE + row * (columns + 1)


def positions(rows: int, columns: int) -> Tensor:
    """Return ``(size, 2)`` int64: column and row of every token."""
    j = torch.arange(size(rows, columns)) - 1
    table = torch.stack([j % (columns + 1), j // (columns + 1)], -1)
    table[0] = 0  # [gMASK]
    return table


def tokens(rows: Ids) -> Tensor:
    """Return the canvas ``(size,)`` int64 of rows ``(N, L)``."""
    body = np.full((len(rows), rows.shape[1] + 1), SEPARATOR, np.int64)
    body[:, 1:] = rows
    body[0, 0] = SOP
    return torch.from_numpy(np.concatenate([[GMASK], body.ravel(), [SEPARATOR]]))


def batch(
    canvases: Sequence[Canvas],
    sample_id: Tensor | None = None,
    epoch: int = 0,
    *,
    width: int = 0,
) -> Batch:
    """Return the canvases as one batch, padded to the longest of them.

    Free are the residues and gaps of rows that are not given, and masks. What has no
    state, such as X in a free row, is hidden: the mask stands there and is frozen, so
    that it is neither scored nor drawn. `.` counts as a gap.

    Args:
        canvases: B alignments, not all of the same size.
        sample_id: ``(B,)``; 0 to B - 1 if not given.
        epoch: see `Batch`.
        width: tokens to pad to, if that is more.
    """
    sizes = [size(*canvas.rows.shape) for canvas in canvases]
    shape = (len(canvases), max([*sizes, width]))
    ids = torch.full(shape, PAD)
    frozen = torch.ones(shape, dtype=torch.bool)
    pad = torch.ones(shape, dtype=torch.bool)
    where = torch.zeros((*shape, 2), dtype=torch.int64)
    for b, canvas in enumerate(canvases):
        count, columns = canvas.rows.shape
        rows = np.where(canvas.rows == DOT, GAP, canvas.rows).astype(np.uint8)
        free = (STATE_OF[rows] < 255) | (rows == MASK)
        free[: canvas.given] = False
        unknown = ~free
        unknown[: canvas.given] = False
        rows[unknown] = MASK
        ids[b, : sizes[b]] = tokens(rows)
        pad[b, : sizes[b]] = False
        where[b, : sizes[b]] = positions(count, columns)
        inner = frozen[b, 1 : sizes[b] - 1].view(count, columns + 1)
        inner[:, 1:] = torch.from_numpy(~free)
    support = _support(canvases)
    return Batch.of(
        ids,
        frozen=frozen,
        pad=pad,
        positions=where,
        sample_id=sample_id,
        epoch=epoch,
        condition={} if support is None else {SUPPORT: support},
    )


def _support(canvases: Sequence[Canvas]) -> Tensor | None:
    """Return the further rows of all canvases ``(B, M, L)``, padded; None if none."""
    parts = [canvas.support for canvas in canvases]
    most = max((len(part) for part in parts if part is not None), default=0)
    if not most:
        return None
    longest = max(canvas.rows.shape[1] for canvas in canvases)
    found = torch.full((len(canvases), most, longest), PAD)
    for b, part in enumerate(parts):
        if part is not None:
            rows = np.where(part == DOT, GAP, part).astype(np.int64)
            found[b, : len(rows), : rows.shape[1]] = torch.from_numpy(rows)
    return found


def rows_of(canvas: Tensor, columns: int) -> Ids:
    """Return the rows ``(N, L)`` of a canvas ``(size,)`` of ids, without padding."""
    body = canvas[1:-1].reshape(-1, columns + 1)[:, 1:]
    rows: Ids = body.cpu().numpy().astype(np.uint8)
    return rows
