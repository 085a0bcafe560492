"""The reverse process as events: when each position is revealed, then what it holds.

Under the absorbing process a masked position stays masked from time t to s < t with
probability m(s) / m(t), where m is the mask rate, whatever the other positions hold;
and once revealed it stays. So the time at which a position is revealed can be drawn
up front: with u uniform, the position is masked as long as m(t) > u m(1). A row has
to be evaluated only when one of its positions is revealed, each row at its own pace,
and the head and the draw run on exactly those positions. The law of the result is
that of the step-by-step process; a step without an event costs nothing.

Letters: B rows, L length, T steps.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, SamplerCallback, Schedule

from .denoiser import Denoiser


class Plan(NamedTuple):
    """When each position is revealed."""

    turn: Tensor
    """``(B, L)`` int64: in which evaluation of its row, from 1; 0 means never."""
    time: Tensor
    """``(B, L)`` float64: the t at which that evaluation is made."""


def levels(denoiser: Denoiser, canvas: Batch, noise: Noise) -> Tensor:
    """Return ``(B, L)`` float64: the share of m(1) at which each position falls.

    Uniform in (0, 1) at the positions to fill, keyed by row and position; -1
    elsewhere.
    """
    u = noise.child("when").uniform(canvas.sample_id, canvas.length)
    return torch.where(denoiser.masked(canvas), u, -1.0)


def on_grid(level: Tensor, times: Tensor, schedule: Schedule) -> Plan:
    """Return the plan on a grid of times: positions of one step share a turn.

    Args:
        level: ``(B, L)``, see `levels`.
        times: ``(T + 1,)`` float64, ascending from 0 to 1. The last step ends at
            mask rate 0, also where the schedule's m(0) is above it, so that every
            position is revealed by a draw.
        schedule: gives the mask rate at each time.
    """
    rates = schedule.mask_rate(times)
    step = torch.searchsorted(rates, level * rates[-1], right=True)
    # Now m(t_{step-1}) <= level m(1) < m(t_step); below m(t_0) it is the last step.
    step = torch.where(level < 0, 0, step.clamp(1, len(times) - 1))
    ordered, order = step.sort(dim=1, descending=True, stable=True)
    fresh = ordered != ordered.roll(1, dims=1)
    fresh[:, 0] = True
    turn = (fresh & (ordered > 0)).cumsum(1) * (ordered > 0)
    return Plan(torch.zeros_like(turn).scatter_(1, order, turn), times[step])


def one_by_one(level: Tensor, schedule: Schedule) -> Plan:
    """Return the plan in continuous time: one position at a turn.

    Args:
        level: ``(B, L)``, see `levels`.
        schedule: gives the time of each mask rate.
    """
    order = level.argsort(dim=1, descending=True, stable=True)
    turn = torch.empty_like(order)
    turn.scatter_(
        1,
        order,
        torch.arange(1, level.shape[1] + 1, device=order.device).expand_as(order),
    )
    most = schedule.mask_rate(torch.ones((), dtype=level.dtype, device=level.device))
    time = schedule.time_of(level.clamp(min=0) * most)
    return Plan(torch.where(level < 0, 0, turn), time)


def reveal(
    denoiser: Denoiser,
    canvas: Batch,
    plan: Plan,
    *,
    noise: Noise,
    batch_size: int,
    callback: SamplerCallback | None,
) -> Sampled:
    """Fill the canvas as the plan says, up to `batch_size` rows in one evaluation.

    A row that is finished makes room for the next one. The token of a position is
    drawn with the number keyed by (noise, sample_id, position).
    """
    tokens = canvas.tokens.clone()
    numbers = noise.child("what").uniform(canvas.sample_id, canvas.length)  # (B, L)
    last = plan.turn.amax(1)
    turns = last.tolist()
    waiting = (row for row, count in enumerate(turns) if count)
    active: list[int] = []
    due = [1] * len(turns)
    changes = 0
    with denoiser.evaluating():
        while True:
            active = [row for row in active if due[row] <= turns[row]]
            active += islice(waiting, batch_size - len(active))
            if not active:
                break
            rows = torch.tensor(active, device=tokens.device)
            now = torch.tensor([due[row] for row in active], device=tokens.device)
            where = plan.turn[rows] == now.unsqueeze(1)  # (b, L)
            t = plan.time[rows].where(where, 0.0).amax(1)
            part = canvas.with_tokens(tokens).select(rows)
            drawn = denoiser.draw(part, where, numbers[rows][where], t)
            tokens[rows] = part.tokens.masked_scatter(where, drawn)
            for row in active:
                due[row] += 1
            changes += 1
            if callback is not None:
                callback(changes, tokens.clone())
    return Sampled(tokens, last * denoiser.passes)
