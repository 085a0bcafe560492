"""What a classifier says about texts, with how much it can be trusted.

Letters: N texts, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mdlm_core.errors import CheckpointError, UsageError

from .doubt import Familiar, Novelty, flip_if_drawn, trust
from .face import GenerativeClassifier, TextClassifier
from .inputs import names_of
from .posterior import with_prior
from .predictor import Progress
from .prior import class_prior, correction_note, em_prior
from .scoring.scores import Scores

_LOG = logging.getLogger(__name__)
_SILENT = (
    "a discriminative model has no likelihood: it reads no text with gaps, and does "
    "not know how usual a text is; use a masked diffusion model"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """The posteriors of N texts, and what they rest on."""

    labels: tuple[str, ...]
    """The names of the C classes in order."""
    log_posterior: Tensor
    """``(N, C)`` float64: log p(class | text)."""
    log_prior: Tensor
    """``(C,)`` float64: the prior in force."""
    scores: Scores | None = None
    """The log-likelihoods; None for a model that has none."""
    tau: Tensor | None = None
    """``(N,)``: what they were divided by."""
    novelty: Novelty | None = None
    """How unlike the training texts they are, if that was asked for."""

    def __len__(self) -> int:
        return len(self.log_posterior)

    @property
    def flip(self) -> Tensor | None:
        """``(N,)``: how probably more draws change the class; None if exact."""
        return flip_if_drawn(self.log_posterior, self.scores, self.tau)

    @property
    def trust(self) -> Tensor:
        """``(N,)``: the chance that the most probable class is right."""
        return trust(self.log_posterior, self.flip)

    def under(self, log_prior: Tensor) -> Answers:
        """Return the answers under another prior, without scoring again."""
        moved = with_prior(self.log_posterior, self.log_prior, log_prior)
        return replace(self, log_posterior=moved, log_prior=log_prior)

    def corrected(self) -> Answers:
        """Return the answers under the prior that these texts together suggest.

        By expectation maximisation (Saerens, Latinne and Decaestecker, 2002) on the
        calibrated posterior, slightly smoothed; no label is read. A warning is logged
        if the posteriors barely depend on the text.
        """
        if note := correction_note(self.log_posterior):
            _LOG.warning("note: %s", note)
        likelihood = self.log_posterior - self.log_prior
        likelihood = likelihood.masked_fill(self.log_prior == -torch.inf, 0.0)
        return self.under(em_prior(likelihood, self.log_prior.exp()).log())


def answer(
    classifier: TextClassifier,
    texts: Sequence[str],
    *,
    gaps: bool = False,
    familiar: Familiar | None = None,
    progress: Progress | None = None,
) -> Answers:
    """Return what a classifier says about N texts.

    Args:
        classifier: trained.
        texts: the texts; one without a known token gets the prior.
        gaps: whether three or more underscores in a text are a missing token.
        familiar: what held-out texts look like; then it is measured how unlike them
            each text is, which needs the null class where `familiar` had it.
        progress: told how far scoring is: done, of.

    Raises:
        UsageError: if the model cannot leave gaps, or has no likelihood to tell how
            unlike the training texts a text is.
    """
    labels = names_of(classifier.classes_)
    if not isinstance(classifier, GenerativeClassifier):
        if gaps or familiar is not None:
            raise UsageError(_SILENT)
        counts = torch.from_numpy(classifier.class_count_)
        found = classifier.predict_log_proba(list(texts))
        return Answers(
            labels=labels,
            log_posterior=torch.from_numpy(found),
            log_prior=class_prior("empirical", labels, counts).log(),
        )
    null = familiar is not None and familiar.ratio is not None
    scores = classifier.scores(list(texts), gaps=gaps, null=null, progress=progress)
    log_prior = torch.from_numpy(classifier.log_prior_)
    return Answers(
        labels=labels,
        log_posterior=torch.from_numpy(classifier.log_posterior(scores)),
        log_prior=log_prior,
        scores=scores,
        tau=classifier.temperature_.of(scores.tokens),
        novelty=None if familiar is None else familiar.novelty(scores, log_prior),
    )


def rows(answers: Answers, *, abstain: float | None = None) -> Iterator[dict[str, Any]]:
    """Yield what is said about each text, as plain values for a file.

    Args:
        answers: of N texts.
        abstain: the least trust with which a label is given; below it the label is
            None, and `best` has the most probable class.
    """
    logs = answers.log_posterior
    order = logs.sort(dim=1, descending=True, stable=True).indices
    trusts, flip, scores = answers.trust, answers.flip, answers.scores
    novelty = answers.novelty
    unusual = None if novelty is None else novelty.unusual()
    for row in range(len(answers)):
        best, second = (int(column) for column in order[row, :2])
        sure = float(trusts[row])
        silent = abstain is not None and sure < abstain
        found: dict[str, Any] = {"label": None if silent else answers.labels[best]}
        if abstain is not None:
            found["best"] = answers.labels[best]
        found["probability"] = float(logs[row, best].exp())
        found["trust"] = sure
        if scores is not None:
            found["tokens"] = int(scores.tokens[row])
        if scores is not None and flip is not None:
            se = (scores.se[row, best] ** 2 + scores.se[row, second] ** 2).sqrt()
            joint = scores.log_likelihood[row]
            found["log_ratio"] = float(joint[best] - joint[second])
            found["log_ratio_se"] = float(se)
            found["flip"] = float(flip[row])
            found["draws"] = int(scores.draws[row].max())
        if novelty is not None and unusual is not None:
            found["unusual"] = bool(unusual[row])
            found["z"] = float(novelty.z[row])
            if novelty.ratio is not None:
                found["ratio"] = float(novelty.ratio[row])
        found["probabilities"] = {
            label: float(value.exp())
            for label, value in zip(answers.labels, logs[row], strict=True)
        }
        yield found


def familiar_of(
    classifier: TextClassifier, facts: Mapping[str, Any], run: object
) -> Familiar:
    """Return what a run's ``classifier.json`` says of usual texts.

    A note is logged if the model has no null class to compare with.

    Raises:
        UsageError: if the model has no likelihood.
        CheckpointError: if it says nothing.
    """
    if not isinstance(classifier, GenerativeClassifier):
        raise UsageError(_SILENT)
    if facts.get("familiar") is None:
        raise CheckpointError(
            f"'{run}' does not know what usual texts look like; "
            f"'mdlm classify calibrate {run}' finds out"
        )
    familiar = Familiar.from_dict(facts["familiar"])
    if familiar.ratio is None:
        _LOG.warning(
            "note: the model has no null class, so that only typicality is known: how "
            "usual log p(text) per token is, and no ratio with text of no class"
        )
    return familiar
