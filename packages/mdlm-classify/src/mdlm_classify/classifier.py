"""The face that scikit-learn knows, for any classifier of texts.

A subclass says how it learns (`_learn`), and what it finds (`_log_posterior`).

Letters: N texts, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from .data.labels import name_of
from .data.split import holdout
from .data.texts import LabelledTexts
from .inputs import classes_of, codes_of, labels_of, names_of, texts_of

Pair = tuple[Any, Any]
"""Texts and their labels."""


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of texts: checks what comes in, and names what goes out.

    A subclass has the parameters `validation_fraction` and `random_state`, `_learn`
    and `_log_posterior`.
    """

    classes_: NDArray[Any]
    """``(C,)``: the classes, sorted."""
    class_count_: NDArray[np.int64]
    """``(C,)``: training texts of each class, as they were learned from."""
    facts_: dict[str, Any]
    """What a file says besides, such as what usual texts look like."""
    seed_: int
    """What `random_state` became."""
    validation_fraction: float
    random_state: Any

    # ---- what a subclass does ------------------------------------------------

    @abstractmethod
    def _learn(
        self,
        train: LabelledTexts,
        held_out: LabelledTexts,
        names: tuple[str, ...],
        unlabelled: Sequence[str],
    ) -> None:
        """Learn from the training texts.

        Args:
            train: texts, and their classes by name.
            held_out: texts to choose a checkpoint by; the training texts again if
                nothing is held out.
            names: the names of the classes, in the order of `classes_`.
            unlabelled: texts whose class is not known.
        """

    @abstractmethod
    def _log_posterior(self, texts: list[str]) -> NDArray[np.float64]:
        """Return log p(class | text) ``(N, C)``, in the order of `classes_`."""

    def _check(self, names: tuple[str, ...]) -> None:
        """Refuse parameters that cannot work, before anything is learned."""

    def _distinct(self, train: LabelledTexts, names: tuple[str, ...]) -> LabelledTexts:
        """Return the texts to divide: here all of them."""
        del names
        return train

    def _calibrate(self, held_out: LabelledTexts) -> None:
        """Fit what turns scores into probabilities, on texts not learned from."""

    def _facts(self) -> dict[str, Any]:
        """Return what a file says of this classifier besides its classes."""
        return {}

    def _restore(self, facts: Mapping[str, Any]) -> None:
        """Take what `_facts` returned."""

    # ---- learning ------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation: Pair | None = None,
        unlabelled: Any = None,
    ) -> Self:
        """Learn from N texts `X` and their classes `y`.

        Weights of texts are not supported: `class_weights` in the settings of the
        task makes rare classes count more.

        Args:
            X: texts: a list, an array, a series.
            y: labels: text, integers or truth values, in at least two classes.
            validation: texts and labels to choose a checkpoint by and to calibrate
                on; None holds out `validation_fraction` of each class.
            unlabelled: texts whose class is not known, to learn language from.

        Raises:
            ValueError: if the input is no texts with labels.
            TypeError: if an element of `X` is no text.
        """
        texts = self._texts(X)
        labels = labels_of(y, len(texts))
        classes = classes_of(labels)
        names = names_of(classes)
        self.seed_ = _seed(self.random_state)
        train = _labelled(texts, labels, "X")
        held_out, calibrate = train, True
        if validation is not None:
            held_out = self._validation(validation, classes)
        elif self.validation_fraction:
            self._check(names)
            train, held_out = self._split(self._distinct(train, names))
        else:
            calibrate = False
        more = [] if unlabelled is None else self._texts(unlabelled, "unlabelled")
        self._check(names)
        self.classes_ = classes
        self.facts_ = {}
        self.class_count_ = _count(train, names)
        self._learn(train, held_out, names, more)
        if calibrate:
            self._calibrate(held_out)
        return self

    def _validation(self, pair: Pair, classes: NDArray[Any]) -> LabelledTexts:
        texts = self._texts(pair[0], "validation[0]")
        labels = labels_of(pair[1], len(texts), what="validation[1]")
        codes_of(labels, classes, what="validation[1]")
        return _labelled(texts, labels, "validation")

    def _split(self, train: LabelledTexts) -> tuple[LabelledTexts, LabelledTexts]:
        share = self.validation_fraction
        if not 0 < share < 1:
            raise ValueError(
                f"validation_fraction is {share}; it must be in (0, 1), or 0 to hold "
                f"out nothing"
            )
        assert train.labels is not None
        keep, out = holdout(train.labels, share, self.seed_)
        return train.select(keep), train.select(out)

    # ---- predicting ----------------------------------------------------------

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return log p(class | text) ``(N, C)``, in the order of `classes_`."""
        check_is_fitted(self, "classes_")
        return self._log_posterior(self._texts(X))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return p(class | text) ``(N, C)``, in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class ``(N,)`` of each text."""
        best = self.predict_log_proba(X).argmax(1)
        chosen: NDArray[Any] = self.classes_[best]
        return chosen

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return log p(class | text) ``(N, C)``; of two classes, the log-odds ``(N,)``.

        They are of the second class: positive where it is more probable.
        """
        return _decision(self.predict_log_proba(X))

    def _texts(self, X: Any, what: str = "X") -> list[str]:
        return texts_of(X, what=what)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _labelled(texts: list[str], labels: NDArray[Any], what: str) -> LabelledTexts:
    return LabelledTexts.of(texts, map(name_of, labels.tolist()), name=what)


def _count(texts: LabelledTexts, names: tuple[str, ...]) -> NDArray[np.int64]:
    assert texts.labels is not None
    found = Counter(texts.labels)
    return np.array([found[name] for name in names], dtype=np.int64)


def _decision(log_posterior: NDArray[np.float64]) -> NDArray[np.float64]:
    if log_posterior.shape[1] == 2:
        odds: NDArray[np.float64] = log_posterior[:, 1] - log_posterior[:, 0]
        return odds
    return log_posterior


def _seed(random_state: Any) -> int:
    """Return a seed; the same for the same integer."""
    if isinstance(random_state, int | np.integer) and not isinstance(
        random_state, bool
    ):
        return int(random_state)
    from sklearn.utils import check_random_state

    return int(check_random_state(random_state).randint(2**31 - 1))
