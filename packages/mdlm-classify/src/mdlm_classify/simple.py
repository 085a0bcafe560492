"""`SimpleMaskedDiffusion`: a masked language model of transformers as a diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .face import Prior
from .mdlm import MDLMClassifier
from .pretrained import begin_with, not_none


class SimpleMaskedDiffusion(MDLMClassifier):
    """Classify by the smallest text diffusion: a masked language model told the class.

    Each row hides every token with a probability t drawn from (0, 1); the loss is the
    cross-entropy of the hidden tokens over t (Sahoo et al., arXiv 2406.07524), without
    the comparison of classes that `MDLMClassifier` learns by as well. It needs nothing
    but a masked language model, such as BERT or RoBERTa, pretrained or new. The rest is
    as in `MDLMClassifier`: a share of the rows has no class (``task.null_share``), the
    loss reads some hidden tokens of a row (``task.scored``), the biases of the classes
    start at their counts of words (``task.start``), the checkpoint that classifies
    held-out texts best is kept (``task.select``), and texts are scored alike.

    Args:
        base_model: the weights to begin with, and their tokenizer: a folder, or a name
            on the hub, such as ``distilroberta-base``; None for a small new BERT.
        preset: the settings to start from.
        settings: settings by dotted path, such as ``{"model.width": 256}``; they win
            over the other arguments.
        tokenizer: see ``data.tokenizer``; None for that of `base_model`, or the
            preset's.
        length: tokens in a window; None for the preset's.
        epochs: passes over the data; None for the preset's.
        per_class: whether each class has a model of its own, without a null class.
        tiny: whether to shrink everything to seconds on a CPU.
        prior: "empirical", "uniform", or the probability of each class, by name or in
            the order of `classes_`.
        calibrate: whether to fit the temperature ``a L^b`` on the texts held out.
        draws: draws for each text and class at most; None for the default.
        scoring: settings of `ScoringConfig` by name; they win over `draws`.
        validation_fraction: share of each class that is held out.
        out: the run folder; None trains in a temporary one.
        device: "auto", "cpu", "cuda", "cuda:1".
        random_state: an integer makes learning and scoring repeatable.
        verbose: whether to show progress on stdout.
    """

    kind = "simple"

    def __init__(
        self,
        *,
        base_model: str | None = None,
        preset: str = "classify/simple",
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
        super().__init__(
            preset=preset,
            settings=settings,
            tokenizer=tokenizer,
            length=length,
            epochs=epochs,
            per_class=per_class,
            tiny=tiny,
            prior=prior,
            calibrate=calibrate,
            draws=draws,
            scoring=scoring,
            validation_fraction=validation_fraction,
            out=out,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.base_model = base_model

    def _assignments(self) -> dict[str, Any]:
        return not_none(begin_with(self.base_model, self.kind)) | super()._assignments()
