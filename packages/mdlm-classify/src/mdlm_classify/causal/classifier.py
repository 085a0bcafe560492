"""`CausalLMClassifier`: a causal language model for each class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from mdlm_classify.face import GenerativeClassifier, Prior
from mdlm_classify.nn.per_class import PerClass
from mdlm_classify.pretrained import begin_with, not_none
from mdlm_classify.training import Trained, TrainedByRun

from .predictor import CausalPredictor


class CausalLMClassifier(TrainedByRun, GenerativeClassifier):
    """Classify texts by their exact likelihood under causal language models.

    Each class has a model that reads from left to right, a start before the first
    token: ``log p(text | class)`` is the sum of the log-probabilities of all tokens,
    and no bound. This is no diffusion: it is the baseline to compare one with. A text
    longer than `length` is read in consecutive windows, each from the start.

    Args:
        base_model: the weights that each class begins with, and their tokenizer: a
            folder, or a name on the hub, such as ``distilgpt2``; None for small new
            models.
        preset: the settings to start from.
        settings: settings by dotted path, such as ``{"model.width": 256}``; they win
            over the other arguments.
        tokenizer: see ``data.tokenizer``; None for that of `base_model`, or the
            preset's.
        length: tokens in a window; None for the preset's.
        epochs: passes over the data; None for the preset's.
        tiny: whether to shrink everything to seconds on a CPU.
        prior: "empirical", "uniform", or the probability of each class, by name or in
            the order of `classes_`.
        calibrate: whether to fit the temperature ``a L^b`` on the texts held out.
        validation_fraction: share of each class that is held out, to choose the
            checkpoint and to calibrate on; 0 holds out nothing.
        out: the run folder; None trains in a temporary one.
        device: "auto", "cpu", "cuda", "cuda:1".
        random_state: an integer makes learning repeatable.
        verbose: whether to show progress on stdout.
    """

    kind = "causal"
    no_unlabelled = "there is a causal model for each class, and none for text of none"
    model_: CausalPredictor

    def __init__(
        self,
        *,
        base_model: str | None = None,
        preset: str = "classify/causal",
        settings: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        length: int | None = None,
        epochs: float | None = None,
        tiny: bool = False,
        prior: Prior = "empirical",
        calibrate: bool = True,
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
        self.prior = prior
        self.calibrate = calibrate
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
        self.model_ = CausalPredictor(
            labels=names,
            log_prior=torch.zeros(len(names), dtype=torch.float64),
            models=cast("PerClass", trained.module.backbone),
            tokenizer=trained.tokenizer,
            length=trained.length,
        )
        self.model_.log_prior = self._log_prior(self.prior)
