"""A number with its percentile bootstrap interval (Efron, 1979).

Letters: N rows, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
) -> Interval:
    """Return a statistic of N rows, and its interval over rows drawn with replacement.

    Resamples in which the statistic is not defined are left out.

    Args:
        statistic: vectorised over resamples.
        rows: N; with none the interval is NaN.
        noise: decides the resamples.
        resamples: R.
        level: of confidence.
    """
    if rows < 1:
        return NOTHING
    value = float(statistic(np.arange(rows)[None])[0])
    generator = np.random.default_rng(noise.integer())
    found: list[Floats] = []
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        found.append(statistic(generator.integers(rows, size=(count, rows))))
    values = np.concatenate(found) if found else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values) or not math.isfinite(value):
        return Interval(value, math.nan, math.nan)
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def mean_interval(values: Floats, *, noise: Noise) -> Interval:
    """Return the mean of ``(N,)`` values and its interval."""
    return bootstrap(lambda rows: values[rows].mean(1), len(values), noise=noise)


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
