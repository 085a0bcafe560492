"""The task trait-regressor: learn p(traits | noised text). Letters: B rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted, Times, corrupt
from mdlm_core.diffusion.draws import measuring
from mdlm_core.errors import ConfigError, DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource
from mdlm_core.tasks.bound import ROWS_AT_ONCE, gather
from mdlm_core.tasks.held_out import held_out
from mdlm_personality.config import TraitRegressorConfig
from mdlm_personality.traits import TRAITS

from .model import TraitRegressor

_SHOWN = 3


class TraitRegression:
    """The task; see `mdlm_core.protocols.Task`."""

    def __init__(
        self, config: TraitRegressorConfig, *, run: RunConfig, catalog: Catalog
    ) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> TraitRegressor:
        """Return a trunk with a new head for the five traits.

        Raises:
            ConfigError: if the model has no trunk that reads vectors, or the masking
                is not uniform.
        """
        if self.run.masking.name != "uniform":
            raise ConfigError(
                f"masking.name is {self.run.masking.name}; a trait regressor learns "
                f"from canvases as samplers meet them, so set masking.name=uniform"
            )
        tokenizer = source.tokenizer
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        return TraitRegressor(
            backbone,
            schedule=self.catalog.build("schedule", self.run.schedule),
            t_min=self.config.t_min,
        )

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Set mean and spread of the traits from the data, at the start of a run."""
        statistics = getattr(source, "statistics", None)
        if statistics is None:
            raise ConfigError(
                f"data.name is {self.run.data.name}, which has no traits; set "
                f"data.name=persona-corpus or persona-text"
            )
        mean, std = statistics()
        regressor = cast("TraitRegressor", module)
        regressor.mean.copy_(torch.as_tensor(mean)[: len(TRAITS)])
        regressor.std.copy_(torch.as_tensor(std)[: len(TRAITS)])

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return what the regressor knows of held-out rows.

        "loss" is -log p of a standardised trait, given noised rows, in nats; 1.42 is a
        standard normal law. "r" is the correlation of each trait with its mean given
        the whole row, and "r" alone the mean over the traits that vary.
        """
        regressor = cast("TraitRegressor", module)
        device = next(regressor.parameters()).device
        total, count = 0.0, 0.0
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        with measuring(regressor):
            batches = held_out(source, self.config.eval_rows, at_once=ROWS_AT_ONCE)
            for held in batches:
                batch = held.to(device)
                loss = regressor.loss(batch, self._noised(batch, regressor))
                total, count = total + float(loss.total), count + float(loss.count)
                values, known = regressor.targets(batch)
                clean = torch.full((len(batch),), regressor.t_min, device=device)
                found = regressor.law(batch, clean).mean
                parts.append((values.cpu(), known.cpu(), found.cpu()))
        sums = gather([(torch.tensor([total, count], dtype=torch.float64),)])
        total, count = (float(x) for x in torch.stack([s for (s,) in sums]).sum(0))
        if not count:
            raise DataError(
                "no trait of a held-out text is known, and the regressor is measured "
                "on such; raise data.holdout"
            )
        everyone = gather(parts)
        values, known, found = (torch.cat(x) for x in zip(*everyone, strict=True))
        numbers = {"loss": total / count, "nats_per_trait": total / count}
        correlations = {}
        for column, name in enumerate(TRAITS):
            r = correlation(
                values[known[:, column], column], found[known[:, column], column]
            )
            if r is not None:
                correlations[f"r_{name}"] = r
        if correlations:
            numbers["r"] = sum(correlations.values()) / len(correlations)
        return {**numbers, **correlations}

    def _noised(self, batch: Batch, regressor: TraitRegressor) -> Corrupted:
        """Hide tokens of each row at a time that its id alone decides."""
        noise = Noise(self.run.seed).child("evaluate")
        u = noise.child("time").uniform(batch.sample_id, 1)[:, 0]
        low = self.config.t_min
        return corrupt(
            batch,
            Times(low + (1 - low) * u, torch.ones_like(u)),
            schedule=regressor.schedule,
            noise=noise.child("mask"),
            mask_id=regressor.trunk.mask_id,
        )

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Return the traits of a few held-out rows as read, beside those told.

        The task makes no text, and that of people is not quoted.
        """
        regressor = cast("TraitRegressor", module)
        device = next(regressor.parameters()).device
        shown: list[str] = []
        with measuring(regressor):
            for held in held_out(source, _SHOWN, at_once=_SHOWN):
                batch = held.to(device)
                clean = torch.full((len(batch),), regressor.t_min, device=device)
                law = regressor.law(batch, clean)
                values, known = regressor.targets(batch)
                told = values.masked_fill(~known, torch.nan)
                for row, number in enumerate(batch.sample_id.tolist()):
                    parts = zip(
                        TRAITS, law.mean[row], law.sd[row], told[row], strict=True
                    )
                    traits = ", ".join(
                        f"{name} {float(mean):.2f} +- {float(sd):.2f}"
                        f" (told {float(value):.2f})"
                        for name, mean, sd, value in parts
                    )
                    shown.append(f"row {number}: {traits}")
        return shown[:_SHOWN]

    def bound(self, *_: object, **__: object) -> None:
        """Refuse: there is no likelihood of text to measure.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "a trait regressor has no likelihood of text; what it knows of held-out "
            "rows is in metrics.jsonl of its run"
        )

    def condition(self, *_: object, **__: object) -> None:
        """Refuse: it makes no text.

        Raises:
            UsageError: always, with what it is for.
        """
        raise UsageError(
            "a trait regressor makes no text; it guides a model that does: "
            "mdlm personality generate RUN --regressor THIS"
        )


def correlation(x: Tensor, y: Tensor) -> float | None:
    """Return Pearson's r of two ``(N,)``, or None if one of them does not vary."""
    if len(x) < 2:
        return None
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm > 1e-12 else None


def build(
    config: TraitRegressorConfig, *, run: RunConfig, catalog: Catalog
) -> TraitRegression:
    """Return the task, for the catalog."""
    return TraitRegression(config, run=run, catalog=catalog)
