"""Calibrate a trained classifier on texts that it has not learned from.

Letters: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from mdlm_core.errors import DataError, UsageError

from .calibration import LengthTemperature, ece, fit
from .data.document import Document
from .doubt import Familiar
from .held_out import log_loss
from .posterior import log_joint
from .predictor import LikelihoodModel, Predictor, Progress

if TYPE_CHECKING:
    from .face import GenerativeClassifier, TextClassifier
    from .training import TrainedByRun


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrated:
    """What calibration found, and what it changed."""

    rows: int
    """Texts with a token, and of a class that can be, N."""
    accuracy: float
    temperature: LengthTemperature
    familiar: Familiar | None
    """What these texts look like; None if they are too few."""
    ece_before: float
    """Expected calibration error without a temperature."""
    ece_after: float
    """The same with it, on the texts it was fitted to."""
    log_loss_before: float
    log_loss_after: float
    log_loss_prior: float
    """Of the prior alone, which reads no text."""
    informed: bool
    """Whether the texts show that the model knows more than the prior does."""

    @property
    def note(self) -> str:
        """A warning if the model knows no more than the prior; else empty."""
        if self.informed:
            return ""
        return (
            f"on these {self.rows:,} texts the model says no more than the class "
            f"frequencies (log-loss {self.log_loss_after:.4f}, theirs "
            f"{self.log_loss_prior:.4f}); train longer, or give more texts"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def calibrate(
    classifier: GenerativeClassifier,
    documents: Sequence[Document],
    codes: Tensor,
    *,
    progress: Progress | None = None,
) -> Calibrated:
    """Fit the temperature of a classifier, and learn what usual texts look like.

    A prior that was set since the last calibration becomes the one under which the
    temperature is fitted. Texts of a class of prior 0 do not count: it is never
    predicted.

    Args:
        classifier: trained; its temperature is replaced, and so is what its file says
            of usual texts.
        documents: N texts as ids.
        codes: ``(N,)`` their classes, in the order of the model.
        progress: told how far scoring is.

    Raises:
        DataError: if no text has a token, or all are of classes of prior 0.
    """
    model = classifier.model_
    if model.log_new_prior is not None:
        model.log_prior, model.log_new_prior = model.log_new_prior, None
    if not any(document.tokens for document in documents):
        raise DataError("there is no text with a token to calibrate on")
    scores = model.score_documents(documents, null=has_null(model), progress=progress)
    keep = (scores.tokens > 0) & (model.log_prior[codes] > -torch.inf)
    if not bool(keep.any()):
        raise DataError(
            "each text with a token is of a class of prior 0, so that there is nothing "
            "to calibrate on; give such a class a weight"
        )
    scores, codes = scores.select(keep), codes[keep]
    joint = log_joint(scores.log_likelihood, model.log_prior)
    model.temperature = fit(joint, codes, scores.tokens)
    before = joint.log_softmax(1)
    after = model.log_posterior(scores)
    familiar = Familiar.fit(scores, model.log_prior) if len(codes) > 1 else None
    known = None if familiar is None else familiar.to_dict()
    classifier.facts_ = {**classifier.facts_, "familiar": known}
    log_prior = model.log_prior.to(after)
    return Calibrated(
        rows=len(codes),
        accuracy=float((after.argmax(1) == codes).double().mean()),
        temperature=model.temperature,
        familiar=familiar,
        ece_before=ece(before.exp(), codes),
        ece_after=ece(after.exp(), codes),
        log_loss_before=log_loss(before, codes),
        log_loss_after=log_loss(after, codes),
        log_loss_prior=-float(log_prior[codes].mean()),
        informed=informed(after, log_prior, codes),
    )


def informed(log_posterior: Tensor, log_prior: Tensor, codes: Tensor) -> bool:
    """Return whether texts show that a posterior knows more than the prior.

    Their log-loss must be lower by more than a standard error of the mean: a
    temperature that was fitted to N texts wins a little on them by chance.

    Args:
        log_posterior: ``(N, C)``.
        log_prior: ``(C,)``.
        codes: ``(N,)`` the right classes.
    """
    gain = log_posterior.gather(1, codes[:, None])[:, 0] - log_prior[codes]
    error = float(gain.std(correction=0)) / len(gain) ** 0.5
    return bool(float(gain.mean()) > error)


def has_null(model: LikelihoodModel) -> bool:
    """Return whether a model knows text of no class."""
    return isinstance(model, Predictor) and model.backbone.has_null


def generative(classifier: TextClassifier, run: object) -> GenerativeClassifier:
    """Return the classifier, if it classifies by likelihood.

    Raises:
        UsageError: if it does not.
    """
    from .face import GenerativeClassifier

    if not isinstance(classifier, GenerativeClassifier):
        raise UsageError(
            f"'{run}' is a discriminative model, which has no likelihood to calibrate"
        )
    return classifier


def save(classifier: TextClassifier, run: Path, familiar: Familiar | None) -> Path:
    """Write ``classifier.json`` into a run folder."""
    card = cast("TrainedByRun", classifier).card()
    facts = dict(card.facts)
    if familiar is not None:
        facts["familiar"] = familiar.to_dict()
    return replace(card, facts=facts).save(run)


__all__ = ["Calibrated", "calibrate", "generative", "has_null", "informed", "save"]
