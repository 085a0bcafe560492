"""Draw the times of a training batch, as a function of each row's place in it.

Letters: B rows of this process, n rows of the global batch.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Schedule

KINDS = ("stratified", "uniform", "importance", "bell")
_BELL_CELLS = 8192


class Times(NamedTuple):
    """The times of a batch."""

    t: Tensor
    """``(B,)`` float64 in (0, 1)."""
    weight: Tensor
    """``(B,)`` float64: what the loss of a row is multiplied with on top of the
    schedule's weight, because of how its time was drawn."""


def draw_strata(*, noise: Noise, rows: Tensor, of: int) -> Tensor:
    """Return one number for each row, of which each n-th of [0, 1) holds just one.

    Which row gets which n-th is drawn too, so that each number alone is uniform. The
    reference calls this antithetic sampling; there row i always has the i-th part of
    its process's share.

    Args:
        noise: the generator of this step.
        rows: ``(B,)`` int64, indices in the global batch.
        of: n, the rows of the global batch.

    Returns:
        ``(B,)`` float64.
    """
    everyone = torch.arange(of, device=rows.device)
    stratum = noise.child("stratum").uniform(everyone, 1)[:, 0].argsort()
    return (stratum[rows] + noise.child("jitter").uniform(rows, 1)[:, 0]) / of


def time_at(share: Tensor, schedule: Schedule | None) -> Tensor:
    """Return the times ``(B,)`` at which that share of the tokens is hidden.

    A share outside the mask rates of the schedule is given its first or last time.
    Without a schedule the time is the share, as with alpha = 1 - t.
    """
    if schedule is None:
        return share
    low, high = schedule.mask_rate(share.new_tensor([0.0, 1.0]))
    return schedule.time_of(share.clamp(low, high))


def draw_times(
    kind: str,
    *,
    noise: Noise,
    rows: Tensor,
    of: int,
    t_min: float = 1e-3,
    schedule: Schedule,
) -> Times:
    """Draw one time in [t_min, 1) for each row.

    A row's time depends on `noise`, its index and n alone: neither on the number of
    processes nor on how the batch is cut for accumulation. The kinds:

    - ``stratified``: uniform, one time in each n-th of the range.
    - ``uniform``: uniform and independent.
    - ``importance``: the mask rate is uniform on a log scale, stratified. The weight
      makes the expected loss that of ``uniform``, and the product with the schedule's
      weight a constant, ``log(m(1) / m(t_min)) / (1 - t_min)`` with the mask rate m.
    - ``bell``: density ``0.1 + 0.9 (4 t (1 - t))^1.2`` up to a factor, stratified.
      The weight stays 1 on purpose: middle times count more, so that the loss is no
      bound (Hong et al., arXiv 2605.13026).

    Raises:
        ConfigError: if the kind is not one of these.
    """
    if kind == "uniform":
        u = noise.child("jitter").uniform(rows, 1)[:, 0]
    elif kind in KINDS:
        u = draw_strata(noise=noise, rows=rows, of=of)
    else:
        raise ConfigError(
            f"t_sampling is '{kind}'; it must be one of {', '.join(KINDS)}, or counts"
        )
    if kind == "importance":
        return _importance(u, t_min, schedule)
    t = _bell_inverse(u, t_min) if kind == "bell" else t_min + (1 - t_min) * u
    return Times(t, torch.ones_like(t))


def _importance(u: Tensor, t_min: float, schedule: Schedule) -> Times:
    """Return times whose log mask rate is uniform.

    The schedule's weight is the derivative of log m, so that the integral of weight
    times loss over t is the integral of the loss over log m.
    """
    low, high = schedule.mask_rate(u.new_tensor([t_min, 1.0])).log()
    t = schedule.time_of(torch.exp(low + (high - low) * u)).clamp(min=t_min)
    return Times(t, (high - low) / ((1 - t_min) * schedule.weight(t)))


@lru_cache(maxsize=1)
def _bell_table() -> tuple[Tensor, Tensor]:
    """Return a grid of times and the bell's distribution function there, float64."""
    t = torch.linspace(0, 1, _BELL_CELLS + 1, dtype=torch.float64)
    density = 0.1 + 0.9 * (4 * t * (1 - t)).pow(1.2)
    mass = torch.zeros_like(t)
    mass[1:] = torch.cumulative_trapezoid(density, t)
    return t, mass / mass[-1]


def _bell_inverse(u: Tensor, t_min: float) -> Tensor:
    """Return the bell's quantiles at `u`, given that t is at least `t_min`."""
    t, mass = (table.to(u.device) for table in _bell_table())
    cell = min(math.floor(t_min * _BELL_CELLS), _BELL_CELLS - 1)
    start = mass[cell] + (mass[cell + 1] - mass[cell]) * (t_min * _BELL_CELLS - cell)
    goal = start + (1 - start) * u
    right = torch.searchsorted(mass, goal).clamp(1, _BELL_CELLS)
    share = (goal - mass[right - 1]) / (mass[right] - mass[right - 1])
    return t[right - 1] + share / _BELL_CELLS
