"""One draw of an estimator: which tokens it hides, and what their cross-entropy counts.

Any estimate of the any-order bound (`likelihood`) is a mean over draws of

    weight * sum over scored i of -log p(x_i | x outside the mask).

Which tokens a row's draw hides depends on the noise's key and on the row's `sample_id`
alone, so that rows with one id, of several classes or models, see the same masks.
Positions that are frozen and hold the mask already are tokens that nobody knows: they
stay masked, and count as hidden where a backbone sees the time, but are not scored.

Letters: B batch, L length, D width, N selected positions, n the free tokens of a row, k
the hidden ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.linear_cross_entropy import linear_log_prob
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule

from .corrupt import count_at, random_ranks
from .objective import chunked_nll
from .times import time_at


@dataclass(frozen=True, slots=True)
class MaskDraw:
    """What one draw of each row hides."""

    masked: Tensor
    """``(B, L)`` bool: hidden positions, all of them free."""
    scored: Tensor
    """``(B, L)`` bool: those of them whose -log p counts."""
    weight: Tensor
    """``(B,)`` float64: how much."""
    t: Tensor
    """``(B,)`` float64: for a backbone that sees the time."""


def hide_by_count(
    batch: Batch,
    u: Tensor,
    *,
    noise: Noise,
    mask_id: int,
    schedule: Schedule | None = None,
) -> MaskDraw:
    """Hide exactly k tokens, k being the quantile at `u` of the uniform law on 1 to n.

    The weight is n / k, as in `likelihood.exact_counts`.

    Args:
        batch: the clean rows.
        u: ``(B,)`` float64 in [0, 1), stratified over draws for a smaller error.
        noise: decides which k tokens.
        mask_id: the token that hides.
        schedule: the one of training, for a backbone that sees the time.
    """
    n = batch.free.sum(1)
    k = count_at(u, n)
    return _exactly(batch, k, n / k.clamp(min=1), noise, mask_id, schedule)


def hide_by_size(
    batch: Batch,
    u: Tensor,
    *,
    power: float,
    noise: Noise,
    mask_id: int,
    schedule: Schedule | None = None,
) -> MaskDraw:
    """Hide exactly k tokens with a chance q(k) proportional to ``k^-power``.

    The bound is the sum over k of the mean of -log p over k hidden tokens, so that the
    weight is ``1 / (k q(k))``. Power 0 is `hide_by_count`; with 1 all weights of a row
    are the same, the harmonic number of n.

    The arguments are those of `hide_by_count`.
    """
    n = batch.free.sum(1)
    k, weight = size_at(u, n, power=power)
    return _exactly(batch, k, weight, noise, mask_id, schedule)


def size_at(u: Tensor, n: Tensor, *, power: float) -> tuple[Tensor, Tensor]:
    """Return the quantile k at `u` of the law ``k^-power`` on 1 to n, and 1 / (k q(k)).

    Both are ``(B,)``; k is 0 if n is.
    """
    most = max(int(n.max()) if len(n) else 0, 1)
    sizes = torch.arange(1, most + 1, dtype=torch.float64)
    mass = sizes.pow(-power).cumsum(0).to(u.device)  # on the CPU: the same everywhere
    total = mass[n.clamp(min=1) - 1]
    k = torch.minimum(torch.searchsorted(mass, u * total, right=True) + 1, n)
    return k, total * k.clamp(min=1).double().pow(power - 1)


def hide_by_time(
    batch: Batch, u: Tensor, *, noise: Noise, schedule: Schedule, mask_id: int
) -> MaskDraw:
    """Hide each token with the mask rate of a time, given that at least one is hidden.

    `u` is the place among the rates; see `likelihood.continuous_time`. The other
    arguments are those of `hide_by_count`.
    """
    rate, weight = _rate_and_weight(u, schedule)
    keys = noise.uniform(batch.sample_id, batch.length)
    masked, chance = hide_some(keys, batch.free, rate)
    n, gaps = batch.free.sum(1), _gaps(batch, mask_id)
    hidden = torch.where(gaps > 0, (rate * n + gaps) / (n + gaps).clamp(min=1), rate)
    return MaskDraw(masked, masked, weight * chance, schedule.time_of(hidden))


def hide_in_order(
    batch: Batch,
    ranks: Tensor,
    known: Tensor,
    *,
    mask_id: int,
    schedule: Schedule | None = None,
) -> MaskDraw:
    """Hide what is not among the first `known` tokens of an order, and score the next.

    The weight is 1. The sum over 0 to n - 1 known tokens is -log of a normalised
    probability. A row of which all tokens are known has nothing to score.

    Args:
        batch: the clean rows.
        ranks: ``(B, L)`` the order of the free positions; see `corrupt.random_ranks`.
        known: ``(B,)`` int64.
        mask_id: the token that hides.
        schedule: see `hide_by_count`.
    """
    n = batch.free.sum(1)
    return MaskDraw(
        masked=(ranks >= known[:, None]) & batch.free,
        scored=(ranks == known[:, None]) & batch.free,
        weight=torch.ones_like(known, dtype=torch.float64),
        t=_time(batch, (n - known).clamp(min=0), n, mask_id, schedule),
    )


def token_nll(backbone: Backbone, batch: Batch, draw: MaskDraw) -> Tensor:
    """Return ``(N,)`` -log p of each scored token, in row-major order.

    The head and its softmax run in float32 even under autocast. Call it inside
    `measuring`.

    Args:
        backbone: the denoiser.
        batch: the clean rows.
        draw: what is hidden and scored, N positions in all.
    """
    canvas = batch.with_tokens(batch.tokens.masked_fill(draw.masked, backbone.mask_id))
    states = backbone.hidden(canvas, draw.t.float())[draw.scored]  # (N, D)
    targets = batch.tokens[draw.scored]
    head = getattr(backbone, "head", None)
    with torch.autocast(states.device.type, enabled=False):
        if type(head) is nn.Linear:
            states = states.to(head.weight.dtype)
            return -linear_log_prob(
                states, head.weight, head.bias, targets, backbone.mask_id
            )
        return chunked_nll(backbone, states.to(_dtype(backbone, states)), targets)


def row_nll(backbone: Backbone, batch: Batch, draw: MaskDraw) -> Tensor:
    """Return ``(B,)`` float64 sums of `token_nll` over each row, without the weight."""
    nll = token_nll(backbone, batch, draw)
    sums = torch.zeros(len(batch), dtype=torch.float64, device=nll.device)
    return sums.index_add(0, draw.scored.nonzero()[:, 0], nll.double())


@contextmanager
def measuring(backbone: object) -> Iterator[None]:
    """Take no gradients and switch dropout off, and put it back afterwards."""
    with torch.no_grad(), evaluating(backbone):
        yield


def stratum(
    batch: Batch, draw: Tensor | int, draws: Tensor | int, noise: Noise
) -> Tensor:
    """Return ``(B,)`` uniform numbers in the `draw`-th part of [0, 1) of `draws`."""
    jitter = noise.uniform(batch.sample_id, 1)[:, 0]
    return (draw + jitter) / draws


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


def _exactly(
    batch: Batch,
    k: Tensor,
    weight: Tensor,
    noise: Noise,
    mask_id: int,
    schedule: Schedule | None,
) -> MaskDraw:
    masked = random_ranks(batch, noise=noise) < k[:, None]
    t = _time(batch, k, batch.free.sum(1), mask_id, schedule)
    return MaskDraw(masked, masked, weight.double(), t)


def _time(
    batch: Batch, k: Tensor, n: Tensor, mask_id: int, schedule: Schedule | None
) -> Tensor:
    """Return the times ``(B,)`` at which k of n tokens are hidden besides the gaps."""
    gaps = _gaps(batch, mask_id)
    return time_at((k + gaps).double() / (n + gaps).clamp(min=1), schedule)


def _gaps(batch: Batch, mask_id: int) -> Tensor:
    """Return ``(B,)`` how many tokens of a row nobody knows."""
    return ((batch.tokens == mask_id) & batch.frozen & ~batch.pad).sum(1)


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


def _dtype(backbone: Backbone, states: Tensor) -> torch.dtype:
    """Return the type of the backbone's weights, or of the states if it has none."""
    if not isinstance(backbone, nn.Module):
        return states.dtype
    return next(backbone.parameters(), states).dtype
