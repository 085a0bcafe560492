"""Measure a trained classifier on labelled texts.

Letters: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdlm_core.errors import DataError, UsageError

from .answers import Answers, answer
from .config import LabelledTextConfig, ScoringConfig
from .data.duplicates import signatures
from .data.labels import codes_of
from .data.prepare import digest_of, divide, fresh_unlabelled
from .data.prepare import read as read_split
from .data.split import places
from .data.texts import LabelledTexts
from .face import GenerativeClassifier, TextClassifier
from .inputs import names_of
from .predictor import Predictor, Progress
from .report.card import Evaluation
from .report.curve import DrawPoint, draws_curve, draws_for, point
from .training import IN_MEMORY


def evaluate(
    classifier: TextClassifier,
    texts: LabelledTexts,
    *,
    facts: Mapping[str, Any] | None = None,
    moved: Callable[[Answers], Answers] = lambda answers: answers,
    prior_correction: bool = False,
    curve: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Return what a classifier says about labelled texts, next to what is right.

    Args:
        classifier: trained.
        texts: N texts with labels.
        facts: what the report is to say besides.
        moved: puts answers under another prior.
        prior_correction: whether to estimate the prior from these texts, without
            their labels.
        curve: texts, spread evenly, on which more and more draws are compared; 0 for
            none. A model whose likelihood is exact has no such curve.
        progress: told how far scoring is: done, of.

    Raises:
        DataError: if a label is unknown; the message says where it stands.
    """
    labels = names_of(classifier.classes_)
    assert texts.labels is not None
    codes = torch.from_numpy(codes_of(texts.labels, labels, texts.origin))
    answers = moved(answer(classifier, texts.texts, progress=progress))
    if prior_correction:
        answers = answers.corrected()
    points: tuple[DrawPoint, ...] = ()
    reached = None
    if curve and answers.scores is not None and not answers.scores.exact:
        assert isinstance(classifier, GenerativeClassifier)
        chosen = places(len(texts), curve)
        points, reached = _curve(
            classifier, texts.select(chosen), codes[chosen], answers, chosen, progress
        )
    return Evaluation(
        labels=labels,
        texts=texts.texts,
        codes=codes,
        log_posterior=answers.log_posterior,
        prior=answers.log_prior.exp(),
        origin=texts.origin,
        scores=answers.scores,
        tau=answers.tau,
        curve=points,
        reached=reached,
        facts={**(facts or {}), **_facts(classifier, answers)},
    )


def _facts(classifier: TextClassifier, answers: Answers) -> dict[str, Any]:
    """Return how it was classified."""
    if not isinstance(classifier, GenerativeClassifier):
        return {"model": "discriminative"}
    tau = classifier.temperature_
    found: dict[str, Any] = {"temperature": f"{tau.a:.4g} L^{tau.b:.3g}"}
    model = classifier.model_
    length = getattr(model, "length", None)
    if length is not None and answers.scores is not None:
        found["window"] = f"{length} tokens"
        found["longer than a window"] = int((answers.scores.tokens > length).sum())
    if isinstance(model, Predictor):
        found["scoring"] = ", ".join(
            f"{name} {value}" for name, value in asdict(model.scoring).items()
        )
    return found


def _curve(
    classifier: GenerativeClassifier,
    texts: LabelledTexts,
    codes: Tensor,
    answers: Answers,
    rows: Sequence[int],
    progress: Progress | None,
) -> tuple[tuple[DrawPoint, ...], DrawPoint]:
    """Return accuracy after 2, 4, 8, ... draws, and what the rule in force reached."""
    model = classifier.model_
    assert isinstance(model, Predictor)
    own = model.scoring
    found = {}
    try:
        several = draws_for(own.max_draws)
        for index, draws in enumerate(several):
            model.scoring = at_draws(own, draws)
            part = _part(progress, sum(several[:index]), draws, sum(several))
            scored = answer(classifier, texts.texts, progress=part)
            shift = answers.log_prior - scored.log_prior
            same = bool((shift == 0).all())
            scored = scored if same else scored.under(answers.log_prior)
            found[draws] = scored.log_posterior
    finally:
        model.scoring = own
    assert answers.scores is not None
    chosen = torch.tensor(list(rows))
    used = float(answers.scores.draws[chosen].double().mean())
    guess = answers.log_posterior[chosen].argmax(1)
    most = found[max(found)].argmax(1)
    return draws_curve(found, codes), point(used, guess, codes, most)


def _part(
    progress: Progress | None, before: int, share: int, whole: int
) -> Progress | None:
    """Return what shows a part of the work as a part of the whole."""
    if progress is None:
        return None
    return lambda done, of: progress(before * of + done * share, whole * of)


def at_draws(settings: ScoringConfig, draws: int) -> ScoringConfig:
    """Return the settings for that many draws of every text under every class."""
    start = min(settings.start_draws, draws)
    return replace(settings, rule="fixed", start_draws=start, max_draws=draws)


def spread(texts: LabelledTexts, count: int) -> LabelledTexts:
    """Return `count` texts, spread evenly; 0 means all."""
    return texts.select(places(len(texts), count))


def held_out(settings: LabelledTextConfig, card: Mapping[str, Any]) -> LabelledTexts:
    """Return the texts that a run held out, in the same order.

    Args:
        settings: of the data of the run.
        card: what the run wrote down about its data, ``data.json``.

    Raises:
        DataError: if they cannot be read, or are others now.
        UsageError: if they were given in memory.
    """
    if settings.path == IN_MEMORY:
        raise UsageError(
            "the texts of this run were given in memory, and it keeps no copy of those "
            "it held out; give labelled texts with --data"
        )
    train, given, _, _ = read_split(settings)
    _, found, _ = divide(train, given, settings)
    if digest_of(found) != card["splits"]["validation"]["sha256"]:
        path = settings.validation or settings.path or "docstrings of this Python"
        raise DataError(
            f"the texts that the run held out cannot be told: those it read "
            f"('{path}') have changed since; give labelled texts with --data"
        )
    return found


def known_texts(
    settings: LabelledTextConfig, texts: LabelledTexts
) -> NDArray[np.bool_] | None:
    """Return which texts also stand among those that a run learned from, ``(N,)``.

    Those that it held out, or left out, are not among them. Case, blanks and
    punctuation do not count. None if the file or folder that the run read is not there.
    """
    if not settings.path or not Path(settings.path).exists():
        return None
    train, given, free, _ = read_split(settings)
    learned, held, _ = divide(train, given, settings)
    free, _ = fresh_unlabelled(free, held, settings)
    seen = {*signatures(learned.texts), *signatures(free)}
    keys = signatures(texts.texts)
    return np.array([key in seen for key in keys], dtype=bool)
