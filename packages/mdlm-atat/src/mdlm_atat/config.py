"""The settings of mdlm-atat. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config.components import DiTConfig, PretrainConfig, SamplerConfig
from mdlm_core.config.schema import at_least, require, share

CURRICULA = {"default": (0.3, 0.7), "early": (0.2, 0.6), "late": (0.35, 0.8)}
"""Where the easy and the medium stage end, as shares of the curriculum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportanceConfig:
    """How important a token is: ``learned * network + frequency * rank``."""

    learned: float = 0.7
    """Weight of the network."""
    frequency: float = 0.3
    """Weight of the rank by corpus frequency; rare tokens are important."""
    target: Literal["loss_rank", "loss_ema", "el2n", "excess"] = "loss_rank"
    """What the network learns to predict."""
    context: Literal["clean", "visible"] = "clean"
    """What it reads: the clean row, or what stays visible of it."""
    width: int = 256
    """Width of the network."""
    blocks: int = 2
    """Its transformer blocks."""
    heads: int = 4
    """Its attention heads."""
    conv_kernel: int = 0
    """Its depthwise convolution; 0 means none."""
    loss_weight: float = 0.1
    """Weight of its squared error beside the loss per token."""
    bins: int = 20
    """Bins of t in which losses are compared."""
    decay: float = 0.98
    """Decay of the running means, per step."""
    frequency_tokens: int = 4_000_000
    """Training tokens that are counted for the ranks, at most."""

    def __post_init__(self) -> None:
        share("masking.importance", self, "learned", "frequency")
        require(
            0 <= self.decay < 1,
            f"masking.importance.decay is {self.decay}; it must be in [0, 1)",
        )
        total = self.learned + self.frequency
        require(
            total <= 1 + 1e-9,
            f"masking.importance.learned + frequency is {total}; importance is in "
            "[0, 1], so that the two must add up to at most 1",
        )
        at_least(1, "masking.importance", self, "width", "blocks", "heads", "bins")
        at_least(1, "masking.importance", self, "frequency_tokens")
        at_least(0, "masking.importance", self, "loss_weight", "conv_kernel")
        require(
            self.width % (2 * self.heads) == 0,
            f"masking.importance.width ({self.width}) must be a multiple of twice "
            f"masking.importance.heads ({self.heads}), so that a head has an even size",
        )
        require(
            self.conv_kernel == 0 or self.conv_kernel % 2 == 1,
            f"masking.importance.conv_kernel is {self.conv_kernel}; it must be 0 or "
            "odd",
        )
        require(
            self.context == "clean" or self.learned > 0 or self.frequency == 0,
            "masking.importance.context is visible and learned is 0; the rank of a "
            "hidden token cannot be seen: set learned above 0, or context=clean",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CurriculumConfig:
    """How strong the bias is over a run, as a multiple of 1 / temperature."""

    preset: Literal["default", "early", "late", "none"] = "default"
    """Where the stages end; none has no stages."""
    warmup: int = 1000
    """Steps without a bias, at most a tenth of the run; the ramp is as long again."""
    easy: float = 0.0
    """In the easy stage important tokens are hidden later, by this."""
    hard: float = 1.0
    """In the hard stage important tokens are hidden earlier, by this."""
    final_uniform: float = 0.3
    """The last share of the run, in which the bias falls to zero."""
    focus: float = 1.0
    """Loss weight of tokens in the importance band of the stage; 1 means no focus."""
    dynamic: bool = False
    """Whether a stage also ends when its loss stops falling."""

    def __post_init__(self) -> None:
        at_least(0, "masking.curriculum", self, "warmup", "easy", "hard")
        share("masking.curriculum", self, "final_uniform")
        at_least(1, "masking.curriculum", self, "focus")


@dataclass(frozen=True, kw_only=True, slots=True)
class AtatConfig:
    """Hide tokens by their importance, at the mean rate of the schedule."""

    importance: ImportanceConfig = field(default_factory=ImportanceConfig)
    """How important a token is."""
    strategy: Literal["proportional", "inverse", "balanced", "time_only"] = "balanced"
    """Important tokens earlier, later, as the curriculum says, or all alike."""
    temperature: float = 2.0
    """The bias is 1 / temperature for each standard deviation of importance."""
    sharpness_power: float = 0.0
    """a: the bias is multiplied with (1 - t)^a."""
    position_bias: float = 0.0
    """Added to the logit from -b at the first free position to b at the last."""
    shape: Literal["logit-shift", "power", "rescale"] = "logit-shift"
    """How importance changes the rate; power has another mean rate."""
    objective: Literal["ht", "nelbo"] = "ht"
    """Weights 1 / chance to be hidden, or the bound of this very process."""
    ht_power: float = 1.0
    """rho: weights chance^-rho; 0 is the biased weight of uniform masks."""
    clip: float = 10.0
    """The largest weight over that of uniform masks."""
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    """How strong the bias is over a run."""

    def __post_init__(self) -> None:
        require(
            self.temperature > 0,
            f"masking.temperature is {self.temperature}; it must be positive (for no "
            "bias set masking.strategy=time_only)",
        )
        at_least(0, "masking", self, "sharpness_power")
        at_least(1, "masking", self, "clip")
        share("masking", self, "ht_power")
        require(
            self.objective == "ht" or self.importance.context == "clean",
            "masking.objective is nelbo and masking.importance.context is visible; "
            "that process hides tokens in two rounds and has no bound of this form: "
            "set objective=ht or context=clean",
        )
        require(
            self.objective == "ht" or self.shape != "rescale",
            "masking.objective is nelbo and masking.shape is rescale, whose rate has "
            "a kink in t; set shape=logit-shift or shape=power",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ATATDiTConfig(DiTConfig):
    """A diffusion transformer of the original's size."""

    blocks: int = 8
    """Transformer blocks."""
    width: int = 256
    """Width of the residual stream."""
    heads: int = 8
    """Attention heads; they divide `width`, and a head's size is even."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UncertaintyConfig(SamplerConfig):
    """Commit positions in an order, by number or by an entropy bound."""

    order: Literal[
        "confident_first", "uncertain_first", "importance", "left_to_right", "random"
    ] = "confident_first"
    """Which masked positions come first."""
    score: Literal["entropy", "confidence", "margin"] = "entropy"
    """What confident means."""
    entropy_bound: float = -1.0
    """gamma, in nats: commit as many as keep within it; negative means by number."""

    def __post_init__(self) -> None:
        SamplerConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class GenMD4Config(PretrainConfig):
    """Pretraining in which each token has a mask schedule t^w of its own."""

    w_init: float = 1.0
    """The exponents at the start; 1 is the plain process."""
    w_lr_factor: float = 1.0
    """Learning rate of the exponents over that of the model; 0 keeps them."""

    def __post_init__(self) -> None:
        PretrainConfig.__post_init__(self)
        require(self.w_init > 0, f"task.w_init is {self.w_init}; it must be positive")
        at_least(0, "task", self, "w_lr_factor")
        require(
            self.t_sampling in ("stratified", "uniform"),
            f"task.t_sampling is {self.t_sampling}; the bound of this process needs "
            "stratified or uniform",
        )
