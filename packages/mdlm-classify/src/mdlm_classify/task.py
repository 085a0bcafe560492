"""The task: learn log p(text | class), and which class makes a text most probable.

Letters: B batch, C classes, V vocabulary, N texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss, corrupt_for_training
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, MaskingPolicy, Schedule
from mdlm_core.tasks.pretrain import MaskedDiffusion

from .config import ClassifyConfig
from .counts import log_frequencies
from .held_out import labels_of as names_of
from .held_out import selection
from .measured import measure
from .nn.condition import Conditional, labels_of
from .objective import hybrid_loss, meet, thinned
from .sample import condition_of, sample_class


class ClassConditionalDiffusion(MaskedDiffusion):
    """A denoiser that is told the class, with all that decides its training loss."""

    log_prior: Tensor
    row_weights: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        config: ClassifyConfig,
        *,
        schedule: Schedule,
        policy: MaskingPolicy,
    ) -> None:
        super().__init__(
            backbone,
            schedule=schedule,
            policy=policy,
            t_sampling=config.t_sampling,
            t_min=config.t_min,
        )
        for name in ("auxiliary_loss", "needs_residual"):
            if getattr(policy, name, None):
                raise ConfigError(
                    f"the masking policy '{type(policy).__name__}' learns with the "
                    f"model, which task.name=classify does not support; use "
                    f"masking=uniform, or task.name=pretrain"
                )
        self.config = config
        classes = cast("Conditional", backbone).classes
        self.register_buffer("log_prior", torch.zeros(classes))
        self.register_buffer("row_weights", torch.ones(classes))

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return the loss of `batch`; see `objective`."""
        config, backbone = self.config, cast("Conditional", self.backbone)
        corrupted = corrupt_for_training(
            batch,
            schedule=self.schedule,
            draw=draw,
            policy=self.policy,
            t_sampling=config.t_sampling,
            t_min=config.t_min,
            mask_id=backbone.mask_id,
        )
        noise = draw.noise.child("class", draw.step)
        share = config.null_share if backbone.has_null else 0.0
        met = meet(
            labels_of(batch, backbone.classes),
            classes=backbone.classes,
            contrast=config.contrast if config.discriminative else 0,
            hidden=noise.child("null").uniform(draw.rows, 1)[:, 0] < share,
            noise=noise.child("contrast"),
            rows=draw.rows,
        )
        return hybrid_loss(
            backbone,
            thinned(
                corrupted, config.scored, noise=noise.child("scored"), rows=draw.rows
            ),
            met,
            log_prior=self.log_prior + self.row_weights.log(),
            row_weights=self.row_weights,
            discriminative=config.discriminative,
            temper=config.temper,
        )


class Classify:
    """The task; see `protocols.Task`."""

    def __init__(
        self, config: ClassifyConfig, *, run: RunConfig, catalog: Catalog
    ) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> ClassConditionalDiffusion:
        """Build the model for the source's tokens and classes.

        Raises:
            ConfigError: if the model cannot be told a class.
        """
        tokenizer = source.tokenizer
        labels = names_of(self.run, source)
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        if not hasattr(backbone, "add_classes"):
            raise ConfigError(
                f"model.name={self.run.model.name} cannot be told a class; use "
                f"class-dit or class-hugging-face"
            )
        backbone.add_classes(len(labels))
        return ClassConditionalDiffusion(
            backbone,
            self.config,
            schedule=self.catalog.build("schedule", self.run.schedule),
            policy=self.catalog.build("masking", self.run.masking, source=source),
        )

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Begin with another run's weights, and with the counts of the classes."""
        config, data = self.config, cast("Any", source)
        backbone = cast("Conditional", module.backbone)
        sizes = data.class_sizes().double()
        missing = [
            name
            for name, size in zip(
                names_of(self.run, source), sizes.tolist(), strict=True
            )
            if not size
        ]
        if missing and sizes.sum():
            raise DataError(
                f"the class '{missing[0]}' has no training text; give it some, or "
                f"leave it out of data.labels"
            )
        trained = cast("ClassConditionalDiffusion", module)
        if sizes.sum():
            trained.log_prior.copy_((sizes / sizes.sum()).log())
            if config.class_weights == "balanced":
                trained.row_weights.copy_(sizes.sum() / (len(sizes) * sizes))
        if config.warm_start:
            from mdlm_core.train.warm_start import warm_start

            warm_start(cast("nn.Module", backbone), config.warm_start, source.tokenizer)
        if config.start == "counts":
            frequencies = log_frequencies(
                data.counts(), smoothing=config.smoothing, mask_id=backbone.mask_id
            )
            backbone.set_biases(
                frequencies[-1], frequencies[:-1], shared=not config.warm_start
            )

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return accuracy, log-loss and bound on the held-out texts.

        "loss", which decides the best checkpoint, is what `select` says: the share of
        wrong answers, with a thousandth of the log-loss to decide ties; the log-loss
        after the temperature is fitted; or the bound in nats per token.
        """
        trained = cast("ClassConditionalDiffusion", module)
        found = measure(
            cast("Conditional", trained.backbone),
            source,
            log_prior=trained.log_prior,
            schedule=trained.schedule,
            draws=self.config.eval_draws,
            rows=self.config.eval_rows,
            seed=self.run.seed,
        )
        loss = {
            "accuracy": selection(found.accuracy, found.log_loss),
            "log-loss": found.log_loss,
            "bound": found.nats_per_token,
        }[self.config.select]
        return {
            "loss": loss,
            "accuracy": found.accuracy,
            "log_loss": found.log_loss,
            "nats_per_token": found.nats_per_token,
        }

    def condition(self, values: Mapping[str, str], num: int) -> Mapping[str, Tensor]:
        """Return the class of each of `num` rows, for ``mdlm sample --condition``."""
        return condition_of(
            values, num, labels=getattr(self.run.data.config, "labels", ())
        )

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Sample a few texts, one of each class in turn."""
        labels = names_of(self.run, source)
        texts = []
        for index in range(self.config.sample_count):
            label = index % len(labels)
            settings: Any = self.run.sampler.config
            text = sample_class(
                cast("Conditional", module.backbone),
                source.tokenizer,
                label=label,
                schedule=self.catalog.build("schedule", self.run.schedule),
                length=min(source.length, 64),
                seed=Noise(seed).child("sample", index).integer(),
                sampler=self.catalog.build("sampler", self.run.sampler),
                config=settings,
            ).texts[0]
            texts.append(f"[{labels[label]}] {text}")
        return texts


def build(config: ClassifyConfig, *, run: RunConfig, catalog: Catalog) -> Classify:
    """Return the task, for the catalog."""
    return Classify(config, run=run, catalog=catalog)
