"""The bound of a variant's own process, on held-out rows.

For masks whose chances ``m_i(u)`` depend on the clean row x, and a reverse process
that reveals position i of a canvas z with rate ``r_i(z, u)``,

    -log p(x) <= integral over u in (0, 1) of E_z sum over hidden i of
                 A_i (-log p(x_i | z)) + A_i log(A_i / r_i) - A_i + r_i,   A = m' / m,

with m(0) = 0 and m(1) = 1. The number describes that very process and its sampler. It
does not compare with the uniform bound, nor with the own bound of another variant.

Letters: B batch, L length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.likelihood import Estimate, draw_error
from mdlm_core.diffusion.times import time_at
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, Schedule
from mdlm_core.tasks.bound import ROWS_AT_ONCE, gather, on_cpu
from mdlm_core.tasks.held_out import held_out

from .adaptive_process import AdaptiveProcess
from .policy import AdaptiveMasking


class Process(Protocol):
    """A forward process and its model, on u in (0, 1), where all is hidden at 1."""

    @property
    def label(self) -> str:
        """Which schedule this is."""
        ...

    @property
    def schedule(self) -> Schedule:
        """Gives the time t of each u, for networks that see it."""
        ...

    def stretch(self, batch: Batch) -> Tensor:
        """Return a ``(B,)``, at least 1, such that no ``m_i(v^a)`` rises above O(v).

        u = v^a is drawn with v uniform, so that the integrand over v is bounded.
        """
        ...

    def log_chance(self, batch: Batch, log_u: Tensor, t: Tensor) -> Tensor:
        """Return ``log m`` ``(B, L)`` float64; the arguments are those of `costs`."""
        ...

    def costs(self, batch: Batch, masked: Tensor, log_u: Tensor, t: Tensor) -> Tensor:
        """Return ``(B,)``: u times the sum over the hidden positions.

        Args:
            batch: the clean rows.
            masked: ``(B, L)`` bool.
            log_u: ``(B,)`` float64.
            t: ``(B,)`` float64, the times of the run's schedule.
        """
        ...


@dataclass(frozen=True, slots=True)
class OwnBound:
    """An upper bound on -log p of a variant's own process, on held-out rows."""

    nats: float
    """Nats per token."""
    nats_se: float
    """Its standard error: from the draws and from the choice of rows."""
    rows: int
    tokens: int
    draws: int
    label: str
    """The schedule it belongs to."""


def own_bound(
    run_or_module: Any,
    source: DataSource | None = None,
    *,
    draws: int,
    noise: Noise,
    rows: int = 0,
) -> OwnBound:
    """Estimate a variant's own bound on `rows` held-out rows, in float32.

    The rows are those of core's `measure`. No part of the integral is left out: u goes
    from 0 to 1, whatever times training drew and whatever share the schedule leaves
    visible at t = 1.

    Args:
        run_or_module: a loaded run or its module, of task genmd4 or with the masking
            policy "atat" trained with ``objective=nelbo``.
        source: the data; by default that of the run.
        draws: draws for each row, stratified.
        noise: the generator; the same one gives the same masks.
        rows: how many rows; 0 means all.

    Raises:
        UsageError: if what was trained has no bound of its own, or there is no data.
        DataError: if there is no token to score.
    """
    module = getattr(run_or_module, "module", run_or_module)
    source = getattr(run_or_module, "source", None) if source is None else source
    if source is None:
        raise UsageError("own_bound of a module needs the data: pass source")
    process = process_of(module)
    device = next(module.parameters()).device
    with (
        torch.no_grad(),
        evaluating(module),
        torch.autocast(device.type, enabled=False),
    ):
        parts = [
            estimate(process, batch.to(device), draws=draws, noise=noise)
            for batch in held_out(source, rows, at_once=ROWS_AT_ONCE)
            if len(batch)
        ]
    found = gather([on_cpu(part) for part in parts])
    if not found:
        raise DataError("the validation split has no rows to score")
    joined = Estimate.join(found)
    if rows:
        joined = replace(
            joined,
            nats=joined.nats[:rows],
            se=joined.se[:rows],
            tokens=joined.tokens[:rows],
            values=joined.values[:rows],
        )
    nats, error = joined.per_token()
    tokens = int(joined.tokens.sum())
    return OwnBound(nats, error, len(joined.tokens), tokens, draws, process.label)


