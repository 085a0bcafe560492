"""What is looked at: the phase's runs, their data, a module and a small batch.

Letters: B batch, L length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from mdlm_atat.ablation.plan import Job, Phase, make_jobs
from mdlm_atat.datasets import PhaseConfig, to_sets
from mdlm_atat.policy import AdaptiveMasking
from mdlm_atat.variants import Variant
from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.protocols import DataSource, Schedule

ROWS = 4
"""Rows of the small batch."""
LENGTH = 64
"""Its tokens in a row, at most."""
STAND_IN = "python-docs"
"""The text that comes with every Python."""
_SCAN = 40


class Subject:
    """A phase as it would be run, and the things that checks are made on.

    `source` and, with it, the settings of the runs are decided by the check of the
    data: the phase's own, or `STAND_IN` where they cannot be had.
    """

    def __init__(
        self,
        catalog: Catalog,
        phase: PhaseConfig,
        variants: Sequence[Variant],
        *,
        sets: Sequence[str] = (),
        tiny: bool = False,
        device: str | None = None,
    ) -> None:
        """Keep what was asked for; nothing is read yet.

        Args:
            catalog: what can be chosen.
            phase: as the registry has it.
            variants: the rows of the phase, or some of them.
            sets: ``path=value`` texts of the user.
            tiny: whether runs are shrunk to seconds.
            device: where the probe runs; None takes the best.
        """
        self.catalog = catalog
        self.phase = phase
        self.variants = tuple(variants)
        self.sets = tuple(sets)
        self.tiny = tiny
        self.device = device
        self.source: DataSource | None = None
        """The data, once they are there."""
        self.stands_in = False
        """Whether `source` is not the phase's own."""

    # ---- settings ------------------------------------------------------------

    def jobs(self, variants: Sequence[Variant] | None = None) -> list[Job]:
        """Return all runs: variants times seeds.

        Raises:
            ConfigError: if a setting is unknown or breaks a rule.
        """
        chosen = self.variants if variants is None else variants
        plan = Phase(
            name=self.phase.id,
            preset=self.phase.preset,
            sets=tuple(to_sets(self.phase)),
            variants=tuple(variant.name for variant in chosen),
            seeds=self.phase.seeds,
        )
        return make_jobs(self.catalog, plan, sets=self.sets, tiny=self.tiny)

    def config(self, variant: Variant) -> RunConfig:
        """Return the settings of a variant with the first seed."""
        return self.configs()[variant.name]

    def configs(self) -> dict[str, RunConfig]:
        """Return the settings of each variant with the first seed."""
        seed = self.phase.seeds[0]
        found = [job for job in self.jobs(_whole(self.variants)) if job.seed == seed]
        wanted = {variant.name for variant in self.variants}
        return {j.variant.name: j.config for j in found if j.variant.name in wanted}

    def stand_in(self, length: int, tokenizer: str) -> None:
        """Take the text of `STAND_IN` from now on, in the settings as well."""
        self.stands_in = True
        self.sets = (
            *(text for text in self.sets if not text.startswith("data.")),
            f"data.name={STAND_IN}",
            f"data.length={length}",
            f"data.tokenizer={tokenizer}",
        )

    # ---- things --------------------------------------------------------------

    def open(self) -> DataSource:
        """Open the data of the settings as they are now."""
        config = self.config(self.variants[0])
        self.source = cast("DataSource", self.catalog.build("dataset", config.data))
        return self.source

    @property
    def data(self) -> DataSource:
        """The source; opened when it is first asked for."""
        return self.open() if self.source is None else self.source

    def module(self, config: RunConfig) -> nn.Module:
        """Build what a run with these settings trains, as it would begin."""
        task = self.catalog.build("task", config.task, run=config, catalog=self.catalog)
        with global_seed(Noise(config.seed).child("init")):
            return cast("nn.Module", task.build(self.data))

    def schedule(self, config: RunConfig) -> Schedule:
        """Build the schedule."""
        return cast("Schedule", self.catalog.build("schedule", config.schedule))

    def policy(self, config: RunConfig) -> Any:
        """Build the masking policy alone."""
        with global_seed(Noise(config.seed).child("init")):
            return self.catalog.build("masking", config.masking, source=self.data)

    def batch(self, rows: int = ROWS, length: int | None = LENGTH) -> Batch:
        """Return the first rows of the training data, and of each its first tokens."""
        seed = self.phase.seeds[0]
        batch = next(iter(self.data.batches("train", size=rows, seed=seed)))
        return batch if length is None else cut(batch, length)


def _whole(variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants, and those that one of them is timed against."""
    from mdlm_atat.variants import BASELINE, find_variant

    more = [
        find_variant(name)
        for variant in variants
        if variant.time_matched
        for name in (BASELINE, variant.time_matched)
    ]
    return list({variant.name: variant for variant in (*variants, *more)}.values())


def cut(batch: Batch, length: int) -> Batch:
    """Return the first `length` tokens of each row."""

    def first(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor[:, :length]

    return replace(
        batch,
        tokens=batch.tokens[:, :length],
        frozen=batch.frozen[:, :length],
        pad=batch.pad[:, :length],
        positions=first(batch.positions),
        documents=first(batch.documents),
    )


def draw_of(batch: Batch, seed: int, step: int = 0) -> Draw:
    """Return the noise of a step in which `batch` is the global batch."""
    return Draw(
        noise=Noise(seed), rows=torch.arange(len(batch)), of=len(batch), step=step
    )


def strongest_step(policy: object, steps: int) -> int:
    """Return the step at which the bias is strongest; 0 if there never is one.

    Args:
        policy: the masking policy; its own curriculum is not moved.
        steps: of the run.
    """
    if not isinstance(policy, AdaptiveMasking):
        return 0
    curriculum = type(policy.curriculum)(
        policy.config.curriculum,
        strategy=policy.config.strategy,
        temperature=policy.config.temperature,
    )
    best, where = 0.0, 0
    for step in sorted({index * steps // _SCAN for index in range(_SCAN)}):
        curriculum.advance(step, steps)
        if abs(curriculum.kappa) > best:
            best, where = abs(curriculum.kappa), step
    return where
