"""What a model of the family is like, read from config.json. Light: no torch.

A checkpoint is told by its `architectures` and its fields, never by its `model_type`:
published LLaDA-MoE checkpoints say "llada" there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config.schema import require
from mdlm_llada.config.model import ExpertsConfig, Family, LLaDAConfig

Router = Literal["softmax", "sigmoid-groups"]
"""How a token finds its experts: a softmax over all of them (LLaDA-MoE); or a sigmoid
for each, with a correction, inside the best groups (LLaDA 2.x)."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes and switches of a trunk; see :class:`mdlm_llada.nn.trunk.LLaDA`."""

    family: Family
    """The format that the checkpoint has or would have."""
    vocab_size: int
    """V: rows of the embedding, the mask included."""
    width: int
    """D."""
    blocks: int
    """Transformer blocks."""
    heads: int
    """H, the query heads."""
    kv_heads: int
    """Key and value heads; they divide `heads`."""
    head_size: int
    """K."""
    mlp_width: int
    """Inner width of a dense MLP."""
    rope_theta: float
    """Base of the rotary positions."""
    rotary_size: int
    """Entries of a head that turn, the first ones; at most `head_size`."""
    norm_eps: float
    """Added to the mean square in RMSNorm."""
    tied: bool = False
    """Whether embedding and head are one matrix."""
    qkv_bias: bool = False
    """Whether queries, keys and values have a bias."""
    out_bias: bool = False
    """Whether the attention's output has one."""
    qk_norm: bool = False
    """Whether queries and keys are normed, head by head."""
    shift: bool = False
    """Whether the state at i is about token i + 1 (Dream)."""
    block_size: int = 0
    """Positions in a block of block diffusion; 0 means that all see all."""
    experts: ExpertsConfig | None = None
    """The mixture of experts; None means a dense MLP in every block."""
    router: Router = "softmax"
    """How a token finds its experts."""
    norm_topk: bool = False
    """Whether the weights of a token's experts sum to one before scaling."""
    mask_token_id: int | None = None
    """The mask, if the checkpoint names it."""
    eos_token_id: int | None = None
    """The end of text."""
    pad_token_id: int | None = None
    """Padding."""
    max_positions: int = 4096
    """Positions that the model was trained on."""
    raw: Mapping[str, object] = field(default_factory=dict, compare=False)
    """config.json as it was read, kept for export."""

    @classmethod
    def from_json(cls, config: Mapping[str, object], where: str) -> Architecture:
        """Read a config.json.

        Args:
            config: its content.
            where: the file, for errors.

        Raises:
            CheckpointError: if the architecture is none of the family's, a field is
                missing or of the wrong type, or asks for what is not implemented.
        """
        from mdlm_llada.formats import read

        return read(config, where)

    def to_json(self) -> dict[str, object]:
        """Return the config.json of the same model, with what `raw` holds besides."""
        from mdlm_llada.formats import write

        return write(self)

    @classmethod
    def from_settings(
        cls, config: LLaDAConfig, vocab_size: int, mask_id: int
    ) -> Architecture:
        """Return a new model's architecture, of the family's kind and our sizes.

        Raises:
            ConfigError: if the family has no such mixture of experts.
        """
        head_size = config.width // config.heads
        family = config.family
        block_diffusion = family == "llada2"
        if family == "llada-moe":
            _plain(config.experts)
        return cls(
            family=family,
            vocab_size=vocab_size,
            width=config.width,
            blocks=config.blocks,
            heads=config.heads,
            kv_heads=config.kv_heads or config.heads,
            head_size=head_size,
            mlp_width=config.mlp_width,
            rope_theta=config.rope_theta,
            rotary_size=_even_half(head_size) if block_diffusion else head_size,
            norm_eps=config.norm_eps,
            tied=config.tied,
            qkv_bias=family == "dream",
            qk_norm=family in ("llada-moe", "llada2"),
            shift=family == "dream",
            block_size=config.block_size if block_diffusion else 0,
            experts=config.experts if family in ("llada-moe", "llada2") else None,
            router="sigmoid-groups" if block_diffusion else "softmax",
            norm_topk=block_diffusion,
            mask_token_id=mask_id,
        )


def _plain(experts: ExpertsConfig) -> None:
    """Refuse what a mixture with a softmax router does not have."""
    for name, usual in (("shared", 0), ("dense_layers", 0), ("groups", 1)):
        value = getattr(experts, name)
        require(
            value == usual,
            f"model.experts.{name} is {value}; a model of the family llada-moe has "
            f"{usual}: set model.family=llada2 for more",
        )


def _even_half(size: int) -> int:
    """Return the even number next to half of `size`, at least 2."""
    return max(2, size // 4 * 2)
