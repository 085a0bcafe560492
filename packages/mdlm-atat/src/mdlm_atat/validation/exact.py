"""A model so small that its log p is known: is every claimed bound above -log p?

Two positions, two tokens and the mask. The denoiser is a table, and every canvas and
every clean row can be enumerated, so that bounds are integrals in one variable, the
time, taken by quadrature. Time is the share u of hidden tokens, in (0, 1).

Letters: L = 2 positions, Q nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

from mdlm_atat.config import AtatConfig
from mdlm_atat.masking import AdaptiveMaskingScheduler
from mdlm_atat.reverse import rate_term
from mdlm_core.diffusion import LogLinear
from mdlm_core.kernels.noise import Noise

MASK = 2
NODES = 200
_ROWS = tuple(product((0, 1), repeat=2))
_HIDDEN = ((True, False), (False, True), (True, True))


def denoiser(seed: int = 0) -> Tensor:
    """Return log p(token | canvas, position), ``(3, 3, 2, 2)``: z1, z2, i, token."""
    u = Noise(seed).child("toy").uniform(torch.arange(3 * 3 * 2), 2)
    return torch.log_softmax(5 * u.reshape(3, 3, 2, 2) - 2.5, dim=-1)


def negative_log_p(table: Tensor, row: tuple[int, ...]) -> float:
    """Return -log p of a row under the sampler that reveals in a random order."""
    first = [float(table[MASK, MASK, i, row[i]]) for i in range(2)]
    second = [
        float(table[row[0], MASK, 1, row[1]]),
        float(table[MASK, row[1], 0, row[0]]),
    ]
    return -math.log(
        sum(0.5 * math.exp(a + b) for a, b in zip(first, second, strict=True))
    )


def bounds(
    config: AtatConfig, table: Tensor, *, kappa: float
) -> Iterator[tuple[float, float, float]]:
    """Yield -log p, the bound of the masks of `config`, and the uniform bound.

    The first bound is, for chances m and rates A = m' / m of the true reversal, with
    a reverse process that reveals every position at the uniform rate r = 1 / u,

        integral over u of E_z sum over hidden i of A (-log p) + A log(A / r) - A + r.

    The importance of a token depends on what it is and on its neighbour, so that the
    masks say something about the row.

    Args:
        config: shape, sharpness and position bias.
        table: the denoiser.
        kappa: the bias.
    """
    u, weight = nodes()
    masking = AdaptiveMaskingScheduler(config)
    for row in _ROWS:
        importance = torch.tensor([[0.2 + 0.6 * row[0], 0.5 * row[1] + 0.3 * row[0]]])
        importance = importance.expand(len(u), 2)
        free = torch.ones(len(u), 2, dtype=torch.bool)
        time = LogLinear(eps=0.0)
        chance = masking.rates(importance, free, u, time, kappa).mask_prob
        chance = chance.expand(len(u), 2).double()
        speed = masking.velocity(importance, free, u, time, kappa).double()
        yield (
            negative_log_p(table, row),
            float((weight * _cost(table, row, chance, speed, 1 / u[:, None])).sum()),
            float(
                (
                    weight
                    * _cost(
                        table,
                        row,
                        u[:, None].expand(-1, 2),
                        1 / u[:, None].expand(-1, 2),
                        None,
                    )
                ).sum()
            ),
        )


def naive(config: AtatConfig, table: Tensor, *, kappa: float) -> list[float]:
    """Return how far the loss with the weight 1 / u lies above -log p, for each row.

    It is no bound: masks that depend on the row need another weight or a rate term.
    """
    u, weight = nodes()
    masking = AdaptiveMaskingScheduler(config)
    gaps = []
    for row in _ROWS:
        importance = torch.tensor([[0.2 + 0.6 * row[0], 0.5 * row[1] + 0.3 * row[0]]])
        free = torch.ones(len(u), 2, dtype=torch.bool)
        chance = masking.rates(
            importance.expand(len(u), 2), free, u, LogLinear(eps=0.0), kappa
        ).mask_prob.expand(len(u), 2)
        cost = _cost(table, row, chance.double(), 1 / u[:, None].expand(-1, 2), None)
        gaps.append(float((weight * cost).sum()) - negative_log_p(table, row))
    return gaps


def nodes() -> tuple[Tensor, Tensor]:
    """Return nodes and weights ``(Q,)`` of the Gauss-Legendre rule on (0, 1)."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    return torch.from_numpy((x + 1) / 2), torch.from_numpy(w / 2)


def _cost(
    table: Tensor,
    row: tuple[int, ...],
    chance: Tensor,
    speed: Tensor,
    rate: Tensor | None,
) -> Tensor:
    """Return the integrand ``(Q,)``: the mean over canvases of the cost of the hidden.

    Args:
        table: the denoiser.
        row: the clean row.
        chance: ``(Q, 2)`` to be hidden.
        speed: ``(Q, 2)`` the weight A of -log p.
        rate: r; None leaves the rate term out.
    """
    total = torch.zeros(len(chance), dtype=torch.float64)
    for hidden in _HIDDEN:
        law = torch.ones_like(total)
        cost = torch.zeros_like(total)
        canvas = [MASK if h else x for h, x in zip(hidden, row, strict=True)]
        for i, is_hidden in enumerate(hidden):
            law = law * (chance[:, i] if is_hidden else 1 - chance[:, i])
            if is_hidden:
                nll = -float(table[canvas[0], canvas[1], i, row[i]])
                cost = cost + speed[:, i] * nll
                if rate is not None:
                    cost = cost + rate_term(speed[:, i], rate.expand_as(speed)[:, i])
        total = total + law * cost
    return total
