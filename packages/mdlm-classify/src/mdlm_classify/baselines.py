"""Classifiers of bags of words to compare with, as pipelines of scikit-learn.

All count words of two or more letters or digits in lower case, as scikit-learn does by
default, and are used as they are: nothing is tuned on held-out texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from mdlm_core.errors import UnknownNameError

PAIRS = (1, 2)
"""Single words and pairs of neighbours."""
STEPS = 2000
"""Steps of the solver of logistic regression, at most; it stops earlier."""


class LogCountRatio(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Weigh each word by how much more often one of two classes has it.

    ``r = log (p / |p|_1) / (q / |q|_1)`` with ``p = a + sum of rows of the second
    class`` and q the same of the first; rows are multiplied by r (Wang and Manning,
    2012, "Baselines and bigrams", section 2). In front of a linear classifier it is
    their NB-SVM without its interpolation.
    """

    log_ratio_: NDArray[np.float64]
    """``(F,)``: r of each of F features."""
    n_features_in_: int

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Learn r from ``(N, F)`` counts, or presence, and two classes ``(N,)``.

        Raises:
            ValueError: if a count is negative, `alpha` is not positive, or there are
                not two classes.
        """
        X, labels = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        if self.alpha <= 0:
            raise ValueError(f"alpha is {self.alpha}; it must be positive")
        lowest = X.min() if X.shape[0] and X.shape[1] else 0.0
        if lowest < 0:
            raise ValueError(
                f"Negative values in data passed to LogCountRatio: {lowest}; counts "
                f"are at least 0"
            )
        classes = np.unique(labels)
        if len(classes) != 2:
            raise ValueError(
                f"there are {len(classes)} classes and a ratio is of two; put it into "
                f"OneVsRestClassifier for more"
            )
        second = self._share(X[labels == classes[1]])
        first = self._share(X[labels == classes[0]])
        self.log_ratio_ = second - first
        return self

    def transform(self, X: Any) -> Any:
        """Return the rows ``(N, F)`` times r, sparse where `X` is."""
        check_is_fitted(self, "log_ratio_")
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        if sparse.issparse(X):
            return X.multiply(self.log_ratio_).tocsr()
        return X * self.log_ratio_

    def _share(self, rows: Any) -> NDArray[np.float64]:
        """Return the log-share ``(F,)`` of each feature in the rows of a class."""
        count = np.asarray(rows.sum(axis=0)).ravel() + self.alpha
        shares: NDArray[np.float64] = np.log(count / count.sum())
        return shares

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.target_tags.required = True
        return tags


@dataclass(frozen=True, slots=True)
class Baseline:
    """A classifier to compare with."""

    summary: str
    make: Callable[[], Pipeline]


def naive_bayes(pairs: bool = False) -> Pipeline:
    """Return multinomial naive Bayes with one added to each count.

    Args:
        pairs: whether pairs of neighbouring words are counted too.
    """
    return Pipeline(
        [
            ("words", CountVectorizer(ngram_range=PAIRS if pairs else (1, 1))),
            ("classifier", MultinomialNB(alpha=1.0)),
        ]
    )


def nb_logistic(strength: float = 1.0) -> Pipeline:
    """Return logistic regression on which words occur, weighed by their ratio.

    With more than two classes it is one against the rest.

    Args:
        strength: C, what the loss counts for against the squared weights.
    """
    linear = make_pipeline(LogCountRatio(), _logistic(strength))
    return Pipeline(
        [
            ("words", CountVectorizer(ngram_range=PAIRS, binary=True)),
            ("classifier", OneVsRestClassifier(linear)),
        ]
    )


def tfidf_logistic(strength: float = 10.0) -> Pipeline:
    """Return logistic regression on words and pairs, weighed by how rare they are.

    Counts are taken by their logarithm, and what occurs in one text alone is left out.

    Args:
        strength: C, what the loss counts for against the squared weights.
    """
    words = TfidfVectorizer(ngram_range=PAIRS, sublinear_tf=True, min_df=2)
    return Pipeline([("words", words), ("classifier", _logistic(strength))])


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=STEPS)


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "nb": Baseline("multinomial naive Bayes of words", naive_bayes),
        "nb-pairs": Baseline(
            "multinomial naive Bayes of words and pairs", lambda: naive_bayes(True)
        ),
        "nb-lr": Baseline("logistic regression on ratios of naive Bayes", nb_logistic),
        "tfidf-lr": Baseline("logistic regression on TF-IDF", tfidf_logistic),
    }
)
"""What `baseline` makes, by name."""


def baseline(name: str) -> Pipeline:
    """Make a classifier of `BASELINES`, not yet fitted.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    if name not in BASELINES:
        close = get_close_matches(name, BASELINES, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"use {', '.join(BASELINES)}"
        raise UnknownNameError(f"there is no baseline '{name}'; {hint}")
    return BASELINES[name].make()
