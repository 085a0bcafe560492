"""How good predictions are, with intervals, and whether one set is better.

Letters: N texts, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

from .calibration import ece

LEVEL = 0.95
RESAMPLES = 10_000
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, and between which it lies at the level of confidence."""

    value: float
    low: float
    high: float


def wilson(right: int, rows: int, *, level: float = LEVEL) -> Interval:
    """Return a share with Wilson's score interval (Wilson, 1927).

    Raises:
        DataError: if there is no text.
    """
    if not rows:
        raise DataError("there is no text to measure")
    found = stats.binomtest(int(right), int(rows)).proportion_ci(level, "wilson")
    return Interval(right / rows, float(found.low), float(found.high))


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """One class against all others."""

    label: str
    precision: float | None
    """None if the class was never predicted."""
    recall: float | None
    """None if no text is of the class."""
    f1: float | None
    rows: int
    predicted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """How good the predictions for N texts are."""

    rows: int
    accuracy: Interval
    macro_f1: float
    """The mean of F1 over the classes that occur or were predicted."""
    log_loss: float
    """The mean of -log p(right class | text), in nats."""
    brier: float
    """The mean of sum_c (p_c - 1[c is right])^2, from 0 to 2 (Brier, 1950)."""
    ece: float
    """Expected calibration error in 15 bins of equal width."""
    ece_adaptive: float
    """The same in 15 bins of as many texts each."""
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Texts by right class (rows) and predicted class (columns)."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; an infinite log-loss is None, as JSON has none."""
        plain = asdict(self)
        if not math.isfinite(self.log_loss):
            plain["log_loss"] = None
        return plain


def measure(
    codes: ArrayLike, log_posterior: ArrayLike, labels: Sequence[str]
) -> Metrics:
    """Measure predictions: the class of the greatest probability, the first of equals.

    Args:
        codes: ``(N,)`` the right classes.
        log_posterior: ``(N, C)`` log p(c | x).
        labels: the names of the classes in order.

    Raises:
        DataError: if there is no text, a value is NaN, or the shapes do not match.
    """
    right = np.asarray(codes, dtype=np.int64)
    logs = np.asarray(log_posterior, dtype=np.float64)
    if logs.shape != (len(right), len(labels)):
        raise DataError(
            f"the log-posterior has shape {logs.shape}; {len(right)} texts and "
            f"{len(labels)} classes need {(len(right), len(labels))}"
        )
    if not len(right):
        raise DataError("there is no text to measure")
    if np.isnan(logs).any():
        raise DataError("a log-posterior is NaN")
    if right.min() < 0 or right.max() >= len(labels):
        raise DataError(
            f"a class is {right.min()} to {right.max()}; it must be in 0 to "
            f"{len(labels) - 1}"
        )
    guess = logs.argmax(1)
    shares = np.exp(logs)
    names = range(len(labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        right, guess, labels=list(names), zero_division=np.nan
    )
    predicted = np.bincount(guess, minlength=len(labels))
    return Metrics(
        rows=len(right),
        accuracy=wilson(int((guess == right).sum()), len(right)),
        macro_f1=float(np.nanmean(f1)),
        log_loss=float(-logs[np.arange(len(right)), right].mean()),
        brier=float(((shares - np.eye(len(labels))[right]) ** 2).sum(1).mean()),
        ece=ece(shares, right),
        ece_adaptive=ece(shares, right, adaptive=True),
        classes=tuple(
            ClassMetrics(
                labels[c],
                _number(precision[c]),
                _number(recall[c]),
                _number(f1[c]),
                int(support[c]),
                int(predicted[c]),
            )
            for c in names
        ),
        confusion=tuple(
            tuple(int(n) for n in row)
            for row in confusion_matrix(right, guess, labels=list(names))
        ),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


@dataclass(frozen=True, slots=True)
class Paired:
    """Two sets of predictions for the same texts."""

    first: float
    """Accuracy of the first."""
    second: float
    difference: Interval
    """Second less first, with its bootstrap interval over texts."""
    only_first: int
    """Texts that the first alone has right."""
    only_second: int
    p_value: float
    """Of McNemar's exact test, two-sided."""
    rows: int


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    If both are as good, a text that only one has right is as likely the one's as the
    other's: the number of the second's is binomial with 1/2 (McNemar, 1947).
    """
    n = only_first + only_second
    return float(stats.binomtest(int(only_second), int(n), 0.5).pvalue) if n else 1.0


def paired(
    first: ArrayLike,
    second: ArrayLike,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compare which texts two sets of predictions have right.

    Args:
        first: ``(N,)`` whether each text is right.
        second: the same texts in the same order.
        level: of the interval.
        resamples: how often texts are drawn for it.
        seed: decides the draws.

    Raises:
        DataError: if there is no text, or the numbers of texts differ.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(
            f"the two have shapes {a.shape} and {b.shape}; a paired test needs the "
            f"same texts"
        )
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    change = b.astype(np.float64) - a
    return Paired(
        float(a.mean()) if len(a) else math.nan,
        float(b.mean()) if len(b) else math.nan,
        _bootstrap(change, level, resamples, seed),
        only_first,
        only_second,
        mcnemar(only_first, only_second),
        len(a),
    )


def _bootstrap(values: Any, level: float, resamples: int, seed: int) -> Interval:
    """Return a mean of -1, 0 and 1 with its percentile interval over texts.

    Efron and Tibshirani, 1993, chapter 13. Texts that are all alike resample to
    themselves; then the share that may be otherwise is Wilson's limit for none of N.
    """
    if not len(values):
        raise DataError("there is no text to measure")
    mean = float(values.mean())
    if np.ptp(values) == 0:
        share = wilson(0, len(values), level=level).high
        return Interval(mean, mean - share * (mean + 1), mean + share * (1 - mean))
    found = stats.bootstrap(
        (values,),
        np.mean,
        vectorized=True,
        method="percentile",
        confidence_level=level,
        n_resamples=resamples,
        batch=_CHUNK,
        rng=np.random.default_rng(Noise(seed).child("bootstrap").integer()),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))
