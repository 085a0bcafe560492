"""Which words decided: exact shares of the log-ratio of two classes.

The estimate of ``log p(x | a) - log p(x | b)`` is a mean over draws of weighted sums
over hidden tokens. Sorted by token instead of by draw, the same numbers are

    a_i = mean over draws of weight * [nll_i(b) - nll_i(a)],  sum over i of a_i,

so that they explain the reported number and nothing else: no gradient, no other model
and no approximation. They share its noise, and its control variate, which is sorted by
token already.

Letters: n tokens, W words, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.errors import UsageError

from .config import ScoringConfig
from .data.document import Document, encode, of_ids
from .predictor import Predictor
from .sample import class_of
from .scoring.scorer import score, token_values
from .scoring.scores import Scores
from .words import Word, tail, words_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """What each token of a text adds to a log-ratio, in nats."""

    text: str
    label: str
    """The class a that positive values speak for."""
    other: str
    """The class b that negative values speak for."""
    words: tuple[Word, ...]
    """All tokens are in one of them."""
    tail: str
    """What the text has after the last word."""
    ids: tuple[int, ...]
    values: Tensor
    """``(n,)`` float64, 0 at gaps; they sum to `log_ratio`, apart from rounding."""
    log_ratio: float
    """``l_a - l_b``, as the classifier estimates it."""
    se: float
    """Its standard error from the draws; 0 if there is no token."""
    log_prior_ratio: float
    """``log pi_a - log pi_b``, which no word is responsible for."""
    share: float
    """p(a | x) / (p(a | x) + p(b | x)), by the classifier's posterior."""
    draws: int
    """Masks that both classes saw."""
    evaluations: int
    """Rows that went through the model."""

    def by_word(self) -> list[float]:
        """Return the nats of each word: the sums over its tokens."""
        sums = self.values.cumsum(0).tolist()
        edges = [0.0, *sums]
        return [edges[word.end] - edges[word.first] for word in self.words]


def explain(
    predictor: Predictor,
    text: str,
    *,
    label: str | None = None,
    other: str | None = None,
    gaps: bool = False,
    scoring: ScoringConfig | None = None,
    ids: Sequence[int] | None = None,
) -> Attribution:
    """Return what each token of `text` adds to the log-ratio of two classes.

    With the most probable class among the two, the log-ratio is that of the scores with
    which the classifier predicts, from the same draws; otherwise the two are compared
    with each other in the same way.

    Args:
        predictor: the classifier.
        text: what is explained.
        label: the class a; the most probable one if not given, apart from `other`.
        other: the class b; the next most probable one if not given.
        gaps: whether underscores in the text stand for missing tokens.
        scoring: the estimator, instead of the predictor's own.
        ids: the tokens of the text, if they are not as the tokenizer would have them.

    Raises:
        UnknownNameError: if there is no such class.
        UsageError: if the two classes are the same.
    """
    settings = scoring or predictor.scoring
    document = (
        encode(predictor.tokenizer, text, length=predictor.length, gaps=gaps)
        if ids is None
        else of_ids(ids, length=predictor.length, mask_id=predictor.tokenizer.mask_id)
    )
    asked = [
        None if name is None else class_of(name, predictor.labels)
        for name in (label, other)
    ]
    if len(predictor.labels) < 2 or (asked[0] is not None and asked[0] == asked[1]):
        raise UsageError(
            f"'{label or predictor.labels[0]}' is to be compared with itself; name two "
            f"classes"
        )
    scores = predictor.score_documents([document], scoring=settings)
    evaluations = int(scores.evaluations)
    a, b = _pair(predictor.log_posterior(scores)[0], *asked)
    if _leader(scores, predictor.race_prior(scores.tokens)[0]) not in (a, b):
        scores = _between(predictor, document, (a, b), settings)
        evaluations += int(scores.evaluations)
    draws = int(scores.draws[0, [a, b]].amin())
    tokens = tuple(token for window in document.windows for token in window)
    values = torch.zeros(len(tokens), dtype=torch.float64)
    if draws:
        under_a, under_b = token_values(
            predictor.backbone,
            document,
            labels=(a, b),
            draws=draws,
            settings=settings,
            schedule=predictor.schedule,
        )
        values = under_a - under_b
        evaluations += 2 * _rows(document, draws, settings)
    log_likelihood = scores.log_likelihood[0]
    posterior = predictor.log_posterior(scores)[0]
    prior = predictor.log_prior_now
    if not bool(posterior[[a, b]].isfinite().any()):
        raise UsageError(
            f"'{predictor.labels[a]}' and '{predictor.labels[b]}' both have the prior "
            f"0, so that no text can be of either; compare with another class"
        )
    words = words_of(predictor.tokenizer, tokens, text)
    return Attribution(
        text=text,
        label=predictor.labels[a],
        other=predictor.labels[b],
        words=tuple(words),
        tail=tail(words, text),
        ids=tokens,
        values=values,
        log_ratio=float(log_likelihood[a] - log_likelihood[b]),
        se=float(scores.se[0, [a, b]].amax()),
        log_prior_ratio=float(prior[a] - prior[b]),
        share=float(posterior[[a, b]].softmax(0)[0]),
        draws=draws,
        evaluations=evaluations,
    )


def _pair(posterior: Tensor, a: int | None, b: int | None) -> tuple[int, int]:
    """Return two classes: those that are asked for, else the most probable ones."""
    order = posterior.argsort(descending=True, stable=True).tolist()
    if a is None:
        a = next(c for c in order if c != b)
    if b is None:
        b = next(c for c in order if c != a)
    return a, b


def _rows(document: Document, draws: int, settings: ScoringConfig) -> int:
    """Return the rows that go through the model for one class."""
    if settings.estimator == "any-order":
        return draws * document.tokens
    return (draws + bool(settings.control)) * len(document.windows)


def _leader(scores: Scores, log_prior: Tensor) -> int:
    """Return the class that all others were compared with."""
    joint = scores.log_likelihood[0] + log_prior
    return int(joint.masked_fill(~scores.kept[0], -torch.inf).argmax())


def _between(
    predictor: Predictor,
    document: Document,
    pair: tuple[int, int],
    settings: ScoringConfig,
) -> Scores:
    """Return the scores in a race of two classes alone."""
    added = predictor.race_prior(torch.tensor([document.tokens]))[0]
    own = added[list(pair)]
    prior = torch.full_like(added, -torch.inf)
    prior[list(pair)] = torch.where(own.isfinite().all(), own, 0.0)
    return score(
        predictor.backbone,
        [document],
        classes=len(predictor.labels),
        settings=settings,
        schedule=predictor.schedule,
        log_prior=prior,
    )
