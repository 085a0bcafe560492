"""The settings of a run, as frozen dataclasses. Light: imports nothing heavy.

Each component (model, schedule, masking, sampler, data, task) is a mapping with a
`name`; the rest of it belongs to that component's own dataclass, found by the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mdlm_core.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raise a ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def at_least(low: float, section: str, config: object, *names: str) -> None:
    """Raise a ConfigError unless each named setting of `config` is at least `low`."""
    for name in names:
        value = getattr(config, name)
        rule = f"at least {low}" if low else "0 or more"
        require(value >= low, f"{section}.{name} is {value}; it must be {rule}")


def share(section: str, config: object, *names: str) -> None:
    """Raise a ConfigError unless each named setting of `config` is in [0, 1]."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value <= 1, f"{section}.{name} is {value}; it must be in [0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A component chosen by name, with its settings already checked."""

    name: str
    """The name in the catalog."""
    config: Any = None
    """An instance of the component's configuration dataclass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How a module is optimised, measured and saved."""

    steps: int = 1000
    """Optimiser steps."""
    epochs: float = 0.0
    """Passes over the data; unless 0, they decide `steps`."""
    batch_size: int = 64
    """Rows in the global batch: over all processes and accumulation steps."""
    micro_batch: int = 0
    """Rows in one forward pass of one process; 0 means no accumulation."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon is for the matrices between hidden layers; the rest gets AdamW."""
    lr: float = 3e-4
    """Peak learning rate."""
    beta1: float = 0.9
    """AdamW's first decay."""
    beta2: float = 0.999
    """AdamW's second decay."""
    adam_eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay, on matrices only."""
    lr_schedule: Literal[
        "constant", "cosine", "wsd", "linear", "polynomial", "cosine-restarts"
    ] = "constant"
    """What follows the warm-up; wsd is constant, then a linear fall at the end."""
    warmup: int = 2500
    """Steps of linear warm-up."""
    decay_fraction: float = 0.2
    """The share of the steps in which wsd falls."""
    lr_min_ratio: float = 0.0
    """The final learning rate over the peak, unless it is constant."""
    lr_power: float = 1.0
    """The exponent of polynomial."""
    lr_cycles: int = 1
    """The cosines of cosine-restarts, one after the other."""
    clip: float = 1.0
    """Largest gradient norm; 0 means no clipping."""
    ema: float = 0.9999
    """Decay of the averaged weights, min(ema, (1 + n) / (10 + n)); 0 means none."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the forward pass; auto is bf16 where it is measured to be faster."""
    compile: bool = False
    """Whether the backbone goes through `torch.compile`."""
    checkpoint_activations: bool = False
    """Whether blocks are recomputed in the backward pass, to save memory."""
    eval_every: int | Literal["epoch"] = 500
    """Steps between measurements on held-out data, or epoch; 0 means at the end."""
    eval_start: bool = False
    """Whether to measure and save before the first step too."""
    patience: int = 0
    """Stop after that many measurements in a row without a best one; 0 means never."""
    save_every: int | Literal["epoch"] = 500
    """Steps between checkpoints, or epoch; 0 means only at the end."""
    keep_last: int = 2
    """How many of the newest checkpoints stay."""
    keep_best: int = 3
    """How many of the best checkpoints by held-out loss stay as well."""
    sample_every: int = 0
    """Steps between samples; 0 means only at the end."""
    log_every: int = 10
    """Steps between lines in metrics.jsonl."""
    report_to: tuple[str, ...] = ()
    """Trackers of accelerate besides metrics.jsonl: "tensorboard", "wandb"."""

    def __post_init__(self) -> None:
        at_least(1, "train", self, "steps", "batch_size", "log_every", "keep_last")
        at_least(0, "train", self, "warmup", "micro_batch", "clip", "weight_decay")
        at_least(0, "train", self, "keep_best", "sample_every", "epochs", "patience")
        for name in ("eval_every", "save_every"):
            if getattr(self, name) != "epoch":
                at_least(0, "train", self, name)
        at_least(1, "train", self, "lr_cycles")
        share("train", self, "decay_fraction", "lr_min_ratio")
        for name in ("lr", "adam_eps", "lr_power"):
            value = getattr(self, name)
            require(value > 0, f"train.{name} is {value}; it must be positive")
        for name in ("beta1", "beta2", "ema"):
            value = getattr(self, name)
            require(0 <= value < 1, f"train.{name} is {value}; it must be in [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that decides a run."""

    seed: int = 0
    """Decides initial weights, order of the data, noise and samples."""
    task: Component = field(default_factory=lambda: Component(name="pretrain"))
    """What is trained."""
    model: Component = field(default_factory=lambda: Component(name="dit"))
    """The denoiser."""
    schedule: Component = field(default_factory=lambda: Component(name="loglinear"))
    """How the mask rate grows with t."""
    masking: Component = field(default_factory=lambda: Component(name="uniform"))
    """Which tokens are hidden first."""
    sampler: Component = field(default_factory=lambda: Component(name="ancestral"))
    """How a canvas is filled."""
    data: Component = field(default_factory=lambda: Component(name="python-docs"))
    """What is learned from."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How."""


KIND_OF_FIELD = {
    "task": "task",
    "model": "backbone",
    "schedule": "schedule",
    "masking": "masking",
    "sampler": "sampler",
    "data": "dataset",
}
"""Which kind of spec each component field of `RunConfig` names."""
