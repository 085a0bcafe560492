"""How good predictions are after some draws: is the number of draws enough?

Letters: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mdlm_classify.metrics import Interval, wilson
from mdlm_core.errors import DataError


@dataclass(frozen=True, slots=True)
class DrawPoint:
    """Predictions for the same texts after some draws."""

    draws: float
    """Draws per text and class."""
    accuracy: Interval
    agreement: float
    """Texts that get the same class as after the most draws."""
    rows: int
    """Texts, N."""


def draws_for(most: int) -> tuple[int, ...]:
    """Return the numbers of draws to measure: 2, 4, 8 and so on up to `most`."""
    points = [2]
    while points[-1] * 2 < most:
        points.append(points[-1] * 2)
    return (*points, most) if most > points[-1] else tuple(points)


def draws_curve(
    log_posteriors: Mapping[int, Tensor], codes: Tensor
) -> tuple[DrawPoint, ...]:
    """Return a point for each number of draws, in order.

    Args:
        log_posteriors: draws per text and class -> ``(N, C)``, of the same texts.
        codes: ``(N,)`` the right classes.

    Raises:
        DataError: if there is no number of draws or no text, or shapes differ.
    """
    if not log_posteriors:
        raise DataError("there is no number of draws to measure")
    guesses = {}
    for draws in sorted(log_posteriors):
        guesses[draws] = log_posteriors[draws].argmax(1)
        if guesses[draws].shape != codes.shape:
            raise DataError(
                f"after {draws} draws there are {len(guesses[draws])} texts, and "
                f"{len(codes)} right classes; the same texts are needed"
            )
    last = guesses[max(guesses)]
    return tuple(point(draws, guess, codes, last) for draws, guess in guesses.items())


def point(draws: float, guess: Tensor, codes: Tensor, most: Tensor) -> DrawPoint:
    """Return the point of one set of predictions.

    Args:
        draws: mean draws per text and class.
        guess: ``(N,)`` predicted classes.
        codes: ``(N,)`` right classes.
        most: ``(N,)`` classes predicted after the most draws.

    Raises:
        DataError: if there is no text.
    """
    right = int((guess == codes).sum())
    same = float((guess == most).double().mean())
    return DrawPoint(float(draws), wilson(right, len(codes)), same, len(codes))
