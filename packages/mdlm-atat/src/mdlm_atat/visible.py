"""Masks that depend on what stays visible, drawn in two rounds.

A mask that depends on the tokens it hides says something about them. Here it does not:
in Rubin's words the hidden tokens are missing at random, and any positive weights
leave the posterior of the tokens as the optimum (Rubin, 1976). Letters: B batch,
L length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Rates, Schedule

from .masking import AdaptiveMaskingScheduler

Importance = Callable[[Batch, Tensor], Tensor]
Focus = Callable[[Tensor, Tensor], Tensor | None]


def visible_rates(
    masking: AdaptiveMaskingScheduler,
    importance: Importance,
    batch: Batch,
    t: Tensor,
    schedule: Schedule,
    *,
    kappa: float,
    focus: Focus | None,
    noise: Noise,
    mask_id: int,
) -> Rates:
    """Return the chances of the second round, and weights that fit both.

    With the mask rate R and u = R(t) / R(1), the first round masks each free token
    with the chance ``R(1) sqrt(u)``. What it masked is scored from what it left. In
    the second round a masked token stays hidden with the chance c_i, whose mean over
    the masked tokens is ``sqrt(u)``, and is shown again otherwise: hidden in the end
    is the share R(t) on average. The weight ``weight(t) (sqrt(u) / c_i)^rho`` of a
    hidden token has the expectation ``weight(t) R(t)`` for rho = 1, as for uniform
    masks. Tokens that the first round left have the chance 0.

    Args:
        masking: turns scores into chances.
        importance: scores a canvas at the time at which as many tokens are masked.
        batch: the clean rows.
        t: ``(B,)``.
        schedule: gives R and the weight.
        kappa: the logit shift of one standard deviation of importance.
        focus: factors of the weights, see `CurriculumScheduler.focus`.
        noise: of the first round.
        mask_id: the token that hides.

    Returns:
        Both ``(B, L)`` float64.
    """
    t = t.double()
    last = schedule.mask_rate(torch.ones_like(t))
    share = (schedule.mask_rate(t) / last).clamp(0, 1).sqrt()  # (B,)
    keys = noise.child("first-round").uniform(batch.sample_id, batch.length)
    first = (keys < (last * share)[:, None]) & batch.free
    canvas = batch.with_tokens(batch.tokens.masked_fill(first, mask_id))
    score = importance(canvas, schedule.time_of(last * share))
    stay = masking.shares(masking.offsets(score, first, t, kappa), first, share)
    weight = schedule.weight(t)[:, None] * masking.correction(stay, share)
    factor = focus(score, first) if focus is not None else None
    if factor is not None:  # what a row is worth stays as it is
        mass = stay * weight * first
        after = (mass * factor).sum(1, keepdim=True)
        before = mass.sum(1, keepdim=True)
        weight = weight * factor * torch.where(after > 0, before / after, 1.0)
    return Rates(torch.where(first, stay, 0.0), weight)
