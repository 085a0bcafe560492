"""Pretraining: learn to restore masked tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from torch import nn

from mdlm_core.catalog import Catalog
from mdlm_core.config.components import PretrainConfig
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss, corrupt_for_training, masked_cross_entropy
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, MaskingPolicy, Schedule
from mdlm_core.samplers import sample_text

from .bound import measure


class MaskedDiffusion(nn.Module):
    """A denoiser with all that decides its training loss.

    A masking policy that is a module is a child, so that it trains and is saved.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        schedule: Schedule,
        policy: MaskingPolicy,
        t_sampling: str = "stratified",
        t_min: float = 1e-3,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.schedule = schedule
        self.policy = policy
        self.t_sampling = t_sampling
        self.t_min = t_min
        check = getattr(policy, "check", None)
        if check is not None:
            check(schedule, t_sampling)

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return the training loss of `batch`: corrupt, restore, compare.

        A policy's ``auxiliary_loss`` is one number for the batch; it is added to the
        loss per token.
        """
        denoiser = cast("Backbone", self.backbone)
        corrupted = corrupt_for_training(
            batch,
            schedule=self.schedule,
            draw=draw,
            policy=self.policy,
            t_sampling=self.t_sampling,
            t_min=self.t_min,
            mask_id=denoiser.mask_id,
        )
        residual = getattr(self.policy, "needs_residual", False)
        loss = masked_cross_entropy(denoiser, corrupted, residual=residual)
        extra = getattr(self.policy, "auxiliary_loss", None)
        if extra is None:
            return loss
        more = {"residual": loss.residual} if residual else {}
        term = extra(corrupted, loss.nll, **more)
        return replace(loss, total=loss.total + term * loss.count)

    def advance(self, step: int, steps: int) -> None:
        """Tell the policy how far training is; called before every step."""
        follow = getattr(self.policy, "advance", None)
        if follow is not None:
            follow(step, steps)


class Pretrain:
    """The task; see `protocols.Task`."""

    def __init__(
        self, config: PretrainConfig, *, run: RunConfig, catalog: Catalog
    ) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> MaskedDiffusion:
        """Build backbone, schedule and masking policy for the source's tokens."""
        tokenizer = source.tokenizer
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        return MaskedDiffusion(
            backbone,
            schedule=self.catalog.build("schedule", self.run.schedule),
            policy=self.catalog.build("masking", self.run.masking, source=source),
            t_sampling=self.config.t_sampling,
            t_min=self.config.t_min,
        )

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return the bound on held-out rows by the exact-count estimator.

        The masks are the same at every call, so that two checkpoints are compared
        under the same noise.
        """
        bound = measure(
            _child(module, "backbone"),
            source,
            draws=self.config.eval_draws,
            rows=self.config.eval_rows,
            noise=Noise(self.run.seed).child("evaluate"),
            schedule=self.catalog.build("schedule", self.run.schedule),
        )
        numbers = {"loss": bound.nats, "loss_se": bound.nats_se}
        if bound.bytes_per_token:
            numbers["bits_per_byte"] = bound.bits_per_byte
            numbers["bits_per_byte_se"] = bound.bits_per_byte_se
        return {
            **numbers,
            "perplexity": bound.perplexity,
            "perplexity_se": bound.perplexity_se,
        }

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Sample a few texts with the run's sampler."""
        if not self.config.sample_count:
            return []
        settings: Any = self.run.sampler.config
        return sample_text(
            cast("Backbone", _child(module, "backbone")),
            source.tokenizer,
            schedule=self.catalog.build("schedule", self.run.schedule),
            length=source.length,
            num=self.config.sample_count,
            seed=seed,
            sampler=self.catalog.build("sampler", self.run.sampler),
            config=settings,
            policy=getattr(module, "policy", None),
        ).texts


def _child(module: nn.Module, name: str) -> nn.Module:
    child = getattr(module, name)
    assert isinstance(child, nn.Module)
    return child


def build(config: PretrainConfig, *, run: RunConfig, catalog: Catalog) -> Pretrain:
    """Return the task, for the catalog."""
    return Pretrain(config, run=run, catalog=catalog)
