"""Learn one causal language model for each class.

Letters: B rows, L length, N held-out texts, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_classify import calibration
from mdlm_classify.config import CausalConfig, ClassHuggingFaceConfig
from mdlm_classify.held_out import (
    chosen,
    everyones,
    labels_of,
    log_loss,
    mine,
    selection,
)
from mdlm_classify.nn.per_class import PerClass
from mdlm_classify.posterior import log_joint, log_posterior
from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels import modes
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, Schedule
from mdlm_core.tasks.bound import Bound, gather
from mdlm_core.tasks.held_out import held_out

from .model import build as build_models
from .sample import sample
from .score import negative_log_likelihood, row_log_likelihood, score

_ROWS_AT_ONCE = 16
_SAMPLED = 32
"""Tokens of a text to look at, at most."""


class CausalModule(nn.Module):
    """The models of the classes, and their loss."""

    log_prior: Tensor
    """``(C,)``: how frequent the classes are."""

    def __init__(self, backbone: PerClass) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("log_prior", torch.zeros(backbone.classes))

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return -log p(row | its class) summed over the rows; `draw` is not used."""
        return negative_log_likelihood(self.backbone, batch)


class ClassifyCausal:
    """The task; see `mdlm_core.protocols.Task`."""

    def __init__(
        self, config: CausalConfig, *, run: RunConfig, catalog: Catalog
    ) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> CausalModule:
        """Return a model for each class of the source.

        Raises:
            ConfigError: if the model of the run is no language model of transformers,
                or there are unlabelled texts.
        """
        model = self.run.model.config
        if not isinstance(model, ClassHuggingFaceConfig):
            raise ConfigError(
                f"model.name is {self.run.model.name}, and "
                f"task.name={self.run.task.name} needs a model of transformers; set "
                f"model.name=class-hugging-face, and model.path or model.random=true"
            )
        if getattr(self.run.data.config, "unlabelled", ""):
            raise ConfigError(
                "data.unlabelled is set, but there is a causal model for each class "
                "and none for text of no class; leave it out, or use task.name=classify"
            )
        models = build_models(model, tokenizer=source.tokenizer, length=source.length)
        models.add_classes(len(labels_of(self.run, source)))
        return CausalModule(models)

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Count the texts of each class, once for a new run."""
        sizes = torch.as_tensor(cast("Any", source).class_sizes()).double()
        shares = sizes.clamp(min=1) / sizes.clamp(min=1).sum()
        cast("CausalModule", module).log_prior.copy_(shares.log())

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return how many held-out texts are classified right, and nats per token.

        "loss", which decides the best checkpoint, is what `select` says: the share of
        wrong answers, or nats per token. Every process scores its own texts.
        """
        documents, labels = chosen(source, self.config.eval_rows)
        places = mine(documents)
        scores = score(_models(module), [documents[i] for i in places.tolist()])
        found, tokens = everyones(places, scores.log_likelihood, scores.tokens)
        own = found.gather(1, labels[:, None])
        nats = -float(own.sum()) / max(1, int(tokens.sum()))
        if found.shape[1] == 1:  # nothing to tell apart
            return {"loss": nats, "nats_per_token": nats}
        prior = cast("CausalModule", module).log_prior.double().cpu()
        tau = calibration.fit(log_joint(found, prior), labels, tokens).of(tokens)
        posterior = log_posterior(found, prior, tau)
        accuracy = float((posterior.argmax(1) == labels).double().mean())
        loss = log_loss(posterior, labels)
        by_bound = self.config.select == "bound"
        return {
            "loss": nats if by_bound else selection(accuracy, loss),
            "accuracy": accuracy,
            "log_loss": loss,
            "nats_per_token": nats,
        }

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Sample a text of each class, the first tokens of it."""
        models = _models(module)
        rows = sample(
            models,
            torch.arange(models.classes),
            length=min(source.length, _SAMPLED),
            noise=Noise(seed).child("sample"),
            ids=source.tokenizer.vocab_size,
        )
        names = labels_of(self.run, source)
        return [
            f"{name}: {source.tokenizer.decode(row)}"
            for name, row in zip(names, rows.tolist(), strict=True)
        ]

    def bound(
        self,
        module: nn.Module,
        source: DataSource,
        *,
        draws: int,
        noise: Noise,
        rows: int = 0,
        estimator: str = "exact",
        schedule: Schedule | None = None,
    ) -> Bound:
        """Return -log p(text | its class) of held-out rows, which needs no bound.

        Args:
            module: what was trained.
            source: the data.
            draws: not used, as nothing is drawn.
            noise: not used.
            rows: how many rows; 0 means all.
            estimator: not used.
            schedule: not used.

        Raises:
            DataError: if there is nothing to score.
        """
        models = _models(module)
        device = next(models.parameters()).device
        parts: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad(), modes.evaluating(models):
            for batch in held_out(source, rows, at_once=_ROWS_AT_ONCE):
                if len(batch):
                    values = row_log_likelihood(models, batch.to(device))
                    parts.append((values, batch.free.sum(1).cpu()))
        found = gather(parts)
        if not found:
            raise DataError("the validation split has no rows to score")
        values, tokens = (torch.cat(part) for part in zip(*found, strict=True))
        count = int(tokens.sum())
        nats = -float(values.sum()) / count
        residuals = -values - nats * tokens
        error = len(residuals) / max(1, len(residuals) - 1) * residuals.square().sum()
        return Bound(
            nats=nats,
            nats_se=float(error.sqrt()) / count,
            bytes_per_token=None,
            rows=len(values),
            tokens=count,
            draws=1,
            estimator="exact",
        )


def _models(module: nn.Module) -> PerClass:
    return cast("PerClass", module.backbone)


def build(config: CausalConfig, *, run: RunConfig, catalog: Catalog) -> ClassifyCausal:
    """Return the task, for the catalog."""
    return ClassifyCausal(config, run=run, catalog=catalog)
