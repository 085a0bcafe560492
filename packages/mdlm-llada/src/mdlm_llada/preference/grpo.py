"""The task `llada-grpo`: learning from rewards by diffu-GRPO and its coupled variant.

Zhao et al., 2025 (d1, arXiv 2504.12216); Gong et al., 2025 (DiffuCoder, arXiv
2506.20639).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from torch import nn

from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, Schedule
from mdlm_core.train.zero import wants_zero
from mdlm_llada.config import GRPOConfig
from mdlm_llada.sft.answers import Answer, answer
from mdlm_llada.sft.shown import show_answers
from mdlm_llada.tokenizer import Specials

from .groups import Groups
from .reference import Reference
from .rewards import Judge
from .rollouts import Rollouts
from .shown import check_masking


class GRPO:
    """The task; see `protocols.Task`."""

    def __init__(self, config: GRPOConfig, *, run: RunConfig, catalog: Catalog) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> Groups:
        """Build the backbone, its reference, and room for answers.

        Raises:
            ConfigError: under DeepSpeed; if the data have no rewards or do not repeat
                their batches as often as there are inner steps, the model sees blocks,
                or the run has another masking policy than the uniform one.
        """
        check_masking(self.run)
        _check_launch()
        self._check_data()
        config, tokenizer = self.config, source.tokenizer
        judge = Judge(source, self.run.data.config.task, partial=config.partial)
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        if getattr(backbone, "block_size", 0):
            raise ConfigError(
                f"the model '{self.run.model.name}' sees blocks of itself, and "
                f"llada-grpo hides whole answers; use a model that sees both ways, for "
                f"example model.family=llada"
            )
        reference = None
        if config.beta > 0:
            reference = Reference(backbone, moves=config.sync_reference > 0)
        return Groups(
            backbone,
            reference,
            Rollouts(
                self.run.train.batch_size,
                inner_steps=config.inner_steps,
                group=config.group,
                length=config.answer_length,
                reference=reference is not None,
            ),
            settings=config,
            schedule=self._schedule(),
            tokens=tokenizer.vocab_size,
            ends=Specials.of(tokenizer).ends,
            reward=lambda row, ids: judge.reward("train", row, judge.text(ids)),
        )

    def _check_data(self) -> None:
        data, inner = self.run.data, self.config.inner_steps
        if not getattr(data.config, "task", ""):
            raise ConfigError(
                f"data.name is '{data.name}', which has no task to give rewards; use "
                f"data.name=llada-prompts"
            )
        repeats = getattr(data.config, "repeats", 1)
        if repeats != inner:
            raise ConfigError(
                f"task.inner_steps is {inner}, but the data give each batch {repeats} "
                f"time{'s' * (repeats != 1)} (data.repeats); set data.repeats={inner}"
            )

    def _schedule(self) -> Schedule:
        schedule: Schedule = self.catalog.build("schedule", self.run.schedule)
        return schedule

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return what answers to held-out prompts are worth; ``loss`` is 1 - reward.

        They are decoded by the run's sampler, with the same prompts and noise at every
        call. Without held-out prompts there is nothing to measure, and no number.
        """
        if source.size("validation") == 0:
            return {}
        judge = Judge(source, self.run.data.config.task, partial=self.config.partial)
        backbone = module.backbone
        assert isinstance(backbone, nn.Module)

        def decode(rows: Batch) -> list[Answer]:
            return answer(
                backbone,
                rows,
                source,
                self.run,
                self.catalog,
                length=self.config.answer_length,
                noise=Noise(self.run.seed).child("answers"),
            )

        numbers = judge.measure(decode, count=self.config.eval_rows)
        return {"loss": 1 - numbers["reward"], **numbers}

    def bound(self, module: nn.Module, source: DataSource, **_: object) -> NoReturn:
        """Refuse to give a bound, for `mdlm evaluate`.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "the data of llada-grpo are prompts without answers, so that there is no "
            "likelihood to measure; measure answers: mdlm llada infer, then mdlm llada "
            "score"
        )

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
        )


def _check_launch() -> None:
    if wants_zero():
        raise ConfigError(
            "llada-grpo divides its loss by the tokens of answers, whose number is not "
            "known before they are written, and DeepSpeed has to know it before; use "
            "DDP or FSDP2"
        )


def build(config: GRPOConfig, *, run: RunConfig, catalog: Catalog) -> GRPO:
    """Return the task, for the catalog."""
    return GRPO(config, run=run, catalog=catalog)
