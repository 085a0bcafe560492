"""Estimates of a bound on -log p, with their standard errors.

All three estimators measure one model, the backbone's any-order law

    p(x) = E over orders s of the product over i of p(x_s(i) | x_s(1), ..., x_s(i-1)),

and all have the same expectation, which is above -log p(x) by Jensen's inequality:
E over orders of -log of the product. A mask of k tokens and one of them to restore is
what a random order looks like from inside (Ou et al., 2024, arXiv 2406.03736, section
3.3). Letters: B batch, L length, D width, N selected positions, n the free tokens of a
row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.linear_cross_entropy import linear_log_prob
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule

from .corrupt import count_at, random_ranks
from .objective import chunked_nll
from .times import time_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An upper bound on -log p of each row, averaged over draws."""

    nats: Tensor
    """``(B,)`` float64: the mean over draws, in nats per row."""
    se: Tensor
    """``(B,)`` float64: its standard error from the draws alone; nan for one draw."""
    draws: int
    """How many draws each row had."""
    tokens: Tensor
    """``(B,)`` int64: the free tokens of each row."""
    values: Tensor
    """``(B, draws)`` float64: each draw, for paired comparisons under common masks."""
    stratified: bool
    """Whether draw d comes from the d-th part of a partition."""
    common: bool = False
    """Whether all rows had the same masks, so that their errors go together."""

    @classmethod
    def join(cls, parts: Sequence[Estimate]) -> Estimate:
        """Return the estimates of several batches, made in one way, as one."""
        return replace(
            parts[0],
            nats=torch.cat([part.nats for part in parts]),
            se=torch.cat([part.se for part in parts]),
            tokens=torch.cat([part.tokens for part in parts]),
            values=torch.cat([part.values for part in parts]),
        )

    def per_token(self) -> tuple[float, float]:
        """Return the nats per token over all rows, and the standard error of that.

        The error is that of a ratio of sums over rows: it covers which rows were
        measured and which masks were drawn. Under common masks the error that all
        rows share is added. For one row, only the draws count.

        Raises:
            DataError: if no row has a free token.
        """
        tokens = self.tokens.double()
        total = float(tokens.sum())
        if total == 0:
            raise DataError(
                "no position is free, so that there is nothing to score; "
                "freeze prompts and padding only"
            )
        mean = float(self.nats.sum()) / total
        rows = len(tokens)
        if rows == 1:
            return mean, float(self.se[0]) / total
        residual = self.nats - mean * tokens
        variance = float(residual.square().sum()) * rows / (rows - 1)
        if self.common:
            shared = draw_error(self.values.sum(0)[None], stratified=self.stratified)
            variance += float(shared[0]) ** 2
        return mean, variance**0.5 / total


def draw_error(values: Tensor, *, stratified: bool) -> Tensor:
    """Return the standard error ``(B,)`` of the mean of each row of ``(B, draws)``.

    With one draw in each stratum, the spread inside a stratum is estimated from
    neighbouring strata taken two by two ("collapsed strata"; Cochran, "Sampling
    techniques", 1977, chapter 5A), which errs to the large side only.
    """
    draws = values.shape[1]
    if draws == 1:
        return values.new_full(values.shape[:1], torch.nan)
    if not stratified:
        spread: Tensor = values.std(1) / draws**0.5
        return spread
    paired = draws if draws % 2 == 0 else draws - 3
    differences = values[:, 0:paired:2] - values[:, 1:paired:2]
    variance = differences.square().sum(1)
    if draws % 2:
        variance = variance + 3 * values[:, paired:].var(1)
    error: Tensor = variance.sqrt() / draws
    return error


