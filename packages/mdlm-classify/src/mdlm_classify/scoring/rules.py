"""When to stop drawing, and which classes are still in the race.

All classes of a text see the same masks, so that what decides is the paired difference
to the best class, whose error is small (common random numbers). After each round a
class is left out if the best one leads it by `z` standard errors; under halving the
worse half of the classes is left out as well, while more than two are in the race
(successive halving, as in Li et al., 2023, "Your diffusion model is secretly a
zero-shot classifier", arXiv 2303.16203). A text is done when one class is left.

Letters: T texts, C classes, S draws of a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_classify.config import ScoringConfig

MANY = 4
"""With more classes than that the rule `auto` is halving."""


def rule_of(settings: ScoringConfig, classes: int) -> str:
    """Return fixed, sequential or halving."""
    if settings.rule != "auto":
        return settings.rule
    return "halving" if classes > MANY else "sequential"


def rounds(settings: ScoringConfig) -> tuple[int, ...]:
    """Return the draws of each round; they sum to ``max_draws``.

    Draws double from round to round. No round has a single draw, whose error would be
    unknown.
    """
    if settings.rule == "fixed":
        return (settings.max_draws,)
    sizes = [settings.start_draws]
    while (rest := settings.max_draws - sum(sizes)) > 0:
        sizes.append(min(sum(sizes), rest))
    if sizes[-1] == 1:
        sizes[-2:] = [sizes[-2] + 1]
    return tuple(sizes)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round drew."""

    values: Tensor
    """``(T, S, C)`` float64: each draw of log p(text | class)."""
    took_part: Tensor
    """``(T, C)`` bool."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the classes are after some rounds; see `Scores` for the fields."""

    best: Tensor
    """``(T,)`` int64."""
    log_likelihood: Tensor
    se: Tensor
    draws: Tensor


def standing(done: Sequence[Round], kept: Tensor, log_prior: Tensor) -> Standing:
    """Compare all classes with the best one of those in the race.

    The standard error is that of the mean of independent draws. Draws are stratified,
    so that it is somewhat too large; unlike one from pairs of strata it has all draws
    to go by, and stops fewer texts too early.

    Args:
        done: the rounds so far.
        kept: ``(T, C)`` bool: the classes in the race, which had all draws.
        log_prior: ``(C,)`` or ``(T, C)`` float64.
    """
    draws = torch.zeros_like(kept, dtype=torch.int64)
    sums = torch.zeros_like(kept, dtype=torch.float64)
    for part in done:
        draws += part.took_part * part.values.shape[1]
        sums += part.values.sum(1) * part.took_part
    total = draws.clamp(min=1)
    mean = sums / total
    best = (mean + log_prior).masked_fill(~kept, -torch.inf).argmax(1)
    gaps = [_gaps(part, best) for part in done]
    behind = torch.zeros_like(mean)
    for gap in gaps:
        behind += gap.sum(1)
    behind /= total
    squares = torch.zeros_like(mean)
    for part, gap in zip(done, gaps, strict=True):
        squares += (gap - behind[:, None]).square().sum(1) * part.took_part
    return Standing(
        best=best,
        log_likelihood=mean.gather(1, best[:, None]) - behind,
        se=(squares / (total * (total - 1).clamp(min=1))).sqrt(),
        draws=draws,
    )


def _gaps(part: Round, best: Tensor) -> Tensor:
    """Return ``(T, S, C)`` by how much each class is behind the best in each draw."""
    own = part.values.take_along_dim(best[:, None, None], 2)
    return (own - part.values) * part.took_part[:, None]


def still_kept(
    now: Standing, kept: Tensor, log_prior: Tensor, *, rule: str, z: float
) -> Tensor:
    """Return ``(T, C)`` bool: the classes that stay in the race after a round."""
    if rule == "fixed":
        return kept
    joint = now.log_likelihood + log_prior
    lead = joint.gather(1, now.best[:, None]) - joint
    stays = kept & ~(lead > z * now.se)
    if rule == "halving":
        count = kept.sum(1)
        most = torch.where(count > 2, (count + 1) // 2, count)
        order = joint.masked_fill(~kept, -torch.inf).argsort(
            dim=1, descending=True, stable=True
        )
        stays &= order.argsort(1) < most[:, None]
    return stays.scatter(1, now.best[:, None], True)
