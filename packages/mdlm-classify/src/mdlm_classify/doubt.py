"""When not to trust a prediction: noise of the draws, and texts like none before.

Letters: N texts, C classes, L tokens of a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from mdlm_core.errors import DataError

from .posterior import log_evidence
from .scoring.scores import Scores


def flip_probability(
    log_posterior: Tensor, scores: Scores, tau: Tensor | float = 1.0
) -> Tensor:
    """Return how probably more draws would make another class the best, ``(N,)``.

    The estimate of a log-ratio of mean d and standard error s has the other sign with
    probability ``Phi(-|d| / s)`` by the normal law. The sum over the other classes is
    an upper bound (Boole), at most 1. Exact scores never flip. The errors are estimates
    themselves: after four draws, flips are somewhat more frequent than this says.

    Args:
        log_posterior: ``(N, C)`` log p(c | x); it decides which class is the best, and
            by how much.
        scores: the standard errors of the log-likelihoods' differences from the class
            that led in scoring. If another is the best by now, the errors of the two
            add up, which is too much if they are alike.
        tau: ``(N,)`` or a number, what log-likelihoods were divided by.
    """
    if scores.exact:
        return torch.zeros(len(scores), dtype=torch.float64)
    logs = log_posterior.double()
    best = logs.argmax(1, keepdim=True)
    lead = logs.gather(1, best) - logs
    se = scores.se.double() / torch.as_tensor(tau, dtype=torch.float64).view(-1, 1)
    error = (se**2 + se.gather(1, best) ** 2).sqrt()
    # Without an error the sign is known.
    noisy = torch.special.ndtr(-lead / error.clamp_min(1e-300))
    flip = torch.where(error > 0, noisy, torch.zeros_like(noisy))
    return flip.scatter(1, best, 0.0).sum(1).clamp(max=1.0)


def flip_if_drawn(
    log_posterior: Tensor, scores: Scores | None, tau: Tensor | None
) -> Tensor | None:
    """Return the `flip_probability` ``(N,)``; None if no draws were made.

    Args:
        log_posterior: ``(N, C)``.
        scores: None for a model that has no likelihood.
        tau: ``(N,)``; None for 1.
    """
    if scores is None or scores.exact:
        return None
    return flip_probability(log_posterior, scores, 1.0 if tau is None else tau)


def trust(log_posterior: Tensor, flip: Tensor | None = None) -> Tensor:
    """Return the chance that the best class is right, ``(N,)`` float64.

    The posterior of the best class, times the chance that the draws have shown which
    is the best: ``max_c p(c | x) (1 - flip)``.

    Args:
        log_posterior: ``(N, C)``, calibrated if the number is to be taken at its word.
        flip: ``(N,)`` of `flip_probability`; None for exact scores.
    """
    sure = log_posterior.double().amax(1).exp()
    return sure if flip is None else sure * (1 - flip)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is left, and how much of it is right, if the doubtful are not answered."""

    threshold: float
    """The trust of the least trusted text that is answered."""
    share: float
    """Texts that are answered, of all."""
    accuracy: float
    """Of those that are answered."""


