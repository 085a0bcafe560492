"""Paired differences with intervals: over windows, and over seeds.

Two kinds of noise stand between two variants. Which held-out windows were scored is
one: it is answered by resampling windows. How training went with this seed is the
other, and the larger: it is answered by training again with other seeds. Both variants
of a pair have the same windows, the same masks and the same seed, so that what they
have in common cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

Floats = NDArray[np.float64]
LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference; with one observation it has no interval."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """Observations: seeds or windows."""

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval is on one side of 0."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0


def over_seeds(differences: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the mean of paired differences and Student's interval around it.

    ``mean d +- t_{(1 + level) / 2, n - 1} sd / sqrt n``, for differences that are
    normal over seeds.

    Args:
        differences: one for each seed that both variants have.
        level: how often the interval holds the true mean.

    Raises:
        DataError: if there is no difference.
    """
    n = len(differences)
    if n == 0:
        raise DataError("there is no seed with which both variants were trained")
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Interval(mean, mean - float(half), mean + float(half), n)


def over_windows(
    differences: Sequence[Sequence[float]],
    tokens: Sequence[int],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the difference per token and a bootstrap interval over windows.

    Windows are drawn with replacement, and the sum of their differences is divided by
    the sum of their tokens; the interval is between two percentiles of that (Efron
    and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13). With several
    seeds, the differences of a window are averaged first: the interval is for these
    very runs, and tells nothing about other seeds.

    Args:
        differences: for each seed the differences of the windows, in nats per window.
        tokens: the scored tokens of each window.
        level: between which percentiles.
        resamples: how many times windows are drawn.
        seed: decides the draws.

    Raises:
        DataError: if there is nothing to compare, or windows differ between seeds.
    """
    lengths = {len(values) for values in differences} | {len(tokens)}
    if len(lengths) != 1 or lengths == {0}:
        raise DataError(
            f"the windows do not match: {sorted(lengths)} of them; score all variants "
            f"on the same held-out rows"
        )
    nats: Floats = np.asarray(differences, dtype=np.float64).mean(0)
    counts: Floats = np.asarray(tokens, dtype=np.float64)
    mean = float(nats.sum() / counts.sum())
    if len(nats) == 1:
        return Interval(mean, None, None, 1)
    found = stats.bootstrap(
        (nats, counts),
        _ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=level,
        n_resamples=resamples,
        batch=256,
        rng=np.random.default_rng(Noise(seed).child("bootstrap").integer()),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), len(nats))


def _ratio(nats: Floats, tokens: Floats, axis: int = -1) -> Floats:
    quotient: Floats = nats.sum(axis) / tokens.sum(axis)
    return quotient


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Return Spearman's correlation; None if one of the two does not vary."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(stats.spearmanr(first, second).statistic)


def percentiles(values: Floats) -> Floats:
    """Return each value's mid-rank among all, in (0, 1); ties share theirs."""
    ranks: Floats = (stats.rankdata(values) - 0.5) / len(values)
    return ranks
