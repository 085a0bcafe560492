"""Whether an intervention on a trait changes how a text reads, and only that.

For trait k and the side tau that the intervention aims at,

    flip rate = #{h(x) != tau and h(x') = tau} / #{h(x) != tau},

h being the judge's side of x, the factual text, or x', the counterfactual one. Alone
it says little, as texts that are written twice differ too. So beside it stand the same
rate for a second text of the same persona (null), the difference of the two (net), how
often the other traits change their side (off-target), with its null, how often nothing
can be said of them any more (lost; a text that tells nothing changes no side), and how
much of the text was changed at all.

Letters: N pairs of texts, K traits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_personality.traits import TRAITS

from .intervals import Floats, Interval, mean_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Flips:
    """What interventions on one trait did."""

    trait: str
    rate: Interval
    """`counterfactual_flip_rate`."""
    null: Interval
    """The same for a second text of the same persona."""
    net: Interval
    """`rate` less `null`; pairs stay together in the resamples."""
    off_target: Interval
    """The mean over the other traits: texts that read on the other side afterwards."""
    off_target_null: Interval
    """The same for a second text of the same persona."""
    lost: Interval
    """The mean over the other traits: texts that told of one before, and do not now."""
    lost_null: Interval
    """The same for a second text of the same persona."""
    by_trait: dict[str, float]
    """`off_target` of each other trait; NaN if no text tells of it."""
    rows: int
    """Pairs whose factual text reads on the other side than the one aimed at."""
    pairs: int
    """N."""
    edits: Interval
    """Share of the tokens that differ between the two texts of a pair."""


def counterfactual_flip_rate(
    before: ArrayLike, after: ArrayLike, target: ArrayLike
) -> float:
    """Return the share of texts that come to the target side, of those not on it.

    Args:
        before: ``(N,)`` the judge's side of the factual texts: 1, 0, or NaN where it
            cannot say. Only texts that are read on the other side count.
        after: ``(N,)`` of the counterfactual ones; NaN is no flip.
        target: ``(N,)`` or a number: the side aimed at.

    Returns:
        The rate; NaN if no text was on the other side.
    """
    flipped = _flipped(*_sides(before, after, target))
    return float(flipped.mean()) if len(flipped) else float("nan")


def flips(
    before: ArrayLike,
    after: ArrayLike,
    again: ArrayLike,
    *,
    trait: int,
    target: ArrayLike,
    edits: ArrayLike,
    noise: Noise,
    names: Sequence[str] = TRAITS,
) -> Flips:
    """Return what interventions on one trait did to N texts.

    Args:
        before: ``(N, K)`` the judge's sides of the factual texts: 1, 0, NaN.
        after: ``(N, K)`` of the counterfactual texts.
        again: ``(N, K)`` of second texts of the factual personas.
        trait: the place of the trait k.
        target: ``(N,)`` the side aimed at in each pair.
        edits: ``(N,)`` shares of tokens that differ; see `edit_rate`.
        noise: decides the resamples.
        names: of the K traits.

    Raises:
        DataError: if the shapes do not go together.
    """
    a, b, c = (np.asarray(each, dtype=np.float64) for each in (before, after, again))
    if not a.shape == b.shape == c.shape or a.shape[1:] != (len(names),):
        raise DataError(
            f"the readings have the shapes {a.shape}, {b.shape} and {c.shape}; all "
            f"must be (pairs, {len(names)})"
        )
    noise = noise.child("flips", names[trait])
    aim = np.broadcast_to(np.asarray(target, dtype=np.float64), a.shape[:1])
    moved = _flipped(a[:, trait], b[:, trait], aim)
    anyway = _flipped(a[:, trait], c[:, trait], aim)
    others = [k for k in range(len(names)) if k != trait]
    changed, changed_anyway = _changed(a, b)[:, others], _changed(a, c)[:, others]
    return Flips(
        trait=names[trait],
        rate=mean_interval(moved, noise=noise.child("rate")),
        null=mean_interval(anyway, noise=noise.child("null")),
        net=mean_interval(moved - anyway, noise=noise.child("net")),
        off_target=mean_interval(_told(changed), noise=noise.child("off")),
        off_target_null=mean_interval(
            _told(changed_anyway), noise=noise.child("off-null")
        ),
        lost=mean_interval(_told(_lost(a, b)[:, others]), noise=noise.child("lost")),
        lost_null=mean_interval(
            _told(_lost(a, c)[:, others]), noise=noise.child("lost-null")
        ),
        by_trait={names[k]: _mean(changed[:, place]) for place, k in enumerate(others)},
        rows=len(moved),
        pairs=len(a),
        edits=mean_interval(
            np.asarray(edits, dtype=np.float64), noise=noise.child("edits")
        ),
    )


def edit_rate(before: ArrayLike, after: ArrayLike) -> Floats:
    """Return ``(N,)`` the share of the positions of ``(N, L)`` tokens that differ."""
    return np.asarray((np.asarray(before) != np.asarray(after)).mean(1), np.float64)


def _sides(
    before: ArrayLike, after: ArrayLike, target: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    a = np.asarray(before, dtype=np.float64)
    b = np.asarray(after, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(
            f"the sides have the shapes {a.shape} and {b.shape}; both must be (pairs,)"
        )
    return a, b, np.broadcast_to(np.asarray(target, dtype=np.float64), a.shape)


def _flipped(before: Floats, after: Floats, target: Floats) -> Floats:
    """Return 1 or 0 for each text that was read on the other side."""
    there = before == 1 - target
    return np.asarray(after[there] == target[there], dtype=np.float64)


def _changed(before: Floats, after: Floats) -> Floats:
    """Return ``(N, K)``: 1 if a side changed, 0 if not, NaN if `before` has none."""
    changed = (after == 1 - before).astype(np.float64)
    return np.where(np.isnan(before), np.nan, changed)


def _lost(before: Floats, after: Floats) -> Floats:
    """Return ``(N, K)``: 1 if a side cannot be told any more; NaN likewise."""
    return np.where(np.isnan(before), np.nan, np.isnan(after).astype(np.float64))


def _told(changed: Floats) -> Floats:
    """Return the mean over traits of each row that has any."""
    some = changed[(~np.isnan(changed)).any(1)]
    return np.asarray(np.nanmean(some, axis=1)) if len(some) else np.empty(0)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
