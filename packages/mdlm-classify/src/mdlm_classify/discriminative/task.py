"""Learn log p(class | text) directly. Letters: B rows, N held-out texts, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_classify.config import ClassHuggingFaceConfig, DiscriminativeConfig
from mdlm_classify.data.document import Document
from mdlm_classify.held_out import (
    chosen,
    everyones,
    labels_of,
    log_loss,
    mine,
    selection,
)
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
            sizes = torch.as_tensor(cast("Any", source).class_sizes())
            sizes = sizes.double().clamp(min=1)
            weights = sizes.sum() / (len(sizes) * sizes)
            cast("Discriminator", module).class_weights.copy_(weights)

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return how many held-out texts are classified right, and the log-loss.

        "loss", which decides the best checkpoint, is the share of wrong answers. Every
        process classifies its own texts.
        """
        documents, labels = chosen(source, self.config.eval_rows)
        places = mine(documents)
        part = [documents[i] for i in places.tolist()]
        (found,) = everyones(places, _law(module, part))
        accuracy = float((found.argmax(1) == labels).double().mean())
        loss = log_loss(found, labels)
        return {
            "loss": selection(accuracy, loss),
            "accuracy": accuracy,
            "log_loss": loss,
        }

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Return a few held-out texts and what the model says: it makes none itself."""
        documents, labels = chosen(source, _SHOWN)
        found = _law(module, documents).exp()
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


def _law(module: nn.Module, documents: list[Document]) -> Tensor:
    """Return log p(class | text) ``(N, C)``; uniform for a text without a token."""
    model = cast("Discriminator", module)
    return log_posterior(model, documents, log_prior=torch.zeros(model.classes))


def build(
    config: DiscriminativeConfig, *, run: RunConfig, catalog: Catalog
) -> ClassifyDiscriminative:
    """Return the task, for the catalog."""
    return ClassifyDiscriminative(config, run=run, catalog=catalog)
