"""Which residues go together in two columns: the statistics of coupling.

``c_ij(a, b) = f_ij(a, b) - f_i(a) f_j(b)``. A profile has none of it, so that its
correlation with that of natural rows tells a model that knows more than a profile.
But the gaps of natural rows alone already bring a correlation, because gaps come in
runs. With the gaps set aside it is over rows that have a residue in both columns,

    c_ij(a, b) = f_ij(a, b) - f_ij(a, .) f_ij(., b) / f_ij(., .),

where a dot sums over residues, and a model of gaps alone has none of it either.
Letters: R rows, L columns, S = 21 symbols.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_msa.alphabet import GAP_STATE, STATES, Ids
from mdlm_msa.laws import Array

from .profile import same_columns

SEPARATION = 4
"""Columns that are nearer than this are left out."""
BLOCK = 1024
"""Rows of the matrix of pairs that are in memory together, about."""

NOTHING = 1e-7
"""Root mean square of c below which it is an error of rounding."""


def one_hot(states: Ids, weights: Array | None = None) -> NDArray[np.float32]:
    """Return ``(R, L S)``: the square root of a row's share where it has a symbol.

    The product of its transpose with itself holds the joint frequencies f_ij. Shares
    sum to 1 over the rows.
    """
    rows, columns = states.shape
    mass = np.ones(rows) if weights is None else np.asarray(weights, np.float64)
    root = np.sqrt(mass / mass.sum()).astype(np.float32)
    hot = np.zeros((rows, columns, STATES), np.float32)
    row, column = np.nonzero(states < STATES)
    hot[row, column, states[row, column]] = root[row]
    return hot.reshape(rows, columns * STATES)


def marginals(
    states: Ids, weights: Array | None = None
) -> tuple[NDArray[np.float32], Array]:
    """Return the one-hot rows, and the plain frequencies ``(L S,)`` of the symbols."""
    hot = one_hot(states, weights)
    return hot, np.square(hot, dtype=np.float64).sum(0)


def pair_correlation(
    generated: Ids,
    reference: Ids,
    weights: tuple[Array | None, Array | None] = (None, None),
    *,
    separation: int = SEPARATION,
    gaps: bool = True,
) -> float:
    """Return Pearson's r of c_ij(a, b) between two alignments, over i, j, a and b.

    It grows with the number of rows of both, because c is noisy in few rows: compare
    only alignments of as many rows. nan if there is no pair of columns.

    Args:
        generated: states ``(R, L)``.
        reference: states ``(R', L)``.
        weights: of the rows of both.
        separation: |i - j| at least.
        gaps: whether the gap is a symbol like the others; False sets it aside.

    Raises:
        DataError: if the two differ in their number of columns.
    """
    same_columns(generated, reference)
    columns = generated.shape[1]
    tables = [
        marginals(states, mass)
        for states, mass in zip((generated, reference), weights, strict=True)
    ]
    sums = np.zeros(6)
    step = max(1, BLOCK // STATES)
    for start in range(0, columns - separation, step):
        stop = min(start + step, columns - separation)
        after = start + separation
        apart = np.arange(after, columns) - np.arange(start, stop)[:, None]
        keep = apart >= separation
        x, y = (
            _connected(hot, mean, start, stop, after, gaps)[keep].ravel()
            for hot, mean in tables
        )
        sums += [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y]
    return _pearson(sums)


def _connected(
    hot: NDArray[np.float32],
    mean: Array,
    start: int,
    stop: int,
    after: int,
    gaps: bool,
) -> Array:
    """Return c ``(stop - start, L - after, symbols, symbols)`` of pairs of columns."""
    left = slice(start * STATES, stop * STATES)
    right = slice(after * STATES, None)
    joint = torch.from_numpy(hot[:, left]).T @ torch.from_numpy(hot[:, right])
    blocks = joint.view(stop - start, STATES, -1, STATES).transpose(1, 2).double()
    if gaps:
        a = torch.from_numpy(mean[left]).view(-1, 1, STATES, 1)
        b = torch.from_numpy(mean[right]).view(1, -1, 1, STATES)
        return (blocks - a * b).numpy()
    blocks = blocks[..., :GAP_STATE, :GAP_STATE]
    both = blocks.sum((2, 3), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    product = blocks.sum(3, keepdim=True) * blocks.sum(2, keepdim=True)
    return (blocks - product / both).numpy()


def _pearson(sums: Array) -> float:
    n, x, y, xx, yy, xy = sums
    if n == 0:
        return float("nan")
    x_spread, y_spread = xx - x * x / n, yy - y * y / n
    if min(x_spread, y_spread) <= n * NOTHING**2:
        return float("nan")
    return float((xy - x * y / n) / (x_spread * y_spread) ** 0.5)
