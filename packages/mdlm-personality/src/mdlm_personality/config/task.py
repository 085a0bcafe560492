"""Settings of the tasks. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mdlm_core.config.components import PretrainConfig
from mdlm_core.config.schema import at_least, require, share


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonalityConfig(PretrainConfig):
    """Learn text given traits, in three stages: encoder, causal layer, diffusion."""

    stage: Literal[1, 2, 3, "all"] = "all"
    """1 learns the encoder, 2 the causal layer, 3 the diffusion; all, one after the
    other in one run."""
    persona_from: str = ""
    """A run of an earlier stage, whose encoder and causal layer are taken."""
    freeze: bool = False
    """Whether encoder and causal layer stay as they are in stage 3."""
    encoder_share: float = 0.05
    """Share of the steps for stage 1 in a run of all stages; none if the encoder has
    no weights."""
    causal_share: float = 0.1
    """Share of the steps for stage 2 in a run of all stages; none if there is nothing
    to learn."""
    persona_lr: float = 3.0
    """How many times faster than the transformer encoder and causal layer learn."""
    sparsity: float = 0.02
    """Weight of the absolute values of edges while dagma or notears look for them."""
    condition_dropout: float = 0.1
    """Share of the rows that are shown without a persona, to learn the null."""
    trait_dropout: float = 0.2
    """Share of the rows of which some traits are hidden, for guidance and inference
    by single traits."""
    warm_start: str = ""
    """A run of an unconditional `dit` or of this model, whose weights are taken."""

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What to do with a run: go on to the next stage, or write texts."""
        if self.stage in (1, 2):
            on = f"--set task.stage={self.stage + 1} --set task.persona_from={{run}}"
            return (
                *(("mdlm personality graph {run}",) if self.stage == 2 else ()),
                f"mdlm train --plugin personality {on}",
            )
        return (
            "mdlm personality counterfactual {run} --traits 0.8,0.6,0.7,0.9,0.3 "
            "--do extraversion=0.2",
            "mdlm personality evaluate {run}",
        )

    def __post_init__(self) -> None:
        PretrainConfig.__post_init__(self)
        share("task", self, "condition_dropout", "trait_dropout")
        at_least(0, "task", self, "encoder_share", "causal_share", "sparsity")
        require(
            self.persona_lr > 0,
            f"task.persona_lr is {self.persona_lr}; it must be positive",
        )
        require(
            self.encoder_share + self.causal_share < 1,
            f"task.encoder_share and task.causal_share add up to "
            f"{self.encoder_share + self.causal_share:g}, which leaves no step for the "
            f"diffusion; lower them",
        )
        require(
            not (self.freeze and self.stage in (1, 2)),
            f"task.freeze is about stage 3, and task.stage is {self.stage}",
        )
        require(
            self.condition_dropout + self.trait_dropout <= 1,
            f"task.condition_dropout and task.trait_dropout add up to "
            f"{self.condition_dropout + self.trait_dropout:g}; at most 1 is left",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TraitRegressorConfig:
    """Learn the traits from noised text: p(y | z_t), for guidance by a classifier."""

    t_min: float = 1e-3
    """Times are drawn in [t_min, 1)."""
    eval_rows: int = 256
    """Held-out rows measured during training; 0 means all."""

    def __post_init__(self) -> None:
        require(0 < self.t_min < 1, f"task.t_min is {self.t_min}; it must be in (0, 1)")
        at_least(0, "task", self, "eval_rows")