def exact_counts(
    backbone: Backbone,
    batch: Batch,
    *,
    draws: int,
    noise: Noise,
    common: bool = False,
    schedule: Schedule | None = None,
) -> Estimate:
    """Estimate the bound by masks with exact numbers of hidden tokens.

    ``n E_k E_{|M| = k} (1 / k) sum over M of -log p(x_i | x outside M)``, with k
    uniform in 1 to n and stratified over the draws. A backbone that sees the time is
    given the one at which the schedule hides the share k / n. Of the estimators this
    one has the smallest error by far.

    Args:
        backbone: the denoiser; dropout is off while it is measured.
        batch: the clean rows. Rows with the same `sample_id` get the same masks.
        draws: evaluations of each row.
        noise: the generator of this measurement.
        common: whether all rows get the same masks, whatever their `sample_id`.
        schedule: the one of training, for a backbone that sees the time; without it
            the time is k / n, as with alpha = 1 - t.
    """
    keyed, n = _keyed(batch, draws, common), batch.free.sum(1)
    values = []
    with _measuring(backbone):
        for draw in range(draws):
            k = count_at(_stratum(keyed, draw, draws, noise), n)
            ranks = random_ranks(keyed, noise=noise.child("mask", draw))
            masked = ranks < k[:, None]
            t = time_at(k.double() / n.clamp(min=1), schedule)
            nats = _cross_entropy(backbone, batch, masked, masked, t)
            values.append(nats * n / k.clamp(min=1))
    return _summary(values, n, stratified=True, common=common)


def continuous_time(
    backbone: Backbone,
    batch: Batch,
    *,
    schedule: Schedule,
    draws: int,
    noise: Noise,
    common: bool = False,
) -> Estimate:
    """Estimate the bound by masks at times t, as the reference measures it.

    ``integral over t of weight(t) E_{x_t} sum over hidden i of -log p(x_i | x_t)``,
    stratified over the draws. Two things make it an honest bound. Schedules whose mask
    rate m does not start at 0 or end at 1 leave out a piece of the integral of dm / m;
    it is put back, so that the expectation is the same for every schedule. And masks
    that hide nothing are never drawn: the chance of at least one hidden token,
    ``1 - (1 - m)^n``, goes into the weight, which is then bounded.

    The arguments are those of `exact_counts`, and the schedule that says how draws
    are spread over mask rates.
    """
    keyed, n = _keyed(batch, draws, common), batch.free.sum(1)
    values = []
    with _measuring(backbone):
        for draw in range(draws):
            u = _stratum(keyed, draw, draws, noise)
            rate, weight = _rate_and_weight(u, schedule)
            keys = noise.child("mask", draw).uniform(keyed.sample_id, batch.length)
            masked, chance = hide_some(keys, batch.free, rate)
            t = schedule.time_of(rate)
            nats = _cross_entropy(backbone, batch, masked, masked, t)
            values.append(nats * weight * chance)
    return _summary(values, n, stratified=True, common=common)


def any_order_chain(
    backbone: Backbone,
    batch: Batch,
    *,
    draws: int,
    noise: Noise,
    common: bool = False,
    schedule: Schedule | None = None,
) -> Estimate:
    """Estimate the bound by restoring all tokens, one by one, in random orders.

    ``sum over i of -log p(x_s(i) | x_s(1), ..., x_s(i-1))`` for each drawn order s.
    One draw costs n evaluations, and is -log of a normalised probability by itself.

    The arguments are those of `exact_counts`; `draws` counts orders.
    """
    keyed, n = _keyed(batch, draws, common), batch.free.sum(1)
    values = []
    with _measuring(backbone):
        for draw in range(draws):
            ranks = random_ranks(keyed, noise=noise.child("mask", draw))
            nats = torch.zeros(len(batch), dtype=torch.float64, device=n.device)
            for known in range(int(n.max())):
                rows = (n > known).nonzero()[:, 0]
                nats[rows] += _cross_entropy(
                    backbone,
                    batch.select(rows),
                    (ranks[rows] >= known) & batch.free[rows],
                    ranks[rows] == known,
                    time_at((n[rows] - known).double() / n[rows], schedule),
                )
            values.append(nats)
    return _summary(values, n, stratified=False, common=common)


def _keyed(batch: Batch, draws: int, common: bool) -> Batch:
    """Return the batch with the row ids that the noise shall see."""
    if draws < 1:
        raise ConfigError(f"draws is {draws}; it must be at least 1")
    if not common:
        return batch
    return replace(batch, sample_id=torch.zeros_like(batch.sample_id))


