"""An evaluation, and its card: everything that was measured, as JSON.

Letters: N texts, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from mdlm_classify.calibration import Reliability, reliability
from mdlm_classify.doubt import coverage, flip_if_drawn, trust
from mdlm_classify.metrics import Metrics, measure
from mdlm_classify.scoring.scores import Scores
from mdlm_core.errors import DataError

from .curve import DrawPoint

MISTAKES = 20
TEXT = 600
"""Characters of a text that a report shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The predictions for N labelled texts, and what they rest on."""

    labels: tuple[str, ...]
    """The names of the C classes in order."""
    texts: tuple[str, ...]
    codes: Tensor
    """``(N,)`` int64: the right classes."""
    log_posterior: Tensor
    """``(N, C)`` float64: log p(c | x), as predicted."""
    prior: Tensor
    """``(C,)`` float64: the prior in force."""
    origin: tuple[str, ...] = ()
    """Where each text stands; empty if that is not known."""
    scores: Scores | None = None
    """The log-likelihoods; None for a model that has none."""
    tau: Tensor | None = None
    """``(N,)`` what they were divided by; None for 1."""
    curve: tuple[DrawPoint, ...] = ()
    """Accuracy after some draws, see `curve.draws_curve`."""
    reached: DrawPoint | None = None
    """The same for the rule of stopping that is in force, on the same texts."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else a reader should know, such as the run, the data, the estimator and
    the temperature: plain values for JSON."""

    def __post_init__(self) -> None:
        n = len(self.codes)
        if not n:
            raise DataError("there is no text to evaluate")
        lengths = {"texts": len(self.texts), "log_posterior": len(self.log_posterior)}
        if self.origin:
            lengths["origin"] = len(self.origin)
        if self.scores is not None:
            lengths["scores"] = len(self.scores)
        for name, length in lengths.items():
            if length != n:
                raise DataError(f"{name} has {length} rows for {n} right classes")

    @property
    def metrics(self) -> Metrics:
        """How good the predictions are."""
        return measure(self.codes.cpu(), self.log_posterior.cpu(), self.labels)

    @property
    def right(self) -> Tensor:
        """``(N,)`` bool: which predictions are right."""
        return self.log_posterior.argmax(1) == self.codes

    @property
    def flip(self) -> Tensor | None:
        """``(N,)``: how probably more draws change the class; None if exact."""
        return flip_if_drawn(self.log_posterior, self.scores, self.tau)

    def reliability(self, *, adaptive: bool = False) -> Reliability:
        """Return how often texts are right at each confidence."""
        shares = self.log_posterior.exp().cpu()
        return reliability(shares, self.codes.cpu(), adaptive=adaptive)


def card(evaluation: Evaluation, *, mistakes: int = MISTAKES) -> dict[str, Any]:
    """Return what was measured as plain values, for JSON.

    Args:
        evaluation: the predictions.
        mistakes: how many of the worst to list.
    """
    found = evaluation
    flip = found.flip
    answered = coverage(trust(found.log_posterior, flip), found.right)
    return {
        "facts": dict(found.facts),
        "labels": list(found.labels),
        "prior": found.prior.tolist(),
        **found.metrics.to_dict(),
        "reliability": {
            "width": found.reliability().to_dict(),
            "adaptive": found.reliability(adaptive=True).to_dict(),
        },
        "coverage": [asdict(part) for part in answered],
        "scoring": _scoring(found.scores, flip),
        "draws": {
            "curve": [asdict(part) for part in found.curve],
            "reached": None if found.reached is None else asdict(found.reached),
        },
        "mistakes": worst(found, mistakes),
    }


def _scoring(scores: Scores | None, flip: Tensor | None) -> dict[str, Any] | None:
    """Return what scoring cost, and how sure it is."""
    if scores is None:
        return None
    return {
        "exact": scores.exact,
        "tokens": int(scores.tokens.sum()),
        "empty_texts": int((scores.tokens == 0).sum()),
        "evaluations": int(scores.evaluations.sum()),
        "evaluations_per_text": float(scores.evaluations.double().mean()),
        "draws_per_text": float(scores.draws.double().amax(1).mean()),
        "draws_per_class": float(scores.draws.double().mean()),
        "flip_mean": None if flip is None else float(flip.mean()),
        "flips_over_5_percent": None if flip is None else int((flip > 0.05).sum()),
    }


def worst(evaluation: Evaluation, count: int = MISTAKES) -> list[dict[str, Any]]:
    """Return the mistakes that the model was the surest of, the surest first.

    Sure means a small probability of the right class; equals go in order of the texts.
    """
    found = evaluation
    logs = found.log_posterior.double().cpu()
    codes = found.codes.cpu()
    guess = logs.argmax(1)
    own = logs.gather(1, codes[:, None])[:, 0]
    flip = found.flip
    order = torch.argsort(own, stable=True).tolist()
    rows = [row for row in order if guess[row] != codes[row]][:count]
    listed = []
    for row in rows:
        text = found.texts[row]
        best = int(guess[row])
        margin = float(logs[row, best] - own[row])
        listed.append(
            {
                "row": row,
                "origin": found.origin[row] if found.origin else None,
                "text": text if len(text) <= TEXT else text[:TEXT] + " ...",
                "label": found.labels[int(codes[row])],
                "predicted": found.labels[best],
                "probability": float(logs[row, best].exp()),
                "log_odds": margin if math.isfinite(margin) else None,
                "flip": None if flip is None else float(flip[row]),
                "tokens": None
                if found.scores is None
                else int(found.scores.tokens[row]),
            }
        )
    return listed
