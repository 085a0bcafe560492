"""Rotary positions over columns and rows, as the original names them.

Letters: B batch, L length, H heads, K head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdlm_core.nn.rotary import angles, rotate


class ProteinRotary2D(nn.Module):
    """Half of a head's planes turn by the column, half by the row.

    It is the rotation of `ProteinDiT`, and that of MSAGPT (SwissArmyTransformer) but
    for a fixed order of the head's entries, `sat_order`.
    """

    def __init__(self, head_dim: int, base: float = 10000.0) -> None:
        """Take the size of a head, a multiple of 4, and what decides the slowest."""
        super().__init__()
        self.head_dim = head_dim
        self.base = base

    def forward(
        self, x: Tensor, position_ids: Tensor, block_position_ids: Tensor
    ) -> Tensor:
        """Return `x` ``(B, L, H, K)``, turned.

        Args:
            x: queries or keys.
            position_ids: ``(B, L)`` columns.
            block_position_ids: ``(B, L)`` rows.
        """
        places = torch.stack([position_ids, block_position_ids], -1)
        by = angles(places, self.head_dim, base=self.base)
        return rotate(x.unsqueeze(2), by).squeeze(2)


def sat_order(head_dim: int) -> Tensor:
    """Return ``(K,)``: entry i of a head here is entry ``sat_order[i]`` of MSAGPT's.

    MSAGPT turns the first half of a head by the position and the second by the block,
    each by half rotation; here the two members of a plane are K / 2 entries apart.
    """
    quarters = torch.arange(head_dim).view(4, -1)
    return quarters[[0, 2, 1, 3]].flatten()


def even_rotation(
    x: Tensor, position_ids: Tensor, block_position_ids: Tensor, base: float = 10000.0
) -> Tensor:
    """Return `x` ``(B, L, H, K)``, turned as in the code of the original.

    It turns neighbouring entries, and reads every second entry of a table that holds
    its frequencies twice: so the odd frequencies are never used, and the even ones
    twice. It is there for comparison alone: no model here turns so.
    """
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(0, half, 2, dtype=torch.float32) / half)
    used = torch.cat([frequencies, frequencies])[::2].to(x.device)  # (K/4,)
    parts = []
    for part, place in zip(
        x.float().chunk(2, -1), (position_ids, block_position_ids), strict=True
    ):
        turn = (place[..., None].float() * used)[:, :, None]  # (B, L, 1, K/4)
        first, second = part[..., ::2], part[..., 1::2]
        low = first * turn.cos() - second * turn.sin()
        high = second * turn.cos() + first * turn.sin()
        parts.append(torch.stack([low, high], -1).flatten(-2))
    return torch.cat(parts, -1).to(x.dtype)
