"""Settings of the backbones. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config import components
from mdlm_core.config.schema import at_least, require

Family = Literal["llada", "dream", "llada-moe", "llada2"]
"""The formats of checkpoints: dense LLaDA, Dream, LLaDA-MoE, LLaDA 2.x."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Low-rank adapters through peft, on weights that stay as they are."""

    rank: int = 0
    """Rank of the adapters; 0 means none, and all weights are trained."""
    alpha: float = 16.0
    """Scale: the adapter's product is multiplied with alpha / rank."""
    dropout: float = 0.0
    """On the adapter's input."""
    targets: tuple[str, ...] = ()
    """Names of linear layers; empty means those of attention and MLP."""

    def __post_init__(self) -> None:
        at_least(0, "model.lora", self, "rank")
        require(
            0 <= self.dropout < 1,
            f"model.lora.dropout is {self.dropout}; it must be in [0, 1)",
        )
        require(
            self.alpha > 0, f"model.lora.alpha is {self.alpha}; it must be positive"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertsConfig:
    """A mixture of experts, for the families that have one."""

    count: int = 8
    """Experts in a layer."""
    per_token: int = 2
    """Experts that a token goes to."""
    width: int = 64
    """Inner width of an expert."""
    shared: int = 0
    """Experts that every token goes to (llada2: 1)."""
    dense_layers: int = 0
    """Layers at the bottom with a dense MLP instead (llada2: 1)."""
    groups: int = 1
    """Groups of experts (llada2)."""
    groups_per_token: int = 1
    """Groups that a token may choose from (llada2)."""
    scale: float = 1.0
    """Factor on the experts' sum (llada2: 2.5)."""

    def __post_init__(self) -> None:
        at_least(1, "model.experts", self, "count", "per_token", "width", "groups")
        at_least(0, "model.experts", self, "shared", "dense_layers")
        require(
            self.per_token <= self.count,
            f"model.experts.per_token is {self.per_token}; it must be at most "
            f"model.experts.count, {self.count}",
        )
        require(
            self.count % self.groups == 0
            and 1 <= self.groups_per_token <= self.groups
            and self.per_token <= self.groups_per_token * (self.count // self.groups),
            f"model.experts.groups ({self.groups}) must divide count ({self.count}), "
            f"and groups_per_token ({self.groups_per_token}) of them must hold "
            f"per_token ({self.per_token}) experts",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LLaDAConfig:
    """A model of the family: a checkpoint at `path`, or a new one of given sizes.

    With a `path` the sizes below are those of its config.json and are not read.
    """

    path: str = ""
    """A checkpoint: a folder, or a name on the Hugging Face hub; or a run folder;
    empty for a new model."""
    mask_token_id: int | None = None
    """The mask; None takes the checkpoint's, or for a new model the tokenizer's."""
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    """Type of the weights; auto is that of the checkpoint. bfloat16 is for decoding,
    and for weights under LoRA."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters."""
    family: Family = "llada"
    """What a new model is like."""
    blocks: int = 4
    """Transformer blocks."""
    width: int = 128
    """Width of the residual stream."""
    heads: int = 4
    """Query heads; they divide `width`, and a head's size is even."""
    kv_heads: int = 0
    """Key and value heads, which divide `heads`; 0 means as many."""
    mlp_width: int = 384
    """Inner width of the MLP."""
    rope_theta: float = 10_000.0
    """Base of the rotary positions (LLaDA-8B: 500000)."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    tied: bool = False
    """Whether embedding and head are one matrix."""
    block_size: int = 32
    """Positions in a block that see each other (llada2)."""
    experts: ExpertsConfig = field(default_factory=ExpertsConfig)
    """The mixture (llada-moe, llada2)."""

    def __post_init__(self) -> None:
        at_least(1, "model", self, "blocks", "width", "heads", "mlp_width")
        at_least(0, "model", self, "kv_heads")
        at_least(1, "model", self, "block_size")
        require(
            self.width % (2 * self.heads) == 0,
            f"model.width ({self.width}) must be a multiple of twice model.heads "
            f"({self.heads}), so that a head has an even size",
        )
        require(
            self.heads % (self.kv_heads or self.heads) == 0,
            f"model.kv_heads ({self.kv_heads}) must divide model.heads ({self.heads})",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceModelConfig(components.HuggingFaceModelConfig):
    """Any masked or causal language model of transformers, with adapters if wanted."""

    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters."""
