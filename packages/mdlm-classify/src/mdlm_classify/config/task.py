"""Settings of what is trained. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mdlm_core.config.schema import at_least, require, share


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyConfig:
    """Learn log p(text | class), and which class makes a text most probable."""

    t_sampling: Literal["counts", "stratified", "uniform"] = "counts"
    """How times are drawn for a training batch; counts hides exact numbers."""
    t_min: float = 1e-3
    """Times are drawn in [t_min, 1)."""
    start: Literal["counts", "zero"] = "counts"
    """Whether the output biases start from the smoothed counts of each class, which
    makes the model multinomial naive Bayes at step 0."""
    smoothing: float = 1.0
    """What is added to each count."""
    null_share: float = 0.1
    """Chance that a row's label is hidden, so that the null class learns too."""
    discriminative: float = 4.0
    """Weight of -log p(class | text) in the loss; 0 is purely generative."""
    temper: float = 0.5
    """Exponent b: that posterior divides log-probabilities by L^b for L tokens."""
    contrast: int = 7
    """Other classes that a row is compared with, at most."""
    scored: int = 32
    """Hidden tokens of a row that go through the head, at most; 0 means all."""
    class_weights: Literal["none", "balanced"] = "none"
    """Whether rows of rare classes count more."""
    select: Literal["accuracy", "log-loss", "bound"] = "accuracy"
    """What decides which checkpoint is the best."""
    warm_start: str = ""
    """A run whose weights to begin with, such as one on unlabelled text."""
    eval_draws: int = 4
    """Draws per held-out text during training."""
    eval_rows: int = 512
    """Held-out texts measured during training; 0 means all."""
    sample_count: int = 2
    """Texts sampled to look at, each of one class."""

    def __post_init__(self) -> None:
        require(0 < self.t_min < 1, f"task.t_min is {self.t_min}; it must be in (0, 1)")
        require(
            self.smoothing > 0,
            f"task.smoothing is {self.smoothing}; it must be positive, because a class "
            f"without a word would have probability zero",
        )
        at_least(
            0, "task", self, "discriminative", "eval_rows", "sample_count", "scored"
        )
        at_least(1, "task", self, "contrast")
        at_least(2, "task", self, "eval_draws")
        share("task", self, "null_share", "temper")


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalConfig:
    """One causal language model for each class: -log p(text | class) is exact."""

    select: Literal["accuracy", "bound"] = "accuracy"
    """What decides which checkpoint is the best."""
    eval_rows: int = 512
    """Held-out texts measured during training; 0 means all."""

    def __post_init__(self) -> None:
        at_least(0, "task", self, "eval_rows")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminativeConfig:
    """A bidirectional encoder with a head over the classes."""

    class_weights: Literal["none", "balanced"] = "none"
    """Whether rows of rare classes count more."""
    eval_rows: int = 512
    """Held-out texts measured during training; 0 means all."""

    def __post_init__(self) -> None:
        at_least(0, "task", self, "eval_rows")
