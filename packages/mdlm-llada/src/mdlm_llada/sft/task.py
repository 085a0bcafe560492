"""The task `llada-sft`: fine-tuning on prompts and answers."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, MaskingPolicy, Schedule
from mdlm_core.tasks.bound import Bound
from mdlm_llada.config import DecodeConfig, SFTConfig
from mdlm_llada.registry import get_task

from .answers import answer
from .held_out import Measured, measure
from .measure import TimeLaw
from .module import FineTuning
from .score import score_answers
from .shown import show_answers

_LOG = logging.getLogger(__name__)


class SFT:
    """The task; see `protocols.Task`."""

    def __init__(self, config: SFTConfig, *, run: RunConfig, catalog: Catalog) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> FineTuning:
        """Build backbone, schedule, masking policy and time law.

        Raises:
            ConfigError: if answers shall be scored and the data have no task.
        """
        if self.config.eval_generate:
            self._check_answers(source)
        tokenizer, times = source.tokenizer, self.config.times
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        self._tell_blocks(backbone)
        return FineTuning(
            backbone,
            schedule=self._schedule(),
            policy=self.catalog.build("masking", self.run.masking, source=source),
            times=TimeLaw(times, self.config.t_min),
            mode=self.config.train_mode,
            masks=self.config.masks,
            loss_norm=self.config.loss_norm,
            t_sampling="stratified" if times.stratified else "uniform",
            t_min=self.config.t_min,
            rows_at=lambda step: self._rows(source, step),
            noise=Noise(self.run.seed).child("times"),
        )

    def _check_answers(self, source: DataSource) -> None:
        """Refuse to score answers that nobody can judge."""
        asked, name = self.config.eval_generate, _task_of(source)
        if not name:
            raise ConfigError(
                f"task.eval_generate is {asked}, but the data '{self.run.data.name}' "
                f"do not say what a right answer is; use data.name=llada-task, or set "
                f"task.eval_generate=0"
            )
        if get_task(name).runs_code:
            raise ConfigError(
                f"task.eval_generate is {asked}, but answers of the task '{name}' are "
                f"programs, which are not run during training; set "
                f"task.eval_generate=0, and use mdlm llada infer and score"
            )

    def _tell_blocks(self, backbone: nn.Module) -> None:
        """Say when answers are decoded in other blocks than those that are set."""
        size, settings = getattr(backbone, "block_size", 0), self.run.sampler.config
        decodes = self.config.sample_count or self.config.eval_generate
        if not (size and decodes and isinstance(settings, DecodeConfig)):
            return
        if settings.block != size and os.environ.get("RANK", "0") == "0":
            _LOG.warning(
                "sampler.block is %s, but the model sees blocks of %s, in which "
                "answers are decoded; set sampler.block=%s",
                settings.block,
                size,
                size,
            )

    def _schedule(self) -> Schedule:
        schedule: Schedule = self.catalog.build("schedule", self.run.schedule)
        return schedule

    def _rows(self, source: DataSource, step: int) -> Batch:
        """Return the training rows that are measured before `step`.

        They are the same on every process.
        """
        count = self.config.times.samples_x0
        known = source.size("train")
        return next(
            source.batches(
                "train",
                size=count if known is None else min(count, known),
                seed=Noise(self.run.seed).child("times", step).integer(),
            )
        )

    # ---- measuring -----------------------------------------------------------

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return the bound on held-out answers, and how many answers are right.

        Rows and masks are the same at every call and for every number of processes,
        so that checkpoints are compared under the same noise. ``loss`` is in nats per
        token of the answers; ``loss_at_0.25`` is the mean -log p of a hidden token
        where about a quarter of an answer is hidden. Without held-out rows there is
        nothing to measure, and no number.
        """
        if source.size("validation") == 0:
            return {}
        found = self._measure(
            module,
            source,
            draws=self.config.eval_draws,
            rows=self.config.eval_rows,
            noise=Noise(self.run.seed).child("evaluate"),
        )
        bound = found.bound
        numbers = {
            "loss": bound.nats,
            "loss_se": bound.nats_se,
            "perplexity": bound.perplexity,
            "perplexity_se": bound.perplexity_se,
            **found.curve(),
        }
        if self.config.eval_generate:
            numbers |= self._score(module, source)
        return numbers

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
        """Return the bound, for `mdlm evaluate`; see `held_out.measure`."""
        del schedule  # the run's own
        return self._measure(
            module, source, draws=draws, rows=rows, noise=noise, estimator=estimator
        ).bound

    def _measure(
        self, module: nn.Module, source: DataSource, **settings: Any
    ) -> Measured:
        return measure(_backbone(module), source, schedule=self._schedule(), **settings)

    def _score(self, module: nn.Module, source: DataSource) -> dict[str, float]:
        """Return the accuracy of decoded answers, with its interval."""
        return score_answers(
            lambda rows, length: answer(
                _backbone(module),
                rows,
                source,
                self.run,
                self.catalog,
                length=length,
                noise=Noise(self.run.seed).child("answers"),
                policy=_policy(module),
            ),
            source,
            _task_of(source),
            count=self.config.eval_generate,
            length=self.config.answer_length,
        )

    # ---- showing -------------------------------------------------------------

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Return held-out prompts with the answers of the run's sampler."""
        return show_answers(
            module,
            source,
            self.run,
            self.catalog,
            count=self.config.sample_count,
            seed=seed,
            length=self.config.answer_length,
            policy=_policy(module),
        )


def _backbone(module: nn.Module) -> nn.Module:
    backbone = module.backbone
    assert isinstance(backbone, nn.Module)
    return backbone


def _policy(module: nn.Module) -> MaskingPolicy | None:
    return cast("MaskingPolicy | None", getattr(module, "policy", None))


def _task_of(source: DataSource) -> str:
    """Return the name of the task whose examples the data are; empty if none."""
    examples = getattr(source, "examples", None)
    if examples is None or examples("validation") is None:
        return ""
    name = source.card().get("task", "")
    return name if isinstance(name, str) else ""


def build(config: SFTConfig, *, run: RunConfig, catalog: Catalog) -> SFT:
    """Return the task, for the catalog."""
    return SFT(config, run=run, catalog=catalog)
