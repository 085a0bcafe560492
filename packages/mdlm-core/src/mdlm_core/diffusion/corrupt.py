"""The forward process: hide tokens, at random or an exact number of them.

Frozen positions (prompts, separators, padding) are never hidden. Which tokens of a row
are hidden depends on the noise's key, the row's `sample_id` and the position alone,
not on the rows around it. Letters: B batch, L length, n the free tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import MaskingPolicy, Rates, Schedule

from .times import Times, draw_strata, time_at


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A noised batch and what the loss needs to know about it."""

    batch: Batch
    """The batch over the noised canvas: what the backbone sees."""
    targets: Tensor
    """``(B, L)`` int64: the tokens as they were."""
    masked: Tensor
    """``(B, L)`` bool: the positions hidden by the noise, all of them free."""
    weight: Tensor
    """``(B, L)`` float32: the weight of a position's cross-entropy if it is hidden."""
    t: Tensor
    """``(B,)`` float32: for a backbone that sees the time."""


def corrupt(
    batch: Batch,
    times: Times,
    *,
    schedule: Schedule,
    policy: MaskingPolicy | None = None,
    noise: Noise,
    mask_id: int,
) -> Corrupted:
    """Hide each free token independently, at its row's time.

    Args:
        batch: the clean rows.
        times: one time for each row, and its weight.
        schedule: gives the mask rate and the weight of a time.
        policy: which tokens are hidden first; None hides them all alike.
        noise: keyed by what may change a row's mask: ``noise.child("mask", epoch)``.
        mask_id: the token that hides.

    Raises:
        ConfigError: if the policy's rates are coarser than float32.
    """
    rates = (
        Rates(schedule.mask_rate(times.t)[:, None], schedule.weight(times.t)[:, None])
        if policy is None
        else rates_of(policy, batch, times.t, schedule, noise)
    )
    keys = noise.uniform(batch.sample_id, batch.length)
    return _hide(
        batch,
        (keys < rates.mask_prob) & batch.free,
        weight=rates.weight * times.weight[:, None],
        t=times.t,
        mask_id=mask_id,
    )


def rates_of(
    policy: MaskingPolicy,
    batch: Batch,
    t: Tensor,
    schedule: Schedule,
    noise: Noise,
) -> Rates:
    """Return what `policy` answers, computed without autocast.

    A policy with ``draws = True`` is given noise of its own, which is not that of the
    masks.

    A probability in bfloat16 has a step of 0.004 near 1: masks and their weights
    would be wrong by as much.

    Raises:
        ConfigError: if the rates are coarser than float32.
    """
    with torch.autocast(batch.tokens.device.type, enabled=False):
        if getattr(policy, "draws", False):
            answer = cast("Callable[..., Rates]", policy.rates)
            rates = answer(batch, t, schedule, noise=noise.child("policy"))
        else:
            rates = policy.rates(batch, t, schedule)
    for name, value in zip(rates._fields, rates, strict=True):
        if value.dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"the masking policy '{type(policy).__name__}' gives {name} in "
                f"{str(value.dtype).removeprefix('torch.')}; a rate needs float32 or "
                "float64: return it with .float(), and keep its weights in float32"
            )
    return rates


def corrupt_exactly(
    batch: Batch,
    counts: Tensor,
    *,
    noise: Noise,
    mask_id: int,
    schedule: Schedule | None = None,
) -> Corrupted:
    """Hide exactly `counts` free tokens of each row, each subset equally likely.

    The weight of a hidden token is n / k with k of n hidden. For k uniform in 1 to n,

        n E_k E_{|M| = k} (1 / k) sum over M of -log p(x_i | x outside M)

    is the continuous-time bound of a row with alpha = 1 - t (Ou et al., 2024, arXiv
    2406.03736, section 3.3). The time given to the backbone is the one at which the
    schedule hides the share k / n of the tokens.

    Args:
        batch: the clean rows.
        counts: ``(B,)`` int64 k, from 0 (nothing is hidden) to n.
        noise: keyed by what may change a row's mask. The same key hides nested sets
            for different counts.
        mask_id: the token that hides.
        schedule: the one of training, for a backbone that sees the time; without it
            the time is k / n, as with alpha = 1 - t.

    Raises:
        ConfigError: if a row has fewer free tokens than are to be hidden.
    """
    free = batch.free
    n = free.sum(1)
    if bool(((counts > n) | (counts < 0)).any()):
        row = int(((counts > n) | (counts < 0)).nonzero()[0])
        raise ConfigError(
            f"row {row} has {int(n[row])} free tokens, so that {int(counts[row])} "
            f"cannot be hidden; ask for 0 to {int(n[row])}"
        )
    ranks = random_ranks(batch, noise=noise)
    share = n / counts.clamp(min=1)
    return _hide(
        batch,
        ranks < counts[:, None],
        weight=share[:, None],
        t=time_at(counts.double() / n.clamp(min=1), schedule),
        mask_id=mask_id,
    )


def corrupt_counts(
    batch: Batch,
    *,
    rows: Tensor,
    of: int,
    noise: Noise,
    mask_id: int,
    schedule: Schedule | None = None,
) -> Corrupted:
    """Hide exact numbers of tokens that are stratified over the global batch.

    Args:
        batch: the clean rows.
        rows: ``(B,)`` int64, their indices in the global batch.
        of: the rows of the global batch.
        noise: the generator of this step.
        mask_id: the token that hides.
        schedule: see `corrupt_exactly`.
    """
    counts = draw_counts(batch, noise=noise.child("count"), rows=rows, of=of)
    return corrupt_exactly(
        batch,
        counts,
        noise=noise.child("mask"),
        mask_id=mask_id,
        schedule=schedule,
    )


def draw_counts(batch: Batch, *, noise: Noise, rows: Tensor, of: int) -> Tensor:
    """Return ``(B,)`` numbers of tokens to hide, uniform in 1 to n for each row.

    They are stratified over the global batch, as shares of n; a row without a free
    token gets 0. See `draw_strata` for the arguments.
    """
    return count_at(draw_strata(noise=noise, rows=rows, of=of), batch.free.sum(1))


def count_at(u: Tensor, n: Tensor) -> Tensor:
    """Return the quantile at `u` in [0, 1) of the uniform law on 1 to n, 0 if n is."""
    return torch.minimum((u * n).floor().long() + 1, n)


def random_ranks(batch: Batch, *, noise: Noise) -> Tensor:
    """Return each free position's place in a random order of its row's free positions.

    Returns:
        ``(B, L)`` int64: 0 to n - 1 at free positions, n and more elsewhere.
    """
    keys = noise.uniform(batch.sample_id, batch.length)
    order = keys.masked_fill(batch.frozen, 2.0).argsort(dim=1, stable=True)
    ranks: Tensor = order.argsort(1)
    return ranks


def _hide(
    batch: Batch, masked: Tensor, *, weight: Tensor, t: Tensor, mask_id: int
) -> Corrupted:
    return Corrupted(
        batch=batch.with_tokens(batch.tokens.masked_fill(masked, mask_id)),
        targets=batch.tokens,
        masked=masked,
        weight=weight.float().expand(batch.tokens.shape),
        t=t.float(),
    )
