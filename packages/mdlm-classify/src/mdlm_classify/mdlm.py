"""`MDLMClassifier`: one masked diffusion model that is told the class.

Letters: C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import torch

from .config import ScoringConfig
from .data.labels import name_of
from .data.texts import LabelledTexts
from .face import GenerativeClassifier, Prior
from .growth import grow
from .inputs import check_all, codes_of, labels_of, names_of, sorted_classes
from .nn.condition import Conditional
from .predictor import Predictor
from .training import Trained, TrainedByRun


class MDLMClassifier(TrainedByRun, GenerativeClassifier):
    """Classify texts by their likelihood under a masked diffusion language model.

    ``log p(text | class)`` is estimated by the bound of masked diffusion (Sahoo et al.,
    arXiv 2406.07524), with the same masks for all classes, and Bayes' rule gives the
    posterior. Learning starts at multinomial naive Bayes.

    Example:
        >>> classifier = MDLMClassifier(epochs=4)  # doctest: +SKIP
        >>> classifier.fit(texts, labels).predict(["a fine film"])  # doctest: +SKIP

    Args:
        preset: the settings to start from.
        settings: settings by dotted path, such as ``{"train.lr": 3e-4}``; they win
            over the other arguments.
        tokenizer: see ``data.tokenizer``; None for the preset's.
        length: tokens in a window; None for the preset's. A longer text is scored in
            consecutive windows.
        epochs: passes over the data; None for the preset's.
        per_class: whether each class has a model of its own, without a null class.
        tiny: whether to shrink everything to seconds on a CPU.
        prior: "empirical", "uniform", or the probability of each class, by name or in
            the order of `classes_`.
        calibrate: whether to fit the temperature ``a L^b`` on the texts held out.
        draws: draws for each text and class at most; None for the default.
        scoring: settings of `ScoringConfig` by name; they win over `draws`.
        validation_fraction: share of each class that is held out, to choose the
            checkpoint and to calibrate on; 0 holds out nothing.
        out: the run folder; None trains in a temporary one.
        device: "auto", "cpu", "cuda", "cuda:1".
        random_state: an integer makes learning and scoring repeatable.
        verbose: whether to show progress on stdout.
    """

    kind = "mdlm"
    model_: Predictor

    def __init__(
        self,
        *,
        preset: str = "classify/default",
        settings: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        length: int | None = None,
        epochs: float | None = None,
        per_class: bool = False,
        tiny: bool = False,
        prior: Prior = "empirical",
        calibrate: bool = True,
        draws: int | None = None,
        scoring: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.1,
        out: str | Path | None = None,
        device: str = "auto",
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.preset = preset
        self.settings = settings
        self.tokenizer = tokenizer
        self.length = length
        self.epochs = epochs
        self.per_class = per_class
        self.tiny = tiny
        self.prior = prior
        self.calibrate = calibrate
        self.draws = draws
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.out = out
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @property
    def takes_unlabelled(self) -> bool:
        """Whether it learns from texts without labels: by the null class."""
        return not (self.settings or {}).get("model.per_class", self.per_class)

    def _assignments(self) -> dict[str, Any]:
        given = {
            "data.tokenizer": self.tokenizer,
            "data.length": self.length,
            "train.epochs": self.epochs,
            "model.per_class": self.per_class or None,
        }
        return {path: value for path, value in given.items() if value is not None}

    def _check(self, names: tuple[str, ...]) -> None:
        super()._check(names)
        scoring_config(self.draws, self.scoring)

    def _use(self, trained: Trained, names: tuple[str, ...]) -> None:
        self.model_ = Predictor(
            labels=names,
            log_prior=torch.zeros(len(names), dtype=torch.float64),
            backbone=cast("Conditional", trained.module.backbone),
            tokenizer=trained.tokenizer,
            schedule=trained.schedule,
            length=trained.length,
            scoring=scoring_config(self.draws, self.scoring),
        )
        self.model_.log_prior = self._log_prior(self.prior)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        *,
        learn: Literal["auto", "new", "all"] = "auto",
        epochs: float | None = None,
    ) -> Self:
        """Learn on from N more texts; a class that is new is added.

        The first call is `fit`. Later, a new class starts at the counts of its texts
        and is trained alone: no weight of the others changes, and their likelihoods
        stay as they are, up to rounding. The temperature stays too; `recalibrate` fits
        it again. A prior that was given by number keeps its proportions, and a new
        class gets its share of all texts.

        The run folder `out` of `fit` stays as it was; `save` writes what has been
        learned since into another one.

        Args:
            X: texts.
            y: their classes.
            classes: all classes that may occur, for a check; in the first call each of
                them needs a text.
            learn: "new" trains new classes alone, with `validation_fraction` held out
                to know when to stop, and texts of the others for comparison; "all"
                trains everything, and forgets what these texts do not show; "auto" is
                "new" if there is a new class.
            epochs: passes over the texts; None for those of `fit`.

        Raises:
            ValueError: if a label is not in `classes`, a class of the first call has
                no text, or nothing is new with "new".
        """
        texts = self._texts(X)
        labels = labels_of(y, len(texts))
        if classes is not None:
            codes_of(labels, np.asarray(classes))
        if not hasattr(self, "trained_"):
            check_all(labels, classes)
            return self.fit(texts, labels)
        known = self.classes_.tolist()
        together = sorted_classes([*known, *labels.tolist()])
        names = names_of(together)
        old = self.model_.labels
        new = [name for name in names if name not in old]
        if learn == "new" and not new:
            raise ValueError(
                'learn is "new", but each of these classes is known; use "all"'
            )
        more = LabelledTexts.of(texts, map(name_of, labels.tolist()), name="X")
        alone = bool(new) and learn != "all"
        more, held_out = self._some_held_out(more) if alone else (more, more)
        counted = dict.fromkeys(names, 0)
        counted |= dict(
            zip(names_of(self.classes_), self.class_count_.tolist(), strict=True)
        )
        for name in more.labels or ():
            counted[name] += 1
        order = (*old, *new)
        sizes = [counted[name] for name in order]
        self.trained_ = grow(
            self.trained_,
            more,
            held_out,
            order,
            sizes,
            alone=alone,
            epochs=epochs,
            device=self.device,
            verbose=self.verbose,
        )
        self.facts_ = {}  # what was found out about texts of the old classes
        self.classes_ = together
        self.class_count_ = np.array([counted[name] for name in names], dtype=np.int64)
        self._extend(order, torch.tensor(sizes))
        return self

    def _some_held_out(
        self, texts: LabelledTexts
    ) -> tuple[LabelledTexts, LabelledTexts]:
        """Return what to learn from and to choose by: the same if there is little."""
        found = list(texts.labels or ())
        if not self.validation_fraction or len(set(found)) == len(found):
            return texts, texts
        return self._split(texts)

    def _extend(self, order: tuple[str, ...], sizes: torch.Tensor) -> None:
        """Take the model that has grown, and priors for its new classes."""
        old = self.model_
        shares = sizes.double() / sizes.sum()

        def extended(log_prior: torch.Tensor) -> torch.Tensor:
            new = shares[len(log_prior) :]
            return torch.cat([log_prior + (1 - new.sum()).log(), new.log()])

        later = old.log_new_prior
        self.model_ = replace(
            old,
            labels=order,
            backbone=cast("Conditional", self.trained_.module.backbone),
            log_prior=extended(old.log_prior),
            log_new_prior=None if later is None else extended(later),
        )
        if later is None and isinstance(self.prior, str):
            self.model_.log_prior = self._log_prior(self.prior)

    def train_on_class_data(self, texts: Any, label: Any) -> Self:
        """Learn from texts of one class: `partial_fit` with one label.

        Raises:
            ValueError: if nothing has been learned yet: one class is no choice.
        """
        texts = self._texts(texts)
        return self.partial_fit(texts, np.array([label] * len(texts)))

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "scoring": asdict(self.model_.scoring)}

    def _restore(self, facts: Mapping[str, Any]) -> None:
        super()._restore(facts)
        if "scoring" in facts:
            self.scoring = facts["scoring"]
            self.model_.scoring = scoring_config(None, self.scoring)


def scoring_config(
    draws: int | None, settings: Mapping[str, Any] | None
) -> ScoringConfig:
    """Return how texts are scored.

    Args:
        draws: draws for each text and class at most.
        settings: settings by name, which win.

    Raises:
        ConfigError: if a setting is out of its range.
        UnknownNameError: if there is no such setting.
    """
    from mdlm_core.errors import UnknownNameError

    given = dict(settings or {})
    known = dict.fromkeys(ScoringConfig.__dataclass_fields__)
    if strange := sorted(given.keys() - known.keys()):
        raise UnknownNameError(
            f"scoring has no setting '{strange[0]}'; it has {', '.join(known)}"
        )
    if draws is not None:
        default = ScoringConfig()
        given = {
            "max_draws": draws,
            "start_draws": min(default.start_draws, draws),
            **given,
        }
    return ScoringConfig(**given)
