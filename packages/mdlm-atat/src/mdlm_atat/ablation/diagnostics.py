"""What an adaptive policy has learned: is importance where the loss is?

Letters: B batch, L length, N hidden tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_atat.policy import AdaptiveMasking
from mdlm_atat.visible import visible_rates
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, Schedule
from mdlm_core.train.runs import LoadedRun

from .score import (
    QUARTERS,
    TIME_BINS,
    Parts,
    Scoring,
    draws_of,
    frequency_quarters,
    time_bin,
    windows,
)
from .statistics import percentiles, rank_correlation

ROWS = 128
"""Held-out windows that are looked at, at most."""
GROUPS = 10
"""Groups of equal size into which tokens are put by their importance."""
TIMES = tuple((index + 0.5) / TIME_BINS for index in range(TIME_BINS))


def diagnose(
    run: LoadedRun, scoring: Scoring, *, measured: DataSource | None = None
) -> dict[str, Any] | None:
    """Return the diagnostics of the run's policy; None if it has no importance.

    Args:
        run: a loaded run.
        scoring: how many windows and draws, and which masks.
        measured: whose validation split is looked at; None means that of the run.

    Returns:
        ``spearman``, the correlation of importance and loss over the hidden tokens,
        for each tenth of the share of hidden tokens; ``calibration``, for groups of
        tokens by importance the mean importance and the mean percentile of their loss
        in its tenth; ``mask_rate``, for each frequency quarter the mean chance to be
        hidden at ``times``, at the policy's full ``strength``.
    """
    policy = getattr(run.module, "policy", None)
    if not isinstance(policy, AdaptiveMasking) or not policy.weighs:
        return None
    rows = min(ROWS, scoring.rows) if scoring.rows else ROWS
    held = list(windows(measured or run.source, rows))
    importance, loss, tenth = _tokens(run, policy, scoring, held)
    correlation, ranks = [], torch.zeros_like(loss)
    for index in range(TIME_BINS):
        here = tenth == index
        correlation.append(
            rank_correlation(importance[here].numpy(), loss[here].numpy())
        )
        if here.any():
            ranks[here] = torch.from_numpy(percentiles(loss[here].numpy()))
    return {
        "strength": full_strength(policy),
        "times": list(TIMES),
        "spearman": correlation,
        "calibration": _calibration(importance, ranks),
        "mask_rate": _mask_rates(run, policy, held),
    }


def full_strength(policy: AdaptiveMasking) -> float:
    """Return kappa without ramp and anneal, in the hard stage if there are stages."""
    config = policy.config
    sign = {
        "proportional": 1.0,
        "inverse": -1.0,
        "balanced": config.curriculum.hard,
        "time_only": 0.0,
    }[config.strategy]
    return sign / config.temperature


def _tokens(
    run: LoadedRun, policy: AdaptiveMasking, scoring: Scoring, held: Sequence[Batch]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return importance, loss and tenth of every hidden token, each ``(N,)``."""
    backbone = cast("nn.Module", run.module.backbone)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in held:
        for item in draws_of(backbone, batch, run.schedule, scoring):
            masked = item.corrupted.masked
            shown = item.corrupted.batch if policy.draws else item.batch
            value = policy.importance(shown, item.corrupted.t)[masked]
            row = masked.nonzero()[:, 0]
            tenth = time_bin(item.share)[row]
            found.append((value.double().cpu(), item.nll.double().cpu(), tenth.cpu()))
    parts = zip(*found, strict=True)
    importance, loss, tenth = (torch.cat(part) for part in parts)
    return importance, loss, tenth


def _calibration(importance: Tensor, ranks: Tensor) -> dict[str, list[float]]:
    """Return the means of groups of equal size, from unimportant to important."""
    groups = [
        group for group in importance.argsort().tensor_split(GROUPS) if len(group)
    ]
    return {
        "importance": [float(importance[group].mean()) for group in groups],
        "percentile": [float(ranks[group].mean()) for group in groups],
    }


def _mask_rates(
    run: LoadedRun, policy: AdaptiveMasking, held: Sequence[Batch]
) -> list[list[float | None]]:
    """Return the mean chance to be hidden, ``[quarter][time]``."""
    device = next(run.module.parameters()).device
    quarter = frequency_quarters(run.source)
    parts = [Parts(QUARTERS) for _ in TIMES]
    for batch in held:
        here = batch.to(device)
        kept = quarter[batch.tokens[batch.free].cpu()]
        for part, time in zip(parts, TIMES, strict=True):
            t = torch.full((len(batch),), time, dtype=torch.float64, device=device)
            chance = _chance(policy, here, t, run.schedule).expand(here.free.shape)
            free = chance[here.free].cpu()
            part.add(kept, free, torch.ones_like(free))
    return [list(line) for line in zip(*(p.means() for p in parts), strict=True)]


def _chance(
    policy: AdaptiveMasking, batch: Batch, t: Tensor, schedule: Schedule
) -> Tensor:
    kappa = full_strength(policy)
    if policy.draws:
        return visible_rates(
            policy.masking,
            policy.importance,
            batch,
            t,
            schedule,
            kappa=kappa,
            focus=None,
            noise=Noise(0).child("diagnose"),
            mask_id=policy.mask_id,
        ).mask_prob
    importance = policy.importance(batch, policy.scoring_time(t))
    return policy.masking.rates(importance, batch.free, t, schedule, kappa).mask_prob
