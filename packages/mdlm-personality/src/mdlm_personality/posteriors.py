"""What texts say about traits: posteriors on a grid, priors, a temperature.

Letters: N texts, M authors, G values of the grid, S draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from mdlm_core.errors import DataError


@dataclass(frozen=True, slots=True)
class Posteriors:
    """What N texts say about each trait, the others unknown."""

    grid: Tensor
    """``(G,)`` float64 values in [0, 1]."""
    log_prior: Tensor
    """``(5, G)`` float64: log of the mass of each value."""
    draws: Tensor
    """``(N, 5, G, S)`` float64: minus the bound, each draw of it, in nats."""
    tokens: Tensor
    """``(N,)`` int64: the tokens of each text, its end included."""
    temperature: float = 1.0

    @property
    def law(self) -> Tensor:
        """``(N, 5, G)`` float64: the posterior mass of each value."""
        return self._law(self.draws.mean(-1))

    @property
    def mean(self) -> Tensor:
        """``(N, 5)`` float64."""
        return self.law @ self.grid

    @property
    def sd(self) -> Tensor:
        """``(N, 5)`` float64."""
        return (self.law @ self.grid.square() - self.mean.square()).clamp(min=0).sqrt()

    @property
    def mode(self) -> Tensor:
        """``(N, 5)`` float64: the value of the greatest density."""
        density = self.law / cells_of(self.grid)
        return self.grid[density.argmax(-1)]

    @property
    def mean_se(self) -> Tensor:
        """``(N, 5)``: the standard error of `mean` from the masks, by jackknife.

        NaN for one draw. If the draws are stratified, it errs to the large side.
        """
        count = self.draws.shape[-1]
        if count < 2:
            return torch.full_like(self.mean, torch.nan)
        total = self.draws.sum(-1)
        without = torch.stack(
            [
                self._law((total - self.draws[..., draw]) / (count - 1)) @ self.grid
                for draw in range(count)
            ],
            -1,
        )  # (N, 5, S)
        spread: Tensor = without.var(-1, correction=0) * (count - 1)
        return spread.sqrt()

    def _law(self, nats: Tensor) -> Tensor:
        return (nats / self.temperature + self.log_prior).softmax(-1)


def training_prior(table: np.ndarray[Any, Any], grid: Tensor) -> Tensor:
    """Return log masses ``(5, G)``: the share of authors nearest to each value.

    One further author, spread evenly over [0, 1], leaves no value impossible.

    Args:
        table: ``(M, 5)`` traits of the authors, NaN where not known.
        grid: ``(G,)``.
    """
    cells = cells_of(grid)
    masses = []
    for column in torch.from_numpy(np.asarray(table, dtype=np.float64)).unbind(1):
        there = column[~column.isnan()]
        nearest = (there * (len(grid) - 1)).round().long()
        masses.append(torch.bincount(nearest, minlength=len(grid)).double() + cells)
    found = torch.stack(masses)
    return (found / found.sum(1, keepdim=True)).log()


def cells_of(grid: Tensor) -> Tensor:
    """Return the share ``(G,)`` of [0, 1] that is nearest to each value."""
    cells = torch.full_like(grid, 1 / (len(grid) - 1))
    cells[[0, -1]] /= 2
    return cells


def fit_temperature(
    draws: Tensor, truth: Tensor, known: Tensor, grid: Tensor, log_prior: Tensor
) -> float:
    """Return the T under which known traits are most probable.

    Args:
        draws: ``(N, 5, G, S)`` as in `Posteriors`.
        truth: ``(N, 5)`` the traits of the authors.
        known: ``(N, 5)`` bool.
        grid: ``(G,)``.
        log_prior: ``(5, G)``.

    Raises:
        DataError: if no trait is known.
    """
    if not bool(known.any()):
        raise DataError("no trait of these texts is known, so that none can be fitted")
    nats = draws.mean(-1)
    nearest = (truth.double() * (len(grid) - 1)).round().long()

    def cost(log_t: float) -> float:
        law = (nats / np.exp(log_t) + log_prior).log_softmax(-1)
        own = law.gather(-1, nearest[..., None])[..., 0]
        return -float(own[known].mean())

    fitted = minimize_scalar(cost, bounds=(-3.0, 6.0), method="bounded")
    return float(np.exp(fitted.x))
