"""Learn log p(class | text) directly. Letters: B rows, N held-out texts, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from mdlm_classify.config import ClassHuggingFaceConfig, DiscriminativeConfig
from mdlm_classify.held_out import chosen, labels_of, log_loss
from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.protocols import DataSource

from .model import Discriminator, log_posterior
from .model import build as build_model

_SHOWN = 3
_CHARACTERS = 200


class ClassifyDiscriminative:
    """The task; see `mdlm_core.protocols.Task`."""

    def __init__(
        self, config: DiscriminativeConfig, *, run: RunConfig, catalog: Catalog
    ) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> Discriminator:
        """Return an encoder with a new head over the classes of the source.

        Raises:
            ConfigError: if the model of the run is no language model of transformers.
        """
        model = self.run.model.config
        if not isinstance(model, ClassHuggingFaceConfig):
            raise ConfigError(
                f"model.name is {self.run.model.name}, and "
                f"task.name={self.run.task.name} needs a model of transformers; set "
                f"model.name=class-hugging-face, and model.path or model.random=true"
            )
        return build_model(
            model,
            vocab_size=source.tokenizer.vocab_size,
            mask_id=source.tokenizer.mask_id,
            length=source.length,
            classes=len(labels_of(self.run, source)),
        )

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Set the weights of the classes from their sizes, at the start of a run."""
        if self.config.class_weights == "balanced":
            sizes = cast("Any", source).class_sizes().double().clamp(min=1)
            weights = sizes.sum() / (len(sizes) * sizes)
            cast("Discriminator", module).class_weights.copy_(weights)

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return how many held-out texts are classified right, and the log-loss."""
        documents, labels = chosen(source, self.config.eval_rows)
        model = cast("Discriminator", module)
        flat = torch.zeros(model.classes)
        found = log_posterior(model, documents, log_prior=flat)
        accuracy = float((found.argmax(1) == labels).double().mean())
        return {
            "loss": 1 - accuracy,
            "accuracy": accuracy,
            "log_loss": log_loss(found, labels),
        }

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Return a few held-out texts and what the model says: it makes none itself."""
        documents, labels = chosen(source, _SHOWN)
        model = cast("Discriminator", module)
        flat = torch.zeros(model.classes)
        found = log_posterior(model, documents, log_prior=flat).exp()
        names = labels_of(self.run, source)
        shown = []
        for document, law, own in zip(documents, found, labels.tolist(), strict=True):
            best = int(law.argmax())
            ids = [token for window in document.windows for token in window]
            text = source.tokenizer.decode(ids)[:_CHARACTERS]
            shown.append(
                f"{names[best]} {float(law[best]):.2f} (is {names[own]}): {text}"
            )
        return shown

    def bound(self, *_: object, **__: object) -> None:
        """Refuse: there is no likelihood to measure.

        Raises:
            UsageError: always, with what can be measured instead.
        """
        raise UsageError(
            "a discriminative classifier has no likelihood of text; measure its "
            "accuracy with: mdlm classify evaluate RUN --data FILE"
        )


def build(
    config: DiscriminativeConfig, *, run: RunConfig, catalog: Catalog
) -> ClassifyDiscriminative:
    """Return the task, for the catalog."""
    return ClassifyDiscriminative(config, run=run, catalog=catalog)
