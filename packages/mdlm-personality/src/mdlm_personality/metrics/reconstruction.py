"""How well traits are given back, under the name of what it is.

The original description calls 1 / (1 + MSE) "CLFR" and asks for more than 0.9. Traits
in [0, 1] have little variance, so that a constant already reaches 0.96 and more: the
score means something only beside that of the constant.

Letters: N persons, K columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mdlm_core.errors import DataError

from .intervals import Floats


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """How well N persons' traits are given back."""

    score: float
    """1 / (1 + MSE)."""
    constant: float
    """The score of the mean of every column, which knows nothing of a person."""
    r2: tuple[float, ...]
    """1 - MSE / variance of each column: 0 for the constant; NaN without variance."""
    rows: int


def reconstruction_score(true: ArrayLike, given: ArrayLike) -> float:
    """Return 1 / (1 + MSE), the mean taken over all known entries.

    Args:
        true: ``(N, K)``, NaN where nothing is known.
        given: ``(N, K)``, or ``(K,)`` for one guess for all persons.

    Raises:
        DataError: if the shapes do not go together, or nothing is known.
    """
    a, b = _pair(true, given)
    error = np.nanmean((a - b) ** 2)
    return float(1 / (1 + error))


def constant_score(true: ArrayLike) -> float:
    """Return the `reconstruction_score` of the mean of every column."""
    values, _ = _pair(true, 0.0)
    return reconstruction_score(values, _means(values))


def reconstruction(true: ArrayLike, given: ArrayLike) -> Reconstruction:
    """Return the score beside that of the constant, and R^2 of every column.

    The arguments are those of `reconstruction_score`.
    """
    a, b = _pair(true, given)
    means = _means(a)
    r2 = []
    for column in range(a.shape[1]):
        known = ~np.isnan(a[:, column])
        error = ((a[known, column] - b[known, column]) ** 2).sum()
        total = ((a[known, column] - means[column]) ** 2).sum()
        r2.append(float(1 - error / total) if total > 0 else float("nan"))
    return Reconstruction(
        score=reconstruction_score(a, b),
        constant=reconstruction_score(a, means),
        r2=tuple(r2),
        rows=len(a),
    )


def _pair(true: ArrayLike, given: ArrayLike) -> tuple[Floats, Floats]:
    a = np.asarray(true, dtype=np.float64)
    if a.ndim != 2:
        raise DataError(f"traits have shape {a.shape}; they must be (persons, columns)")
    try:
        b = np.broadcast_to(np.asarray(given, dtype=np.float64), a.shape)
    except ValueError:
        raise DataError(
            f"traits have shape {a.shape} and what was given back "
            f"{np.shape(given)}; they must be the same"
        ) from None
    if np.isnan(a).all():
        raise DataError("no trait of any person is known; there is nothing to measure")
    if np.isnan(b[~np.isnan(a)]).any():
        raise DataError("what was given back is NaN where the trait is known")
    return a, b


def _means(values: Floats) -> Floats:
    """Return the mean of each column; 0 for one of which nothing is known."""
    known = ~np.isnan(values)
    count = known.sum(0).clip(min=1)
    means: Floats = np.where(known, values, 0.0).sum(0) / count
    return means
