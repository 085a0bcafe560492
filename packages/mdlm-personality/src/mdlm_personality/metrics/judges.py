"""What reads traits in texts.

`LexiconJudge` inverts the law of the invented persons exactly. `TextJudge` is fitted to
people's texts, of the training split alone and never to generated ones: word pairs by
TF-IDF, then a logistic regression where a trait is high or low, or a ridge regression
where it is a number. `ceiling` says how well that can be done, by authors it has not
seen.

Letters: N texts, K traits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_personality.data.split import same_author
from mdlm_personality.data.texts import PersonaTexts
from mdlm_personality.traits import TRAITS

from .alignment import Alignment, Readings, alignment
from .intervals import Floats

K = len(TRAITS)


class Judge(Protocol):
    """Reads the five traits in texts."""

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        ...

    def read(self, texts: Sequence[str]) -> Readings:
        """Return what N texts tell."""
        ...


class LexiconJudge:
    """The exact judge of the invented persons.

    Args:
        effect: ``data.effect`` of the corpus.
    """

    name = "the planted law, exactly"

    def __init__(self, effect: float) -> None:
        self.effect = effect

    def read(self, texts: Sequence[str]) -> Readings:
        """Return posterior means, and the sides with the greater posterior chance."""
        from mdlm_personality.data.judge import judge

        found = judge(texts, effect=self.effect)
        odds = found.log_odds[:, :K]
        sides = np.where(np.abs(odds) > 1e-9, (odds > 0).astype(np.float64), np.nan)
        return Readings(found.mean[:, :K], sides)


class TextJudge:
    """TF-IDF of words and word pairs, and a linear model of each trait.

    A trait that has two values only is a class; any other is a number. A text is high
    where the class has a chance above one half, or the number is above the mean of the
    texts that were fitted to. It says nothing of a text without a word that it knows.
    """

    name = "TF-IDF and linear models"

    def __init__(self, *, least: int = 2, strength: float = 1.0) -> None:
        """Choose how the judge is fitted.

        Args:
            least: texts that a word or pair must be in.
            strength: C of the logistic, 1 / alpha of the ridge regression.
        """
        self.least = least
        self.strength = strength
        self._vectors: TfidfVectorizer | None = None
        self._models: list[tuple[Any, float] | None] = []

    def fit(self, texts: PersonaTexts) -> TextJudge:
        """Learn from texts of which traits are known; one without spread is left out.

        Raises:
            DataError: if there is no text with words.
        """
        self._vectors = _vectors(self.least)
        try:
            counts = self._vectors.fit_transform(texts.texts)
        except ValueError as error:
            raise DataError(
                f"the judge finds no words in {len(texts)} training texts: {error}"
            ) from error
        self._models = [
            _model(counts, texts.values[:, k], self.strength) for k in range(K)
        ]
        return self

    def read(self, texts: Sequence[str]) -> Readings:
        """Return scores and sides; NaN for a trait that could not be learned.

        Raises:
            DataError: if the judge was not fitted.
        """
        if self._vectors is None:
            raise DataError("the judge was not fitted; call fit first")
        return _read(self._vectors.transform(texts), self._models)


def ceiling(
    texts: PersonaTexts,
    *,
    noise: Noise,
    folds: int = 10,
    least: int = 2,
    strength: float = 1.0,
) -> tuple[Alignment, ...]:
    """Return how well a `TextJudge` reads authors it was not fitted to.

    Folds keep authors together, and so do the resamples of the intervals.

    Args:
        texts: texts of which traits are known.
        noise: decides the folds.
        folds: how many.
        least: as of `TextJudge`.
        strength: as of `TextJudge`.

    Raises:
        DataError: if there are fewer authors than folds, or no words.
    """
    authors = {
        author: place
        for place, author in enumerate(dict.fromkeys(map(same_author, texts.authors)))
    }
    if len(authors) < folds:
        raise DataError(f"{len(authors)} authors cannot be divided into {folds} folds")
    owner = [authors[same_author(author)] for author in texts.authors]
    seed = noise.child("folds").integer() % 2**32
    split = GroupKFold(folds, shuffle=True, random_state=seed)
    scores = np.full((len(texts), K), np.nan)
    sides = np.full((len(texts), K), np.nan)
    for fit, test in split.split(owner, groups=owner):
        judge = TextJudge(least=least, strength=strength).fit(texts.select(fit))
        scores[test], sides[test] = judge.read(texts.select(test).texts)
    return alignment(
        texts.values[:, :K], Readings(scores, sides), noise=noise, groups=owner
    )


def _vectors(least: int) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), min_df=least, sublinear_tf=True)


def _many(values: Floats) -> bool:
    return len(np.unique(values)) > 2


def _model(
    counts: sparse.csr_matrix, values: Floats, strength: float
) -> tuple[Any, float] | None:
    """Return a model and the score above which a text is high."""
    known = ~np.isnan(values)
    if known.sum() < 2 or np.ptp(values[known]) == 0:
        return None
    if _many(values[known]):
        ridge = Ridge(alpha=1 / strength).fit(counts[known], values[known])
        return ridge, float(values[known].mean())
    high = values[known] == values[known].max()
    return LogisticRegression(C=strength, max_iter=1000).fit(counts[known], high), 0.5


def _read(
    counts: sparse.csr_matrix, models: Sequence[tuple[Any, float] | None]
) -> Readings:
    shape = (counts.shape[0], len(models))
    scores, sides = np.full(shape, np.nan), np.full(shape, np.nan)
    for k, found in enumerate(models):
        if found is None:
            continue
        model, middle = found
        linear = isinstance(model, Ridge)
        raw = model.predict(counts) if linear else model.predict_proba(counts)[:, 1]
        scores[:, k] = np.clip(raw, 0, 1)
        sides[:, k] = raw > middle
    silent = np.asarray(counts.getnnz(axis=1)) == 0
    scores[silent], sides[silent] = np.nan, np.nan
    return Readings(scores, sides)
