"""`ProteinDIT`, with the original's arguments, as a `ProteinDiT`.

Letters: B batch, L length, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError
from mdlm_msa.alphabet import MASK, PAD, VOCAB_SIZE, WRITTEN
from mdlm_msa.config import ProteinDiTConfig
from mdlm_msa.nn.protein_dit import ProteinDiT

PADDED = 128
"""Rows of the original's embedding; those from 37 on mean nothing, and are not kept."""


class ProteinDIT(ProteinDiT):
    """A `ProteinDiT` built and called with the original's arguments."""

    def __init__(
        self,
        vocab_size: int = PADDED,
        hidden_size: int = 1024,
        num_heads: int = 16,
        num_layers: int = 24,
        cond_dim: int = 256,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        max_length: int = 2048,
        **settings: Any,
    ) -> None:
        """Draw new weights.

        Args:
            vocab_size: 128, as the original pads it, or 37; ids from 37 on are nothing.
            hidden_size: the width.
            num_heads: attention heads.
            num_layers: blocks.
            cond_dim: width of the condition.
            mlp_ratio: inner width of an MLP over the width.
            dropout: of the two branches of a block.
            max_length: the usual L; any other works too.
            settings: others of `ProteinDiTConfig`, such as ``profile=False``.

        Raises:
            ConfigError: if the vocabulary is another one.
        """
        if vocab_size not in (PADDED, VOCAB_SIZE):
            raise ConfigError(
                f"vocab_size is {vocab_size}; it must be {VOCAB_SIZE}, the ids of the "
                f"alphabet, or {PADDED}, as the original pads them"
            )
        config = ProteinDiTConfig(
            blocks=num_layers,
            width=hidden_size,
            heads=num_heads,
            cond_width=cond_dim,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            **settings,
        )
        super().__init__(config, vocab_size=VOCAB_SIZE, mask_id=MASK, length=max_length)

    def forward(
        self,
        input_ids: Tensor,
        sigma: Tensor | None = None,
        position_ids: Tensor | None = None,
        block_position_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the logits ``(B, L, V)`` of a whole canvas.

        What trains and samples here asks for chosen positions only, and never makes
        these.

        Args:
            input_ids: ``(B, L)``.
            sigma: ``(B,)`` share of tokens that is hidden; read only with
                ``time_conditioned=True``.
            position_ids: ``(B, L)`` columns; None: those of one row.
            block_position_ids: ``(B, L)`` rows.
        """
        batch = as_batch(input_ids, position_ids, block_position_ids)
        states = self.hidden(batch, sigma)
        logits: Tensor = self.logits(states.flatten(0, 1))
        return logits.view(*input_ids.shape, -1)


def as_batch(
    tokens: Tensor,
    position_ids: Tensor | None,
    block_position_ids: Tensor | None,
    context_mask: Tensor | None = None,
    *,
    sample_id: Tensor | None = None,
) -> Batch:
    """Return the original's tensors, each ``(B, L)``, as one batch.

    Separators, specials and padding are frozen whatever `context_mask` says.
    """
    if (position_ids is None) != (block_position_ids is None):
        raise ConfigError("give position_ids and block_position_ids, or neither")
    positions = None
    if position_ids is not None and block_position_ids is not None:
        positions = torch.stack([position_ids, block_position_ids], -1).long()
    pad = tokens == PAD
    written = torch.tensor([*WRITTEN, MASK], device=tokens.device)
    frozen = ~torch.isin(tokens, written)
    if context_mask is not None:
        frozen = frozen | context_mask.bool()
    return Batch.of(
        tokens, frozen=frozen, pad=pad, positions=positions, sample_id=sample_id
    )
