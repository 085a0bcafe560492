"""Estimates of a bound on -log p, with their standard errors.

All estimators measure one model, the backbone's any-order law

    p(x) = E over orders s of the product over i of p(x_s(i) | x_s(1), ..., x_s(i-1)),

and all have the same expectation, which is above -log p(x) by Jensen's inequality:
E over orders of -log of the product. A mask of k tokens and one of them to restore is
what a random order looks like from inside (Ou et al., 2024, arXiv 2406.03736, section
3.3). Letters: B batch, L length, D width, N selected positions, n the free tokens of a
row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule

from .corrupt import random_ranks
from .draws import (
    MaskDraw,
    hide_by_count,
    hide_by_size,
    hide_by_time,
    hide_in_order,
    hide_some,
    measuring,
    row_nll,
    stratum,
)

__all__ = [
    "Estimate",
    "any_order_chain",
    "continuous_time",
    "draw_error",
    "exact_counts",
    "hide_some",
    "sizes",
]


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

    def hide(keyed: Batch, u: Tensor, noise: Noise) -> MaskDraw:
        return hide_by_count(
            keyed, u, noise=noise, mask_id=backbone.mask_id, schedule=schedule
        )

    return _stratified(backbone, batch, hide, draws=draws, noise=noise, common=common)


def sizes(
    backbone: Backbone,
    batch: Batch,
    *,
    draws: int,
    noise: Noise,
    power: float = 0.5,
    common: bool = False,
    schedule: Schedule | None = None,
) -> Estimate:
    """Estimate the bound by exact numbers k of hidden tokens, drawn from a law q.

    ``E_{k ~ q} E_{|M| = k} (1 / (k q(k))) sum over M of -log p(x_i | x outside M)``
    with q(k) proportional to ``k^-power``, stratified over the draws. Few hidden
    tokens, whose weight n / k would be large, are drawn more often.

    The other arguments are those of `exact_counts`, which is this with power 0.
    """

    def hide(keyed: Batch, u: Tensor, noise: Noise) -> MaskDraw:
        return hide_by_size(
            keyed,
            u,
            power=power,
            noise=noise,
            mask_id=backbone.mask_id,
            schedule=schedule,
        )

    return _stratified(backbone, batch, hide, draws=draws, noise=noise, common=common)


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

    def hide(keyed: Batch, u: Tensor, noise: Noise) -> MaskDraw:
        return hide_by_time(
            keyed, u, noise=noise, schedule=schedule, mask_id=backbone.mask_id
        )

    return _stratified(backbone, batch, hide, draws=draws, noise=noise, common=common)


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
    with measuring(backbone):
        for draw in range(draws):
            ranks = random_ranks(keyed, noise=noise.child("mask", draw))
            nats = torch.zeros(len(batch), dtype=torch.float64, device=n.device)
            for known in range(int(n.max())):
                rows = (n > known).nonzero()[:, 0]
                part = batch.select(rows)
                step = hide_in_order(
                    part,
                    ranks[rows],
                    torch.full_like(rows, known),
                    mask_id=backbone.mask_id,
                    schedule=schedule,
                )
                nats[rows] += row_nll(backbone, part, step)
            values.append(nats)
    return _summary(values, n, stratified=False, common=common)


def _stratified(
    backbone: Backbone,
    batch: Batch,
    hide: Callable[[Batch, Tensor, Noise], MaskDraw],
    *,
    draws: int,
    noise: Noise,
    common: bool,
) -> Estimate:
    """Average draws whose numbers u lie each in its own part of [0, 1)."""
    keyed, n = _keyed(batch, draws, common), batch.free.sum(1)
    values = []
    with measuring(backbone):
        for draw in range(draws):
            u = stratum(keyed, draw, draws, noise.child("time", draw))
            hidden = hide(keyed, u, noise.child("mask", draw))
            values.append(row_nll(backbone, batch, hidden) * hidden.weight)
    return _summary(values, n, stratified=True, common=common)


def _keyed(batch: Batch, draws: int, common: bool) -> Batch:
    """Return the batch with the row ids that the noise shall see."""
    if draws < 1:
        raise ConfigError(f"draws is {draws}; it must be at least 1")
    if not common:
        return batch
    return replace(batch, sample_id=torch.zeros_like(batch.sample_id))


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
