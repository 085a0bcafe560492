"""The task `msa-align`: learn which alignment of a query is preferred."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdlm_core.catalog import Catalog
from mdlm_core.config import read_run
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.conditions import WithoutConditions
from mdlm_core.errors import ConfigError, DataError, TrainingError
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.protocols import DataSource, Schedule
from mdlm_core.tasks.bound import Bound, gather, measure
from mdlm_core.tasks.held_out import held_out
from mdlm_core.train.warm_start import warm_start
from mdlm_msa.config import AlignConfig, MSAConfig
from mdlm_msa.task import MSA

from .objective import NEW, Margins, Preference, preference_loss
from .reference import Reference

_AT_ONCE = 4
"""Pairs of one process that are measured together."""
_FREE_SETTINGS = ("dropout",)
"""Settings of the model that may differ from the reference's."""


class Drifted(TrainingError):
    """The model has lost more of the winners' own bound than it may."""


class Align:
    """The task; see `protocols.Task`."""

    def __init__(
        self, config: AlignConfig, *, run: RunConfig, catalog: Catalog
    ) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> Preference:
        """Build the backbone, and say where its reference is.

        Raises:
            ConfigError: if the run has another masking policy than the uniform one.
        """
        if self.run.masking.name != "uniform":
            raise ConfigError(
                f"masking.name is '{self.run.masking.name}', but msa-align hides all "
                f"tokens alike; set masking.name=uniform"
            )
        backbone = self._backbone(source)
        if self.config.reference:
            reference = Reference(
                lambda: self._loaded(source), f"'{self.config.reference}'"
            )
        else:
            copy = deepcopy(backbone)
            reference = Reference(lambda: copy, "the model's first weights")
        return Preference(
            backbone, reference, config=self.config, schedule=self._schedule()
        )

    def _backbone(self, source: DataSource) -> nn.Module:
        tokenizer = source.tokenizer
        backbone: nn.Module = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        return backbone

    def _loaded(self, source: DataSource) -> nn.Module:
        """Return a backbone with the reference's weights."""
        with global_seed(Noise(self.run.seed).child("init")):
            backbone = self._backbone(source)
        self._fill(backbone, source)
        return backbone

    def _fill(self, backbone: nn.Module, source: DataSource) -> None:
        """Copy the weights of the reference into `backbone`.

        Raises:
            ConfigError: if its model has other settings.
            CheckpointError: if it has no sound checkpoint.
        """
        path = Path(self.config.reference).expanduser()
        theirs = read_run(path, self.catalog).model
        check_same_model(self.run.model, theirs, str(path))
        warm_start(backbone, path, source.tokenizer)

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Begin with the reference's weights; without one, with new weights.

        Raises:
            ConfigError: if the reference's model has other settings.
        """
        assert isinstance(module, Preference)
        if self.config.reference:
            self._fill(module.backbone, source)
        module.checksum.fill_(NEW)
        with module.reference.of(module.checksum):
            pass  # its checksum is in the first checkpoint

    def _schedule(self) -> Schedule:
        schedule: Schedule = self.catalog.build("schedule", self.run.schedule)
        return schedule

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return loss, order and margin of held-out pairs, and the winners' bound.

        Pairs and masks are the same at every call. ``loss`` is that of preferences
        alone; ``winner_nats`` the winners' own bound in nats per token, ``drift`` by
        which share it is above the reference's.

        Raises:
            DataError: if a margin is not finite.
            Drifted: if `task.drift` is positive and exceeded.
        """
        assert isinstance(module, Preference)
        found = gather(self._measured(module, source))
        h, loss, own, before, tokens = (
            torch.cat(column)[: self.config.eval_rows or None]
            for column in zip(*found, strict=True)
        )
        if not bool(h.isfinite().all()):
            raise DataError("a held-out margin is not finite; lower train.lr")
        right = 0.5 + 0.5 * h.sign()
        nats, reference = (
            float((part * tokens).sum() / tokens.sum()) for part in (own, before)
        )
        numbers = {
            "loss": float(loss.mean()),
            "accuracy": float(right.mean()),
            "margin": self.config.beta * float(h.mean()),
            "winner_nats": nats,
            "drift": nats / reference - 1,
        }
        if len(h) > 1:
            root = math.sqrt(len(h))
            numbers["loss_se"] = float(loss.std()) / root
            numbers["accuracy_se"] = float(right.std()) / root
            numbers["margin_se"] = self.config.beta * float(h.std()) / root
        self._check_drift(numbers)
        return numbers

    def _check_drift(self, numbers: Mapping[str, float]) -> None:
        allowed, found = self.config.drift, numbers["drift"]
        if allowed and found > allowed:
            raise Drifted(
                f"the bound of held-out winners has risen by {found:.1%}, to "
                f"{numbers['winner_nats']:.4f} nats per token, and task.drift allows "
                f"{allowed:.1%}; training stops, and the best checkpoint is from "
                f"before. To go further, raise task.sft, or lower train.lr or task.beta"
            )

    def _measured(
        self, module: Preference, source: DataSource
    ) -> list[tuple[Tensor, ...]]:
        """Return the numbers of this process's held-out pairs, batch by batch."""
        noise = Noise(self.run.seed).child("evaluate")
        device = next(module.backbone.parameters()).device
        parts = []
        with (
            torch.no_grad(),
            evaluating(module),
            torch.autocast(device.type, enabled=False),
        ):
            for batch in held_out(source, self.config.eval_rows, at_once=_AT_ONCE):
                if not len(batch):
                    continue
                found: Margins = module.margins(
                    batch.to(device), noise, self.config.eval_draws, keep=True
                )
                columns = (
                    found.mean,
                    preference_loss(found.values, self.config),
                    found.winner,
                    found.winner_before,
                    found.tokens,
                )
                parts.append(tuple(column.cpu() for column in columns))
        return parts

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
        """Return the bound on the held-out winners, for `mdlm evaluate`."""
        backbone = module.backbone
        assert isinstance(backbone, nn.Module)
        return measure(
            backbone,
            WithoutConditions(source),
            draws=draws,
            noise=noise,
            rows=rows,
            estimator=estimator,
            schedule=schedule or self._schedule(),
        )

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Return the queries of a few held-out pairs, each with a new row."""
        shown = MSA(MSAConfig(), run=self.run, catalog=self.catalog)
        return shown.samples(module, WithoutConditions(source), seed=seed)


def check_same_model(mine: Any, theirs: Any, run: str) -> None:
    """Refuse a model that is not that of the reference.

    Args:
        mine: the component of this run.
        theirs: that of the reference.
        run: where that is.

    Raises:
        ConfigError: which setting differs.
    """
    way_out = f"give the model the settings of the run '{run}'"
    if mine.name != theirs.name:
        raise ConfigError(
            f"model.name is '{mine.name}', and '{theirs.name}' in the reference; "
            f"{way_out}"
        )
    for field in fields(theirs.config):
        here, there = (getattr(c.config, field.name) for c in (mine, theirs))
        if here != there and field.name not in _FREE_SETTINGS:
            raise ConfigError(
                f"model.{field.name} is {here!r}, and {there!r} in the reference; "
                f"{way_out}, or use 'mdlm msa align --model {run}', which does"
            )


def build(config: AlignConfig, *, run: RunConfig, catalog: Catalog) -> Align:
    """Return the task, for the catalog."""
    return Align(config, run=run, catalog=catalog)
