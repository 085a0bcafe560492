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
from mdlm_core.diffusion.likelihood import draw_error

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


def standing(
    done: Sequence[Round], kept: Tensor, log_prior: Tensor, *, stratified: bool
) -> Standing:
    """Compare all classes with the best one of those in the race.

    Args:
        done: the rounds so far.
        kept: ``(T, C)`` bool: the classes in the race, which had all draws.
        log_prior: ``(C,)`` float64.
        stratified: whether the draws of a round come from the parts of a partition.
    """
    draws = sum(
        (part.took_part.long() * part.values.shape[1] for part in done),
        torch.zeros_like(kept, dtype=torch.int64),
    )
    sums = torch.zeros(kept.shape, dtype=torch.float64)
    for part in done:
        sums += part.values.sum(1) * part.took_part
    mean = sums / draws.clamp(min=1)
    joint = (mean + log_prior).masked_fill(~kept, -torch.inf)
    best = joint.argmax(1)
    pick = best[:, None]
    behind = torch.zeros_like(mean)
    variance = torch.zeros_like(mean)
    for part in done:
        texts, size, classes = part.values.shape
        own = part.values.gather(2, pick[:, None].expand(-1, size, 1))
        gap = (own - part.values) * part.took_part[:, None]  # (T, S, C)
        behind += gap.sum(1)
        error = draw_error(
            gap.transpose(1, 2).reshape(texts * classes, size), stratified=stratified
        )
        variance += (size * error.view(texts, classes)).square()
    total = draws.clamp(min=1)
    return Standing(
        best=best,
        log_likelihood=mean.gather(1, pick) - behind / total,
        se=variance.sqrt() / total,
        draws=draws,
    )


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
