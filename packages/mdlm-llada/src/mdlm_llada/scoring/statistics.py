"""Intervals for an accuracy, and paired tests of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

LEVEL = 0.95
RESAMPLES = 10_000
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and where it lies at the level of confidence."""

    value: float
    low: float
    high: float
    method: Literal["wilson", "bootstrap"] = "wilson"


def wilson(right: int, total: int, *, level: float = LEVEL) -> Interval:
    """Return a share of successes with Wilson's score interval.

    The interval holds the p with ``|right / total - p| <= z sqrt(p (1 - p) / total)``
    (Wilson, 1927). It is right for small samples and never leaves [0, 1].

    Raises:
        DataError: if there is no trial.
    """
    if not total:
        raise DataError("there is no row to score")
    found = stats.binomtest(right, total).proportion_ci(level, method="wilson")
    return Interval(right / total, float(found.low), float(found.high))


def bootstrap(
    values: Sequence[float],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a mean with the percentile interval of resampled means.

    Rows are drawn with replacement (Efron and Tibshirani, 1993, chapter 13). If all
    rows are alike, resampling knows nothing of others. Then Wilson's limit tells how
    many rows may be otherwise: none of n was, so that at most the share
    ``z^2 / (n + z^2)`` is, and these may be anything within `bounds`.

    Args:
        values: one number for each row.
        bounds: the least and the greatest that a row can be.
        level: between which percentiles.
        resamples: how often rows are drawn.
        seed: decides the draws.

    Raises:
        DataError: if there is no row.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        raise DataError("there is no row to score")
    mean = float(numbers.mean())
    if np.ptp(numbers) == 0:
        share = wilson(0, len(numbers), level=level).high
        low, high = bounds
        return Interval(mean, mean - share * (mean - low), mean + share * (high - mean))
    found = stats.bootstrap(
        (numbers,),
        np.mean,
        vectorized=True,
        method="percentile",
        confidence_level=level,
        n_resamples=resamples,
        batch=_CHUNK,
        rng=np.random.default_rng(Noise(seed).child("bootstrap").integer()),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), "bootstrap")


@dataclass(frozen=True, slots=True)
class Paired:
    """Two sets of predictions for the same rows."""

    first: float
    """Accuracy of the first."""
    second: float
    difference: Interval
    """Second less first, with its interval over rows, see `bootstrap`."""
    only_first: int
    """Rows that the first alone has right."""
    only_second: int
    p_value: float | None
    """Of McNemar's exact test; None if rows are right in part."""
    rows: int


def compare(
    first: Sequence[float],
    second: Sequence[float],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compare how right two sets of predictions are, row by row.

    McNemar's exact test: if both are as good, a row that only one has right is as
    likely the one's as the other's, so that the number of the second's is binomial
    with 1/2. The p-value is two-sided.

    Args:
        first: how right each row is, from 0 to 1.
        second: the same rows in the same order.
        level: of the interval.
        resamples: how often rows are drawn for it.
        seed: decides the draws.

    Raises:
        DataError: if there is no row, or the numbers of rows differ.
    """
    if len(first) != len(second):
        raise DataError(
            f"the two have {len(first)} and {len(second)} rows; a paired test needs "
            f"the same rows"
        )
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a > b for a, b in pairs)
    only_second = sum(b > a for a, b in pairs)
    p_value: float | None = None
    if all(value in (0.0, 1.0) for pair in pairs for value in pair):
        n = only_first + only_second
        p_value = float(stats.binomtest(only_second, n, 0.5).pvalue) if n else 1.0
    difference = bootstrap(
        [b - a for a, b in pairs],
        bounds=(-1.0, 1.0),
        level=level,
        resamples=resamples,
        seed=seed,
    )
    return Paired(
        float(np.mean(first)),
        float(np.mean(second)),
        difference,
        only_first,
        only_second,
        p_value,
        len(pairs),
    )
