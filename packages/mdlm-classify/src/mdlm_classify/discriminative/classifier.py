"""`DiscriminativeClassifier`: an encoder with a head over the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_classify.data.document import encode
from mdlm_classify.face import TextClassifier
from mdlm_classify.inputs import names_of
from mdlm_classify.pretrained import begin_with, not_none
from mdlm_classify.training import Trained, TrainedByRun

from .model import Discriminator, log_posterior


class DiscriminativeClassifier(TrainedByRun, TextClassifier):
    """Classify texts by an encoder with a head over the classes, as RoBERTa is used.

    It learns log p(class | text) directly and knows nothing of how probable a text is:
    the baseline that a classifier by likelihood is compared with.

    Args:
        base_model: the weights to begin with, and their tokenizer: a folder, or a name
            on the hub, such as ``distilroberta-base``; None for a small new BERT.
        preset: the settings to start from.
        settings: settings by dotted path, such as ``{"model.width": 256}``; they win
            over the other arguments.
        tokenizer: see ``data.tokenizer``; None for that of `base_model`, or the
            preset's.
        length: tokens in a window; None for the preset's. A longer text is read in
            consecutive windows, whose logits are averaged.
        epochs: passes over the data; None for the preset's.
        tiny: whether to shrink everything to seconds on a CPU.
        validation_fraction: share of each class that is held out, to choose the
            checkpoint; 0 holds out nothing.
        out: the run folder; None trains in a temporary one.
        device: "auto", "cpu", "cuda", "cuda:1".
        random_state: an integer makes learning repeatable.
        verbose: whether to show progress on stdout.
    """

    kind = "discriminative"
    no_unlabelled = "a discriminative classifier learns nothing from them"

    def __init__(
        self,
        *,
        base_model: str | None = None,
        preset: str = "classify/discriminative",
        settings: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        length: int | None = None,
        epochs: float | None = None,
        tiny: bool = False,
        validation_fraction: float = 0.1,
        out: str | Path | None = None,
        device: str = "auto",
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.base_model = base_model
        self.preset = preset
        self.settings = settings
        self.tokenizer = tokenizer
        self.length = length
        self.epochs = epochs
        self.tiny = tiny
        self.validation_fraction = validation_fraction
        self.out = out
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _assignments(self) -> dict[str, Any]:
        return begin_with(self.base_model, self.kind) | not_none(
            {
                "data.tokenizer": self.tokenizer,
                "data.length": self.length,
                "train.epochs": self.epochs,
            }
        )

    def _use(self, trained: Trained, names: tuple[str, ...]) -> None:
        self.labels_ = names

    def _log_posterior(
        self, texts: list[str], progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float64]:
        trained = self.trained_
        documents = [
            encode(trained.tokenizer, text, length=trained.length) for text in texts
        ]
        index = {name: column for column, name in enumerate(self.labels_)}
        columns = [index[name] for name in names_of(self.classes_)]
        sizes = torch.empty(len(columns), dtype=torch.float64)
        sizes[columns] = torch.from_numpy(self.class_count_).double()
        found = log_posterior(
            cast("Discriminator", trained.module),
            documents,
            log_prior=(sizes / sizes.sum()).log(),
            progress=progress,
        )
        posterior: NDArray[np.float64] = found[:, columns].numpy()
        return posterior

    def _facts(self) -> dict[str, Any]:
        return {}

    def _restore(self, facts: Mapping[str, Any]) -> None:
        del facts
