"""The variance of a row's loss in three parts: masks, times and rows.

With l the loss of row x at time t under mask m, g(x, t) its mean and v(x, t) its
variance over masks (arXiv 2511.18159)::

    A = E_x E_t v          which tokens are hidden
    B = E_x Var_t g        which time is drawn
    C = Var_x E_t g        which row is drawn

Times of a density p, with the weight 1 / p, leave C alone and turn the others into
``A = E_x int v / p dt`` and ``B = E_x [int g^2 / p dt - (int g dt)^2]``. All estimates
here are unbiased, up to the quadrature in t: what masks add to squares of means is
taken off. Letters: a rows, b times, c masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from mdlm_llada.sft.density import Density

from .measure import Draws, Grid


class Parts(NamedTuple):
    """What the variance of a loss consists of; scalars."""

    single: Tensor
    """A with one mask."""
    pair: Tensor
    """A with the mean over a mask and its mirror image."""
    rate: Tensor
    """B."""
    data: Tensor
    """C."""


@dataclass(frozen=True, slots=True)
class Cells:
    """What is known about each row at each time."""

    grid: Grid
    mean: Tensor
    """``(a, b)`` the mean loss."""
    single: Tensor
    """``(a, b)`` the variance of the loss under one mask."""
    pair: Tensor
    """``(a, b)`` that of the mean over a mask and its mirror image."""
    masks: int
    """c."""

    @classmethod
    def of(cls, draws: Draws) -> Cells:
        """Return the means and unbiased variances over masks."""
        pairs = (draws.plain + draws.mirrored) / 2
        return cls(
            grid=draws.grid,
            mean=pairs.mean(2),
            single=(draws.plain.var(2) + draws.mirrored.var(2)) / 2,
            pair=pairs.var(2),
            masks=draws.plain.shape[2],
        )

    def rows(self, chosen: Tensor) -> Cells:
        """Return some of the rows."""
        return replace(
            self,
            mean=self.mean[chosen],
            single=self.single[chosen],
            pair=self.pair[chosen],
        )

    def correlation(self) -> Tensor:
        """Return ``(b,)`` rho, that of the losses under a mask and its mirror image.

        ``Var((l1 + l2) / 2) = (1 + rho) / 2 Var(l)``.
        """
        return 2 * self.pair.mean(0) / self.single.mean(0) - 1


def decompose(cells: Cells, weight: Tensor | None = None) -> Parts:
    """Return the parts of the variance.

    Args:
        cells: the measurement.
        weight: ``(a, b)`` 1 / p at the times of each row; None means uniform times.
    """
    shares = cells.grid.shares
    weight = torch.ones_like(cells.mean) if weight is None else weight
    noise = cells.pair / cells.masks  # the variance of the means
    square = cells.mean.square() - noise
    whole = cells.mean @ shares  # (a,): the integral of g
    whole_noise = noise @ shares.square()
    rate = (square * weight) @ shares - (whole.square() - whole_noise)
    return Parts(
        single=((cells.single * weight) @ shares).mean(),
        pair=((cells.pair * weight) @ shares).mean(),
        rate=rate.mean(),
        data=whole.var() - whole_noise.mean(),
    )


def between_strata(cells: Cells, laws: Sequence[Density], strata: int) -> Tensor:
    """Return what stratified times take off the variance of a row's loss: a scalar.

    Of n rows with their times spread over k strata of equal probability, the mean
    loss has the variance ``(A + B + C - D) / n``, where D is the variance over strata
    of the mean loss in a stratum, over its times and over all rows (StraTS).

    Args:
        cells: the measurement.
        laws: the density of the times, for each row.
        strata: k.
    """
    found = [
        _between(cells.rows(torch.tensor(rows)), law, strata)
        for law, rows in grouped(laws)
    ]
    sizes = torch.tensor([float(len(rows)) for _, rows in grouped(laws)])
    return (torch.stack(found) * sizes).sum() / sizes.sum()


def grouped(laws: Sequence[Density]) -> list[tuple[Density, list[int]]]:
    """Return the different densities, each with the rows that it is for."""
    places: dict[int, list[int]] = {}
    for row, law in enumerate(laws):
        places.setdefault(id(law), []).append(row)
    return [(laws[rows[0]], rows) for rows in places.values()]


def _between(cells: Cells, law: Density, strata: int) -> Tensor:
    shares = cells.grid.shares
    ends = torch.zeros(len(shares) + 1, dtype=torch.float64)
    ends[1:] = shares.cumsum(0)
    sums = torch.zeros(len(cells.mean), len(ends), dtype=torch.float64)
    sums[:, 1:] = (cells.mean * shares).cumsum(1)  # the integral of g up to each end
    edges = law.quantile(torch.linspace(0, 1, strata + 1, dtype=torch.float64))
    cell = (torch.searchsorted(ends, edges, right=True) - 1).clamp(0, len(shares) - 1)
    inside = ((edges - ends[cell]) / shares[cell]).clamp(0, 1)
    upto = sums[:, cell] + inside * sums.diff(dim=1)[:, cell]
    means = strata * upto.diff(dim=1)  # (a, k): a row's mean loss in each stratum
    squares = means.mean(0).square() - means.var(0) / len(means)
    whole = means.mean(1)
    return squares.mean() - (whole.mean().square() - whole.var() / len(whole))
