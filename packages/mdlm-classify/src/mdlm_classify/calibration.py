"""A temperature that grows with the length of a text, and how well it calibrates.

A likelihood that treats tokens as more independent than they are counts evidence
several times, and more so in a longer text. ``tau(L) = a L^b`` divides it:
``p(c | x) = softmax_c((l_c + log pi_c) / tau(L))``. Letters: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from torch import Tensor

from mdlm_core.errors import ConfigError, DataError

Floats = NDArray[np.float64]
EXPONENT_SD = 0.5
"""The spread of what b may be before a text is seen; its mean is 0."""
USUAL_POWER = 0.6
"""Before a text is seen the temperature is about L to this power: the evidence of
tokens that hang together grows slower than their number, and faster than its root."""
LOG_TAU_SD = 2.0
"""The spread of the logarithm of that temperature."""
LOG_TAU = (np.log(1e-3), np.log(1e6))
"""Where the temperature of a text of middle length is looked for."""
EXPONENT = (0.0, 2.0)
"""Where b is looked for: one token counts no more in a longer text."""


@dataclass(frozen=True, slots=True)
class LengthTemperature:
    """``tau(L) = a L^b``; 1 for every text until it is fitted."""

    a: float = 1.0
    b: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.a) and self.a > 0):
            raise ConfigError(f"temperature a is {self.a}; it must be positive")
        if not np.isfinite(self.b):
            raise ConfigError(f"temperature b is {self.b}; it must be a finite number")

    def of(self, tokens: Tensor) -> Tensor:
        """Return tau ``(N,)`` float64 of texts with that many scored tokens.

        A text without a token has temperature 1, so that its posterior is the prior.
        """
        tau = self.a * tokens.double().clamp_min(1) ** self.b
        return torch.where(tokens > 0, tau, torch.ones_like(tau))


def fit(log_joint: Tensor, codes: Tensor, tokens: Tensor) -> LengthTemperature:
    """Fit the temperature to held-out texts by their log-loss.

    The target of a text is its class with probability ``1 - e`` and any class alike
    with ``e = 1 / (N + 2)``, after Platt (1999): else texts that are all right would
    ask for a temperature of 0. Both numbers are those of greatest posterior density.
    The exponent has a normal law of mean 0 and deviation `EXPONENT_SD`: a few texts, or
    texts of one length, leave it near 0, and a thousand decide it themselves. The
    temperature of a text of middle length L has a log-normal law around
    ``L^USUAL_POWER``, with deviation `LOG_TAU_SD`: a few texts on which the model is
    wrong by chance do not make every posterior even, and a hundred decide themselves.

    Args:
        log_joint: ``(N, C)`` l_c + log pi_c; -inf for a class that cannot be.
        codes: ``(N,)`` the right classes.
        tokens: ``(N,)`` scored tokens. Texts without a token do not count.

    Raises:
        DataError: if no text has a token, a value is NaN, or a text's right class
            has probability 0.
    """
    keep = tokens > 0
    if not bool(keep.any()):
        raise DataError("there is no text with a token to fit the temperature to")
    scores = log_joint[keep].double().cpu().numpy()
    right = codes[keep].cpu().numpy()
    length = np.log(tokens[keep].double().cpu().numpy())
    _check(scores, right)
    possible = np.isfinite(scores)
    scores = np.where(possible, scores - scores.max(1, keepdims=True), -np.inf)
    smooth = 1 / (len(right) + 2)
    target = smooth * possible / possible.sum(1, keepdims=True)
    target[np.arange(len(right)), right] += 1 - smooth
    middle = float(length.mean())
    usual = np.array([USUAL_POWER * middle, 0.0])
    weight = 1 / (np.array([LOG_TAU_SD, EXPONENT_SD]) ** 2 * len(right))

    def loss(x: Floats) -> tuple[float, Floats]:
        tau = np.exp(x[0] + x[1] * (length - middle))
        value, slope = _loss(scores, target, tau, length - middle)
        pull = weight * (x - usual)
        return value + float(pull @ (x - usual)) / 2, slope + pull

    starts = [(theta, b) for theta in (0.0, middle / 2, middle) for b in (0.0, 0.7)]
    fits = [
        optimize.minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=[LOG_TAU, EXPONENT]
        )
        for start in starts
    ]
    found = min(fits, key=lambda result: float(result.fun))
    theta, b = (float(value) for value in found.x)
    return LengthTemperature(float(np.exp(theta - b * middle)), b)


def _check(scores: Floats, right: NDArray[np.int64]) -> None:
    own = scores[np.arange(len(right)), right]
    bad = np.isnan(scores).any(1) | ~np.isfinite(own) | np.isposinf(scores).any(1)
    if bad.any():
        row = int(bad.nonzero()[0][0])
        raise DataError(
            f"the scores of text {row} are {scores[row].tolist()} and its class is "
            f"{int(right[row])}; a text can be fitted only if its own score is finite"
        )


def _loss(
    scores: Floats, target: Floats, tau: Floats, power: Floats
) -> tuple[float, Floats]:
    """Return the mean cross-entropy and its gradient by log a and b."""
    scaled = scores / tau[:, None]
    log_norm = np.log(np.exp(scaled).sum(1))
    finite = np.where(np.isfinite(scaled), scaled, 0.0)
    value = log_norm - (target * finite).sum(1)
    share = np.exp(scaled - log_norm[:, None])
    slope = ((target - share) * finite).sum(1)  # by log tau
    return float(value.mean()), np.array([slope.mean(), (slope * power).mean()])


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often texts are right that were predicted with about that confidence."""

    low: tuple[float, ...]
    """Lower edges of the bins that hold a text."""
    high: tuple[float, ...]
    rows: tuple[int, ...]
    confidence: tuple[float, ...]
    """Mean confidence in each bin."""
    accuracy: tuple[float, ...]

    @property
    def ece(self) -> float:
        """The mean gap of confidence and accuracy over texts (Naeini et al., 2015)."""
        gaps = np.abs(np.subtract(self.confidence, self.accuracy))
        return float(np.average(gaps, weights=self.rows))

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists."""
        names = ("low", "high", "rows", "confidence", "accuracy")
        return {name: list(getattr(self, name)) for name in names}


def reliability(
    probabilities: ArrayLike,
    codes: ArrayLike,
    *,
    bins: int = 15,
    adaptive: bool = False,
) -> Reliability:
    """Sort texts by the probability of their predicted class into bins.

    Args:
        probabilities: ``(N, C)``.
        codes: ``(N,)`` the right classes.
        bins: how many, at most.
        adaptive: bins of as many texts each, instead of equal width. Equal
            confidences are never parted.

    Raises:
        DataError: if there is no text, or a probability is NaN.
    """
    shares = np.asarray(probabilities, dtype=np.float64)
    right = np.asarray(codes)
    if not len(shares):
        raise DataError("there is no text to measure")
    if np.isnan(shares).any():
        raise DataError("a probability is NaN")
    sure = np.minimum(shares.max(1), 1.0)
    hit = shares.argmax(1) == right
    if adaptive:
        edges = np.unique(np.quantile(sure, np.linspace(0, 1, bins + 1)))
        edges[0] = 0.0
        if len(edges) == 1:
            edges = np.array([0.0, sure[0]])
    else:
        edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, len(edges) - 2)
    rows = np.bincount(place, minlength=len(edges) - 1)
    used = rows > 0
    count = np.maximum(rows, 1)
    mean = np.bincount(place, sure, len(edges) - 1) / count
    accuracy = np.bincount(place, hit.astype(np.float64), len(edges) - 1) / count
    return Reliability(
        tuple(edges[:-1][used].tolist()),
        tuple(edges[1:][used].tolist()),
        tuple(rows[used].tolist()),
        tuple(mean[used].tolist()),
        tuple(accuracy[used].tolist()),
    )


def ece(
    probabilities: ArrayLike,
    codes: ArrayLike,
    *,
    bins: int = 15,
    adaptive: bool = False,
) -> float:
    """Return the expected calibration error of the predicted class.

    Raises:
        DataError: as `reliability`.
    """
    return reliability(probabilities, codes, bins=bins, adaptive=adaptive).ece