def _stratum(keyed: Batch, draw: int, draws: int, noise: Noise) -> Tensor:
    """Return ``(B,)`` uniform numbers in the `draw`-th part of [0, 1)."""
    jitter = noise.child("time", draw).uniform(keyed.sample_id, 1)[:, 0]
    return (draw + jitter) / draws


def _summary(
    values: list[Tensor], tokens: Tensor, *, stratified: bool, common: bool
) -> Estimate:
    stacked = torch.stack(values, 1)
    return Estimate(
        nats=stacked.mean(1),
        se=draw_error(stacked, stratified=stratified),
        draws=len(values),
        tokens=tokens,
        values=stacked,
        stratified=stratified,
        common=common,
    )


def _rate_and_weight(u: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Return mask rates over all of (0, 1), and what makes up for their density.

    [0, 1) is stretched over three pieces laid end to end: the rates below the
    schedule's, its times, the rates above it. Over the outer two the integrand is dm /
    m, over the times it is weight(t) dt, which is the same thing.
    """
    low, high = schedule.mask_rate(u.new_tensor([0.0, 1.0])).tolist()
    length = low + 1 + (1 - high)
    place = u * length
    t = (place - low).clamp(0, 1)
    above = place > low + 1
    rate = torch.where(place < low, place, schedule.mask_rate(t))
    rate = torch.where(above, (high + (place - low - 1)).clamp(max=1), rate)
    weight = torch.where((place < low) | above, 1 / rate, schedule.weight(t))
    return rate, weight * length


def hide_some(keys: Tensor, free: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Hide free positions with chance `rate` each, given that at least one is hidden.

    The smallest of n uniform keys is moved to its law below `rate`, and the others,
    which are uniform above the smallest, to the interval above its new place.

    Args:
        keys: ``(B, L)`` float64, uniform.
        free: ``(B, L)`` bool.
        rate: ``(B,)`` float64 in (0, 1].

    Returns:
        The mask ``(B, L)``, and the chance ``(B,)`` that any would be hidden.
    """
    n = free.sum(1).clamp(min=1)
    keys = keys.masked_fill(~free, torch.inf)
    least = keys.amin(1).nan_to_num(posinf=0.5)  # a row without a free position
    chance = -torch.expm1(n * torch.log1p(-rate))
    quantile = -torch.expm1(n * torch.log1p(-least))
    moved = -torch.expm1(torch.log1p(-chance * quantile) / n)
    spread = (1 - moved) / (1 - least)
    others = moved[:, None] + (keys - least[:, None]) * spread[:, None]
    first = keys == least[:, None]
    return ((others < rate[:, None]) | first) & free, chance


def _cross_entropy(
    backbone: Backbone, batch: Batch, masked: Tensor, scored: Tensor, t: Tensor
) -> Tensor:
    """Return ``(B,)`` float64 sums of -log p over `scored`, with `masked` hidden.

    The head and its softmax run in float32 even under autocast.
    """
    canvas = batch.with_tokens(batch.tokens.masked_fill(masked, backbone.mask_id))
    states = backbone.hidden(canvas, t.float())[scored]  # (N, D)
    targets = batch.tokens[scored]
    head = getattr(backbone, "head", None)
    with torch.autocast(states.device.type, enabled=False):
        if type(head) is nn.Linear:
            states = states.to(head.weight.dtype)
            nll = -linear_log_prob(
                states, head.weight, head.bias, targets, backbone.mask_id
            )
        else:
            nll = chunked_nll(backbone, states.to(_dtype(backbone, states)), targets)
    sums = torch.zeros(len(batch), dtype=torch.float64, device=nll.device)
    return sums.index_add(0, scored.nonzero()[:, 0], nll.double())


def _dtype(backbone: Backbone, states: Tensor) -> torch.dtype:
    """Return the type of the backbone's weights, or of the states if it has none."""
    if not isinstance(backbone, nn.Module):
        return states.dtype
    return next(backbone.parameters(), states).dtype


@contextmanager
def _measuring(backbone: Backbone) -> Iterator[None]:
    """Take no gradients and switch dropout off, and put it back afterwards."""
    with torch.no_grad(), evaluating(backbone):
        yield
