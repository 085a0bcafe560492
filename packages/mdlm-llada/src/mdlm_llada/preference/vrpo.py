"""The task `llada-vrpo`: preference optimisation with variance-reduced bounds.

Zhu et al., 2025 (arXiv 2505.19223).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import softplus

from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.conditions import WithoutConditions
from mdlm_core.errors import DataError
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, Schedule
from mdlm_core.tasks.bound import ROWS_AT_ONCE, Bound, gather
from mdlm_core.tasks.held_out import held_out as spread
from mdlm_llada.config import VRPOConfig
from mdlm_llada.scoring.statistics import wilson
from mdlm_llada.sft.held_out import measure
from mdlm_llada.sft.shown import show_answers

from .pairwise import Preference
from .reference import Reference
from .scores import Draws
from .shown import check_masking


class VRPO:
    """The task; see `protocols.Task`."""

    def __init__(self, config: VRPOConfig, *, run: RunConfig, catalog: Catalog) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> Preference:
        """Build the backbone; as it is now, it is the reference.

        Raises:
            ConfigError: if the run has another masking policy than the uniform one.
        """
        check_masking(self.run)
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=source.tokenizer.vocab_size,
            mask_id=source.tokenizer.mask_id,
            length=source.length,
        )
        return Preference(
            backbone,
            Reference(backbone),
            schedule=self._schedule(),
            beta=self.config.beta,
            draws=Draws(
                self.config.draws, self.config.estimator, mirror=self.config.mirror
            ),
            shared=self.config.shared,
        )

    def _schedule(self) -> Schedule:
        schedule: Schedule = self.catalog.build("schedule", self.run.schedule)
        return schedule

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return loss, accuracy and margin on held-out pairs, with their errors.

        Pairs and masks are the same at every call. Without held-out pairs there is
        nothing to measure, and no number.

        Raises:
            DataError: if a margin is not finite.
        """
        if source.size("validation") == 0:
            return {}
        assert isinstance(module, Preference)
        noise = Noise(self.run.seed).child("evaluate")
        device = next(module.backbone.parameters()).device
        parts = []
        with (
            torch.no_grad(),
            evaluating(module),
            torch.autocast(device.type, enabled=False),
        ):
            for batch in spread(
                source, self.config.eval_rows, at_once=max(1, ROWS_AT_ONCE // 4)
            ):
                if len(batch):
                    found = module.margins(batch.to(device), noise)
                    parts.append(found.margin.double().cpu())
        margins = torch.cat(gather(parts))[: self.config.eval_rows or None]
        if not bool(margins.isfinite().all()):
            raise DataError("a held-out margin is not finite; lower train.lr")
        losses = softplus(-margins)
        ahead, level = int((margins > 0).sum()), int((margins == 0).sum())
        share = wilson(ahead + level // 2, len(margins))
        numbers = {"loss": float(losses.mean()), "margin": float(margins.mean())}
        if len(margins) > 1:
            numbers["loss_se"] = float(losses.std()) / math.sqrt(len(margins))
            numbers["margin_se"] = float(margins.std()) / math.sqrt(len(margins))
        return {
            **numbers,
            "accuracy": share.value,
            "accuracy_low": share.low,
            "accuracy_high": share.high,
        }

    def bound(
        self,
        module: nn.Module,
        source: DataSource,
        *,
        draws: int,
        noise: Noise,
        rows: int = 0,
        estimator: str = "exact-counts",
        schedule: Schedule | None = None,
    ) -> Bound:
        """Return the bound on the chosen answers, for `mdlm evaluate`."""
        del schedule  # the run's own
        backbone = module.backbone
        assert isinstance(backbone, nn.Module)
        return measure(
            backbone,
            WithoutConditions(source),
            draws=draws,
            noise=noise,
            rows=rows,
            estimator=estimator,
            schedule=self._schedule(),
        ).bound

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Return held-out prompts with the answers of the run's sampler."""
        return show_answers(
            module,
            WithoutConditions(source),
            self.run,
            self.catalog,
            count=self.config.sample_count,
            seed=seed,
        )


def build(config: VRPOConfig, *, run: RunConfig, catalog: Catalog) -> VRPO:
    """Return the task, for the catalog."""
    return VRPO(config, run=run, catalog=catalog)
