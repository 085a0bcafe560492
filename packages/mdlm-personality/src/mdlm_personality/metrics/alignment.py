"""Whether texts have the traits that were asked for, as a judge reads them.

The same numbers of people's own texts are the judge's ceiling: no text can be shown to
fit its persona better than the judge can tell.

Letters: N texts, K traits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_personality.traits import TRAITS

from .intervals import NOTHING, Floats, Interval, bootstrap, mean_interval

CLEAR = 0.25
"""A value this far from 0.5 or farther is clearly low or high."""


class Readings(NamedTuple):
    """What a judge reads in N texts."""

    scores: Floats
    """``(N, K)`` in [0, 1]; NaN where a text tells nothing."""
    sides: Floats
    """``(N, K)``: 1 high, 0 low, NaN where the judge cannot say."""

    def select(self, rows: ArrayLike) -> Readings:
        """Return the readings of some texts."""
        where = np.asarray(rows)
        return Readings(self.scores[where], self.sides[where])


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """One trait as it was asked for, and as it was read."""

    trait: str
    r: Interval
    """Correlation of value and score, over texts that tell something."""
    accuracy: Interval
    """Share of the decided texts that are read on the side that was asked for."""
    clear: Interval
    """The same over values that are clearly low or high."""
    auc: float
    """Chance that a text with a high value has the greater score; NaN if none has."""
    rows: int
    """Texts with a value, of which the judge says anything."""
    undecided: int
    """Texts with a value whose side the judge cannot say."""


def alignment(
    values: ArrayLike,
    readings: Readings,
    *,
    noise: Noise,
    names: Sequence[str] = TRAITS,
    groups: Sequence[int] | None = None,
) -> tuple[Alignment, ...]:
    """Return the alignment of each trait, with bootstrap intervals.

    Args:
        values: ``(N, K)`` what was asked for, or is known of the writer; NaN is not
            known.
        readings: of the judge.
        noise: decides the resamples.
        names: of the K traits.
        groups: ``(N,)`` the numbers of the writers, which are then what is drawn with
            replacement; if not given, the texts.

    Raises:
        DataError: if the shapes do not go together.
    """
    asked = np.asarray(values, dtype=np.float64)
    if asked.shape != readings.scores.shape or asked.shape[1] != len(names):
        raise DataError(
            f"values have shape {asked.shape} and readings {readings.scores.shape}; "
            f"both must be (texts, {len(names)})"
        )
    owner = np.arange(len(asked)) if groups is None else np.asarray(groups)
    return tuple(
        _one(
            name,
            asked[:, k],
            readings.scores[:, k],
            readings.sides[:, k],
            noise.child("alignment", name),
            owner,
        )
        for k, name in enumerate(names)
    )


def correlation(
    x: Floats, y: Floats, *, noise: Noise, groups: NDArray[np.int64] | None = None
) -> Interval:
    """Return Pearson's r of ``(N,)`` values and its interval; NaN without spread."""

    def statistic(rows: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Floats:
        a, b = x[rows], y[rows]
        a = a - a.mean(1, keepdims=True)
        b = b - b.mean(1, keepdims=True)
        scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        found = np.full(len(rows), np.nan)
        return np.asarray(
            np.divide((a * b).sum(1), scale, out=found, where=scale > 1e-12)
        )

    if len(x) < 3:
        return NOTHING
    return bootstrap(statistic, len(x), noise=noise, groups=groups)


def _one(
    name: str,
    value: Floats,
    score: Floats,
    side: Floats,
    noise: Noise,
    owner: NDArray[np.int64],
) -> Alignment:
    told = ~np.isnan(value) & ~np.isnan(score)
    decided = ~np.isnan(value) & ~np.isnan(side) & (value != 0.5)
    right = (side == (value > 0.5)).astype(np.float64)
    clear = decided & (np.abs(value - 0.5) >= CLEAR)
    high = value[told] > 0.5
    both = high.any() and not high.all()

    def mean(rows: NDArray[np.bool_], of: str) -> Interval:
        return mean_interval(right[rows], noise=noise.child(of), groups=owner[rows])

    return Alignment(
        trait=name,
        r=correlation(
            value[told], score[told], noise=noise.child("r"), groups=owner[told]
        ),
        accuracy=mean(decided, "accuracy"),
        clear=mean(clear, "clear"),
        auc=float(roc_auc_score(high, score[told])) if both else float("nan"),
        rows=int(told.sum()),
        undecided=int((~np.isnan(value) & np.isnan(side)).sum()),
    )
