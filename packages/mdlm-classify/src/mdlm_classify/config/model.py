"""Settings of the models. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from mdlm_core.config.components import DiTConfig, HuggingFaceModelConfig
from mdlm_core.config.schema import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassDiTConfig(DiTConfig):
    """A diffusion transformer that is told the class, or none; small by default."""

    blocks: int = 2
    """Transformer blocks."""
    width: int = 64
    """Width of the residual stream."""
    heads: int = 4
    """Attention heads; they divide `width`, and a head's size is even."""
    per_class: bool = False
    """Whether each class has a model of its own, and there is no null class."""
    bias_scale: float = 20.0
    """How many times faster than other weights a class's output biases learn."""

    def __post_init__(self) -> None:
        DiTConfig.__post_init__(self)
        require(
            self.bias_scale > 0,
            f"model.bias_scale is {self.bias_scale}; it must be positive",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassHuggingFaceConfig(HuggingFaceModelConfig):
    """A masked language model of transformers that is told the class, or none."""

    blocks: int = 2
    """Transformer blocks of a new model, which has no `path`."""
    width: int = 128
    """Width of a new model."""
    heads: int = 4
    """Attention heads of a new model; they divide `width`, and a head's size is
    even."""
    per_class: bool = False
    """Whether each class has a model of its own, and there is no null class."""
    bias_scale: float = 20.0
    """How many times faster than other weights a class's output biases learn."""

    def __post_init__(self) -> None:
        at_least(1, "model", self, "blocks", "width", "heads")
        require(
            self.width % (2 * self.heads) == 0,
            f"model.width ({self.width}) must be a multiple of twice model.heads "
            f"({self.heads}), so that a head has an even size",
        )
        require(
            self.bias_scale > 0,
            f"model.bias_scale is {self.bias_scale}; it must be positive",
        )
