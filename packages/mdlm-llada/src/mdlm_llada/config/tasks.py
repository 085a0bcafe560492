"""Settings of what is trained. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config.schema import at_least, require, share

Normaliser = Literal["sequence", "token", "batch"]
"""Each answer's loss over its own length, and the mean of that over rows; the sum over
the answers' tokens, over their number; the sum over the number of rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimesConfig:
    """How times are drawn: the density p(t), and the weight 1 / p(t) that undoes it."""

    ppots: bool = False
    """Whether p is fitted to the measured loss (P-POTS), for model=EPR or AP; without
    it these two are uniform."""
    model: Literal["EPR", "AP", "uniform", "clipped", "custom"] = "EPR"
    """What is fitted: a curve of seven parameters; a piecewise linear density through
    the measured points; for comparison uniform, `clipped`, or `custom`."""
    stratified: bool = False
    """Whether the times of a global batch are stratified (StraTS)."""
    strata: int = 0
    """Strata for that; 0 means the square root of the batch."""
    samples_x0: int = 15
    """Rows that the loss is measured on."""
    samples_t: int = 70
    """Times at which it is."""
    samples_xt: int = 15
    """Masks for each row and time, at least 2."""
    starts: int = 20
    """Random starts of the fit of EPR."""
    mix_uniform: float = 0.0
    """Share of the uniform density in p."""
    max_weight: float = 1e6
    """Cap on 1 / p(t); a finite one that is reached biases the loss."""
    loss_max: float = 10.0
    """Cap on a measured loss."""
    max_tokens_per_forward: int = 60_000
    """Tokens that go through the model at once while measuring."""
    refresh_every: int = 0
    """Steps after which p is measured again; 0 means once, before training."""
    clip_low: float = 0.0
    """Lower end of the times, for model=clipped."""
    clip_high: float = 1.0
    """Upper end."""
    custom: tuple[float, ...] = ()
    """Density at equally spaced times from 0 to 1, for model=custom."""

    def __post_init__(self) -> None:
        at_least(1, "task.times", self, "samples_x0", "starts")
        at_least(2, "task.times", self, "samples_t", "samples_xt")
        at_least(0, "task.times", self, "strata", "refresh_every")
        at_least(1, "task.times", self, "max_tokens_per_forward")
        share("task.times", self, "mix_uniform", "clip_low", "clip_high")
        for name in ("max_weight", "loss_max"):
            value = getattr(self, name)
            require(value > 0, f"task.times.{name} is {value}; it must be positive")
        require(
            self.clip_low < self.clip_high,
            f"task.times.clip_low ({self.clip_low}) must be below clip_high "
            f"({self.clip_high})",
        )
        require(
            self.model != "clipped" or self.mix_uniform == 0,
            f"task.times.mix_uniform is {self.mix_uniform}, but model=clipped leaves "
            f"times out on purpose; set one of them",
        )
        require(
            self.model != "custom" or (len(self.custom) >= 2 and min(self.custom) > 0),
            "task.times.model is custom, so that task.times.custom must hold two or "
            "more positive numbers, the density at equally spaced times",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTConfig:
    """Supervised fine-tuning on prompts and answers."""

    train_mode: Literal["Normal", "MultiSample", "MIRROR"] = "Normal"
    """One mask for each row; `masks` independent ones; a mask and its mirror image."""
    masks: int = 2
    """Masks for each row, for MultiSample."""
    loss_norm: Normaliser = "sequence"
    """What the loss of a batch is divided by."""
    t_min: float = 1e-3
    """Smallest mask rate: p = t_min + (1 - t_min) t."""
    times: TimesConfig = field(default_factory=TimesConfig)
    """How times are drawn."""
    eval_draws: int = 8
    """Draws per row of the exact-count estimator on held-out data."""
    eval_rows: int = 128
    """Held-out rows measured during training; 0 means all."""
    eval_generate: int = 0
    """Held-out prompts answered and scored at each measurement; needs data with a
    task."""
    answer_length: int = 0
    """Tokens decoded for those; 0 takes the longest held-out answer, in blocks."""
    sample_count: int = 2
    """Answers to look at."""

    def __post_init__(self) -> None:
        require(0 < self.t_min < 1, f"task.t_min is {self.t_min}; it must be in (0, 1)")
        at_least(2, "task", self, "masks", "eval_draws")
        at_least(0, "task", self, "eval_rows", "eval_generate", "sample_count")
        at_least(0, "task", self, "answer_length")


@dataclass(frozen=True, kw_only=True, slots=True)
class VRPOConfig:
    """Preference optimisation with variance-reduced bounds (arXiv 2505.19223)."""

    beta: float = 0.2
    """Strength of the pull to the reference."""
    draws: int = 8
    """Masks per answer, each with a count or a time of its own."""
    estimator: Literal["counts", "times"] = "counts"
    """Masks with exact numbers of hidden tokens, or with a chance for each token."""
    shared: bool = True
    """Whether model and reference see the same masks."""
    mirror: bool = False
    """Whether masks come in complementary pairs."""
    eval_rows: int = 64
    """Held-out pairs measured; 0 means all."""
    sample_count: int = 2
    """Answers to look at."""

    def __post_init__(self) -> None:
        at_least(1, "task", self, "draws")
        at_least(0, "task", self, "eval_rows", "sample_count")
        require(self.beta > 0, f"task.beta is {self.beta}; it must be positive")
        require(
            not self.mirror or self.draws % 2 == 0,
            f"task.draws is {self.draws}, but task.mirror makes masks in pairs; set an "
            f"even number",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GRPOConfig:
    """Learning from rewards: diffu-GRPO and its coupled variant (d1, DiffuCoder)."""

    group: int = 6
    """Answers to each prompt."""
    inner_steps: int = 12
    """Optimiser steps on the same answers; data.repeats must be the same."""
    clip: float = 0.5
    """epsilon of the clipped ratio."""
    beta: float = 0.04
    """Weight of the divergence from the reference."""
    prompt_mask: float = 0.15
    """Chance that a token of the prompt is hidden."""
    coupled: bool = False
    """Whether an answer's likelihood is also read off two complementary masks."""
    scale_rewards: bool = False
    """Whether advantages are divided by the group's standard deviation."""
    partial: float = 0.0
    """Share of the reward that is for being like the written-out answer, from 0 to 1;
    the rest is the task's own. For a model that is never right yet."""
    sync_reference: int = 64
    """Steps after which the reference becomes the model; 0 means never, and then
    checkpoints do not hold it."""
    answer_length: int = 64
    """Tokens of an answer."""
    steps: int = 32
    """Decoding steps."""
    block: int = 32
    """Positions in a block, for decoding."""
    temperature: float = 0.9
    """Of decoding the answers that are learned from."""
    eval_rows: int = 32
    """Held-out prompts answered at a measurement, by the run's sampler; 0 means all."""
    sample_count: int = 2
    """Answers to look at."""

    def __post_init__(self) -> None:
        at_least(2, "task", self, "group")
        at_least(1, "task", self, "inner_steps", "answer_length", "steps", "block")
        at_least(0, "task", self, "beta", "sync_reference", "eval_rows", "sample_count")
        share("task", self, "prompt_mask", "partial")
        require(self.clip > 0, f"task.clip is {self.clip}; it must be positive")
        require(
            self.temperature > 0,
            f"task.temperature is {self.temperature}; it must be positive, or all "
            f"answers to a prompt are the same one",
        )
        require(
            self.answer_length % self.block == 0,
            f"task.answer_length ({self.answer_length}) must be a multiple of "
            f"task.block ({self.block})",
        )
        blocks = self.answer_length // self.block
        require(
            self.steps % blocks == 0,
            f"task.steps ({self.steps}) must be a multiple of the {blocks} blocks of "
            f"an answer",
        )
