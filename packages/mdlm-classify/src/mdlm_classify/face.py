"""The face that scikit-learn knows, for a classifier by likelihood.

Letters: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .calibrating import calibrate
from .calibration import LengthTemperature
from .classifier import TextClassifier
from .data.document import Document
from .data.texts import LabelledTexts
from .inputs import codes_of, labels_of, names_of
from .posterior import log_evidence
from .predictor import LikelihoodModel, Progress
from .prior import PriorError, class_prior
from .scoring.scores import Scores

__all__ = ["GenerativeClassifier", "Prior", "TextClassifier"]

Prior = str | Mapping[Any, float] | Sequence[float] | NDArray[np.float64]
"""A name, a weight for each class by name, or weights in the order of `classes_`."""


class GenerativeClassifier(TextClassifier):
    """A classifier by likelihood: ``p(c | x)`` from ``log p(x | c) + log p(c)``.

    A subclass has the parameters `prior` and `calibrate` too, and its `_learn` returns
    by setting `model_`.
    """

    model_: LikelihoodModel
    """What scores texts. Its classes may stand in another order than `classes_`."""
    prior: Prior
    calibrate: bool

    @property
    def log_prior_(self) -> NDArray[np.float64]:
        """``(C,)``: log p(class)."""
        prior: NDArray[np.float64] = self.model_.log_prior_now[self._columns()].numpy()
        return prior

    @property
    def temperature_(self) -> Any:
        """What log p(text, class) is divided by; see `calibration`."""
        return self.model_.temperature

    def scores(
        self,
        X: Any,
        *,
        gaps: bool = False,
        null: bool = False,
        progress: Progress | None = None,
    ) -> Scores:
        """Return log p(text | class) with standard errors, in the order of `classes_`.

        Args:
            X: N texts.
            gaps: whether underscores in a text stand for missing tokens.
            null: whether to score the null class too.
            progress: told how far scoring is: done, of.
        """
        check_is_fitted(self, "classes_")
        found = self.model_.scores(
            self._texts(X), gaps=gaps, null=null, progress=progress
        )
        return _ordered(found, self._columns())

    def log_posterior(self, scores: Scores) -> NDArray[np.float64]:
        """Return log p(class | text) ``(N, C)`` for what `scores` returned."""
        columns = self._columns()
        back = torch.empty_like(columns)
        back[columns] = torch.arange(len(columns))
        found = self.model_.log_posterior(_ordered(scores, back))
        posterior: NDArray[np.float64] = found[:, columns].numpy()
        return posterior

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return log p(text) ``(N,)`` in nats: log sum over c of p(text | c) p(c).

        The estimate of a class that was left out of the race early is coarse, and
        counts for little.
        """
        found = self.scores(X)
        log_prior = torch.from_numpy(self.log_prior_)
        values: NDArray[np.float64] = log_evidence(
            found.log_likelihood, log_prior
        ).numpy()
        return values

    def compute_nll(self, text: Any, label: Any = None) -> Any:
        """Return -log p(text | label), or -log p(text), in nats.

        Args:
            text: one text, for one number; or N, for ``(N,)``.
            label: the class; None for all of them, by their priors.

        Raises:
            ValueError: if there is no such class.
        """
        texts = [text] if isinstance(text, str) else text
        if label is None:
            values = -self.score_samples(texts)
        else:
            check_is_fitted(self, "classes_")
            column = codes_of(np.array([label]), self.classes_, what="label")[0]
            values = -self.scores(texts).log_likelihood[:, column].numpy()
        return float(values[0]) if isinstance(text, str) else values

    def set_prior(self, prior: Prior) -> Self:
        """Use another prior, without learning again.

        After calibration it multiplies the calibrated posterior by the ratio of the
        priors, so that no temperature divides it.

        Args:
            prior: "empirical", "uniform", or the probability of each class, by name
                or in the order of `classes_`.

        Raises:
            ValueError: if it is none of these, or no distribution.
        """
        check_is_fitted(self, "classes_")
        log_prior = self._log_prior(prior)
        if self.model_.temperature == LengthTemperature():
            self.model_.log_prior = log_prior
        else:
            self.model_.log_new_prior = log_prior
        self.prior = prior
        return self

    def _check(self, names: tuple[str, ...]) -> None:
        class_prior(_weights(self.prior, names), names, torch.ones(len(names)))

    def _log_prior(self, prior: Prior) -> torch.Tensor:
        """Return the log prior ``(C,)`` in the order of the model."""
        names = names_of(self.classes_)
        prior = _weights(prior, names)
        sizes = dict(zip(names, self.class_count_, strict=True))
        labels = self.model_.labels
        counts = torch.tensor([int(sizes[name]) for name in labels])
        return class_prior(prior, labels, counts).log()

    def _columns(self) -> torch.Tensor:
        """Return the model's column ``(C,)`` of each of `classes_`."""
        index = {name: column for column, name in enumerate(self.model_.labels)}
        return torch.tensor([index[name] for name in names_of(self.classes_)])

    def _log_posterior(self, texts: list[str]) -> NDArray[np.float64]:
        found = self.model_.scores(texts)
        posterior: NDArray[np.float64] = self.model_.log_posterior(found)[
            :, self._columns()
        ].numpy()
        return posterior

    def recalibrate(self, X: Any, y: Any, *, progress: Progress | None = None) -> Self:
        """Fit the temperature to N texts that the model has not learned from.

        The prior in force is the one under which it is fitted. It is also learned what
        usual texts look like, which `card` and files say.

        Args:
            X: texts.
            y: their classes.
            progress: told how far scoring is.

        Raises:
            ValueError: if a label is unknown.
            DataError: if no text has a token, or all are of classes of prior 0.
        """
        check_is_fitted(self, "classes_")
        texts = self._texts(X)
        codes = codes_of(labels_of(y, len(texts)), self.classes_)
        documents = self.model_.documents(texts)
        return self.recalibrate_on(documents, self._columns()[codes], progress=progress)

    def recalibrate_on(
        self,
        documents: Sequence[Document],
        codes: torch.Tensor,
        *,
        progress: Progress | None = None,
    ) -> Self:
        """Fit the temperature to texts as ids; see `recalibrate`.

        Args:
            documents: N texts.
            codes: ``(N,)`` their classes, in the order of the model.
            progress: told how far scoring is.
        """
        calibrate(self, documents, codes, progress=progress)
        return self

    def _calibrate(self, held_out: LabelledTexts) -> None:
        if not self.calibrate:
            return
        assert held_out.labels is not None
        documents = self.model_.documents(held_out.texts)
        index = {name: column for column, name in enumerate(self.model_.labels)}
        codes = torch.tensor([index[label] for label in held_out.labels])
        tokens = torch.tensor([document.tokens for document in documents])
        possible = self.model_.log_prior[codes] > -torch.inf
        if bool(((tokens > 0) & possible).any()):
            self.recalibrate_on(documents, codes)

    # ---- files ---------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        model = self.model_
        found = {
            **self.facts_,
            "prior": model.log_prior.exp().tolist(),
            "prior_rule": self.prior if isinstance(self.prior, str) else "given",
            "temperature": asdict(model.temperature),
        }
        if model.log_new_prior is not None:
            found["new_prior"] = model.log_new_prior.exp().tolist()
        return found

    def _restore(self, facts: Mapping[str, Any]) -> None:
        model = self.model_
        self.facts_ = {k: v for k, v in facts.items() if k != "new_prior"}
        if "prior" in facts:
            model.log_prior = torch.tensor(facts["prior"], dtype=torch.float64).log()
        if "new_prior" in facts:
            new = torch.tensor(facts["new_prior"], dtype=torch.float64)
            model.log_new_prior = new.log()
        model.temperature = LengthTemperature(**facts.get("temperature", {}))
        self.prior = facts.get("prior_rule", self.prior)
        if self.prior == "given":
            shares = np.exp(self.log_prior_).tolist()
            self.prior = dict(zip(self.classes_.tolist(), shares, strict=True))


def _weights(prior: Prior, names: Sequence[str]) -> str | Mapping[Any, float]:
    """Return a prior by name; weights alone are of the classes in order, `names`.

    Raises:
        PriorError: if it is no row of as many weights as there are classes.
    """
    if isinstance(prior, str | Mapping):
        return prior
    weights = np.asarray(prior, dtype=object)
    if weights.shape != (len(names),):
        raise PriorError(
            f"the prior is {prior!r}; it must be empirical, uniform, a weight for each "
            f"class by name, or a list of {len(names)} weights in the order of "
            f"classes_: {', '.join(names)}"
        )
    return dict(zip(names, weights.tolist(), strict=True))


def _ordered(scores: Scores, columns: torch.Tensor) -> Scores:
    """Return scores with their classes in the order `columns`."""
    if columns.tolist() == list(range(len(columns))):
        return scores
    return Scores(
        log_likelihood=scores.log_likelihood[:, columns],
        se=scores.se[:, columns],
        draws=scores.draws[:, columns],
        tokens=scores.tokens,
        evaluations=scores.evaluations,
        kept=scores.kept[:, columns],
        null=scores.null,
        exact=scores.exact,
    )
