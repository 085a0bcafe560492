"""A number with its percentile bootstrap interval (Efron, 1979).

Letters: N rows, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdlm_core.kernels.noise import Noise

LEVEL = 0.95
RESAMPLES = 2000
_CHUNK = 500

Floats = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], Floats]
"""The statistic ``(r,)`` of rows ``(r, N)``, given by their places."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, and between which it lies at the level of confidence.

    All three are NaN if nothing could be measured.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values; what is NaN is None, as JSON has no NaN."""
        return {
            "value": finite(self.value),
            "low": finite(self.low),
            "high": finite(self.high),
        }


NOTHING = Interval(math.nan, math.nan, math.nan)


def bootstrap(
    statistic: Statistic,
    rows: int,
    *,
    noise: Noise,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    groups: Sequence[int] | NDArray[np.int64] | None = None,
) -> Interval:
    """Return a statistic of N rows, and its interval over rows drawn with replacement.

    Resamples in which the statistic is not defined are left out.

    Args:
        statistic: vectorised over resamples.
        rows: N; with none the interval is NaN.
        noise: decides the resamples.
        resamples: R.
        level: of confidence.
        groups: ``(N,)`` numbers of what is drawn with replacement, such as authors
            with several texts; every row by itself if not given.
    """
    if rows < 1:
        return NOTHING
    value = float(statistic(np.arange(rows)[None])[0])
    generator = np.random.default_rng(noise.integer())
    found: list[Floats] = []
    if groups is None or len(np.unique(groups)) == rows:
        for start in range(0, resamples, _CHUNK):
            count = min(_CHUNK, resamples - start)
            found.append(statistic(generator.integers(rows, size=(count, rows))))
    else:
        order, first, sizes = _members(groups)
        for _ in range(resamples):
            drawn = generator.integers(len(sizes), size=len(sizes))
            size = sizes[drawn]
            skip = np.repeat(first[drawn] - (np.cumsum(size) - size), size)
            found.append(statistic(order[np.arange(len(skip)) + skip][None]))
    values = np.concatenate(found) if found else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values) or not math.isfinite(value):
        return Interval(value, math.nan, math.nan)
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _members(
    groups: Sequence[int] | NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows by group, where each group begins among them, and its size."""
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.argsort(place, kind="stable"), np.cumsum(sizes) - sizes, sizes


def mean_interval(
    values: Floats,
    *,
    noise: Noise,
    groups: Sequence[int] | NDArray[np.int64] | None = None,
) -> Interval:
    """Return the mean of ``(N,)`` values and its interval; see `bootstrap`."""
    return bootstrap(
        lambda rows: values[rows].mean(1), len(values), noise=noise, groups=groups
    )


def finite(value: float) -> float | None:
    """Return `value`, or None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping ready for JSON: intervals as mappings, NaN as None."""

    def one(value: Any) -> Any:
        if isinstance(value, Interval):
            return value.to_dict()
        if isinstance(value, Mapping):
            return plain(value)
        if isinstance(value, list | tuple):
            return [one(item) for item in value]
        return finite(value) if isinstance(value, float) else value

    return {name: one(value) for name, value in values.items()}