def process_of(module: nn.Module) -> Process:
    """Return the process of a trained module.

    Raises:
        UsageError: if it has no bound of its own.
    """
    make = getattr(module, "own_process", None)
    if make is not None:
        return cast("Process", make())
    policy = getattr(module, "policy", None)
    if not isinstance(policy, AdaptiveMasking):
        raise UsageError(
            "this run hides tokens uniformly, so that its own bound is the uniform "
            "one: use mdlm evaluate"
        )
    if policy.config.objective != "nelbo":
        raise UsageError(
            f"this run was trained with masking.objective={policy.config.objective}: "
            "its weights are those of uniform masks on average and of no bound, and "
            "no rate of a reverse process was learned. Its denoiser has the uniform "
            "bound (mdlm evaluate); for a bound of its own train with "
            "masking.objective=nelbo"
        )
    process = AdaptiveProcess(module, policy)
    still = not process.kappa and not policy.config.position_bias
    if policy.reverse is not None and still:
        raise UsageError(
            "the bias of this run is 0 at this step (kappa, which is 0 in the warm-up "
            "and falls to 0 at the end), so that its own process hides tokens "
            "uniformly and its own bound would be that of uniform masks; train with "
            "masking.curriculum.final_uniform=0, or evaluate an earlier checkpoint"
        )
    return process


def estimate(process: Process, batch: Batch, *, draws: int, noise: Noise) -> Estimate:
    """Estimate the own bound of each row of `batch`; gradients are not switched off.

    With u = v^a the integrand over v is ``(a / v) P E[costs]``, where P is the chance
    that anything is hidden and E is over masks that do hide something: masks that hide
    nothing cost nothing and are never drawn.
    """
    values = []
    stretch = process.stretch(batch)
    for draw in range(draws):
        jitter = noise.child("time", draw).uniform(batch.sample_id, 1)[:, 0]
        v = (draw + jitter) / draws
        log_u = stretch * v.log()
        keys = noise.child("mask", draw).uniform(batch.sample_id, batch.length)
        highest = process.schedule.mask_rate(torch.ones_like(v))
        t = time_at(log_u.exp() * highest, process.schedule)
        log_m = process.log_chance(batch, log_u, t)
        masked, chance = hide_some(keys, batch.free, log_m)
        costs = process.costs(batch, masked, log_u, t).double()
        values.append(stretch / v * chance * costs)
    stacked = torch.stack(values, 1)
    return Estimate(
        nats=stacked.mean(1),
        se=draw_error(stacked, stratified=True),
        draws=draws,
        tokens=batch.free.sum(1),
        values=stacked,
        stratified=True,
    )


def hide_some(keys: Tensor, free: Tensor, log_m: Tensor) -> tuple[Tensor, Tensor]:
    """Hide each free position with its own chance, given that at least one is hidden.

    Going through a row from the left, a position is hidden with chance m_i over the
    chance that any from i on is hidden, until one is, and with chance m_i after that.

    Args:
        keys: ``(B, L)`` float64, uniform.
        free: ``(B, L)`` bool.
        log_m: ``(B, L)`` float64, not positive.

    Returns:
        The mask ``(B, L)``, and the chance ``(B,)`` that any would be hidden.
    """
    log_m = log_m.masked_fill(~free, -torch.inf)
    near_one = torch.log(-torch.expm1(log_m))  # -inf where m is 1
    log_shown = torch.where(log_m > -1, near_one, torch.log1p(-log_m.exp()))
    from_here = log_shown.flip(1).cumsum(1).flip(1)  # log of: none from i on is hidden
    some = -torch.expm1(from_here)
    first_chance = torch.where(some > 0, log_m.exp() / some, 0.0)
    candidate = keys < first_chance
    started = candidate.cumsum(1) > 0
    before = started.roll(1, 1)
    before[:, 0] = False
    masked = torch.where(before, keys < log_m.exp(), candidate) & free
    return masked, some[:, 0]