def coverage(
    trusts: Tensor, right: Tensor, shares: tuple[float, ...] = (1.0, 0.9, 0.8, 0.5)
) -> tuple[Coverage, ...]:
    """Return the accuracy of the most trusted texts, for some shares of all.

    Texts of equal trust are answered together, so a share may come out greater.

    Args:
        trusts: ``(N,)``.
        right: ``(N,)`` bool.
        shares: in (0, 1].

    Raises:
        DataError: if there is no text.
    """
    if not len(trusts):
        raise DataError("there is no text to measure")
    order = trusts.sort(descending=True).values
    found = []
    for share in shares:
        last = order[max(int(np.ceil(share * len(order) - 1e-9)), 1) - 1]
        answered = trusts >= last
        found.append(
            Coverage(
                float(last),
                float(answered.double().mean()),
                float(right[answered].double().mean()),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Typical:
    """The law of a value per token in texts like those of the training.

    Its mean is `mean`, its variance in a text of L tokens ``between^2 + within^2 / L``:
    texts differ, and the mean of few tokens is noisy.
    """

    mean: float
    between: float
    within: float

    @classmethod
    def fit(cls, per_token: Tensor, tokens: Tensor) -> Typical:
        """Fit the law to values ``(N,)`` of texts of `tokens` ``(N,)``.

        The variances are the non-negative least squares fit of squared distances from
        the mean to 1 and 1 / L.

        Raises:
            DataError: if fewer than two texts have a token, or a value is not finite.
        """
        keep = (tokens > 0).cpu().numpy()
        values = per_token.double().cpu().numpy()[keep]
        length = tokens.double().cpu().numpy()[keep]
        if len(values) < 2:
            raise DataError(
                f"{len(values)} texts with a token are too few to tell what is "
                f"typical; two at least are needed"
            )
        if not np.isfinite(values).all():
            raise DataError("a log-likelihood is not finite; nothing is typical then")
        mean = float(values.mean())
        square = (values - mean) ** 2 * len(values) / (len(values) - 1)
        design = np.stack([np.ones_like(length), 1 / length], 1)
        (between, within), _ = optimize.nnls(design, square)
        return cls(mean, float(np.sqrt(between)), float(np.sqrt(within)))

    def z(self, per_token: Tensor, tokens: Tensor) -> Tensor:
        """Return standard deviations from the mean, ``(N,)`` float64.

        0 for a text without a token, of which nothing is known.
        """
        length = tokens.double().clamp_min(1)
        sd = (self.between**2 + self.within**2 / length).sqrt().clamp_min(1e-12)
        z = (per_token.double() - self.mean) / sd
        return torch.where(tokens > 0, z, torch.zeros_like(z))


@dataclass(frozen=True, kw_only=True, slots=True)
class Novelty:
    """How unlike the training texts N texts are."""

    ratio: Tensor | None
    """``(N,)`` max_c log p(x | c) - log p(x | no class) in nats: what the best class
    explains beyond the background (Ren et al., 2019). None without a null class."""
    ratio_z: Tensor | None
    """``(N,)`` the ratio per token, in deviations from held-out texts."""
    z: Tensor
    """``(N,)`` log p(x) per token, in deviations from held-out texts. Great values are
    as odd as small ones: repetitions are probable (Nalisnick et al., 2019)."""

    def unusual(self, limit: float = 3.0) -> Tensor:
        """Return which texts are out of distribution, ``(N,)`` bool.

        Those whose likelihood per token is more than `limit` deviations off, or whose
        ratio is more than `limit` deviations too small.
        """
        odd = self.z.abs() > limit
        return odd if self.ratio_z is None else odd | (self.ratio_z < -limit)


@dataclass(frozen=True, slots=True)
class Familiar:
    """What held-out texts look like, to tell others by."""

    evidence: Typical
    """Of log p(x) per token."""
    ratio: Typical | None = None
    """Of the ratio with the null class per token."""

    @classmethod
    def fit(cls, scores: Scores, log_prior: Tensor) -> Familiar:
        """Learn from the scores of held-out texts; with the null class if it is there.

        Raises:
            DataError: as `Typical.fit`.
        """
        evidence, ratio = _per_token(scores, log_prior)
        return cls(
            Typical.fit(evidence, scores.tokens),
            None if ratio is None else Typical.fit(ratio, scores.tokens),
        )

    def novelty(self, scores: Scores, log_prior: Tensor) -> Novelty:
        """Measure how unlike the held-out texts the texts of `scores` are."""
        evidence, ratio = _per_token(scores, log_prior)
        ratio_z = None
        if ratio is not None and self.ratio is not None:
            ratio_z = self.ratio.z(ratio, scores.tokens)
        return Novelty(
            ratio=None if ratio is None else ratio * scores.tokens,
            ratio_z=ratio_z,
            z=self.evidence.z(evidence, scores.tokens),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Familiar:
        """Return what `to_dict` was called on.

        Raises:
            DataError: if an entry is missing, unknown or no number.
        """
        try:
            ratio = plain["ratio"]
            return cls(
                Typical(**_floats(plain["evidence"])),
                None if ratio is None else Typical(**_floats(ratio)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"what is typical cannot be read from {dict(plain)}: {error}"
            ) from error


def _floats(plain: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in plain.items()}


def _per_token(scores: Scores, log_prior: Tensor) -> tuple[Tensor, Tensor | None]:
    length = scores.tokens.double().clamp_min(1)
    evidence = log_evidence(scores.log_likelihood, log_prior) / length
    if scores.null is None:
        return evidence, None
    possible = log_prior > -torch.inf
    best = scores.log_likelihood.double()[:, possible].amax(1)
    return evidence, (best - scores.null.double()) / length
