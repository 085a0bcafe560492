"""The gated MLP. Letters: D width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedMLP(nn.Module):
    """Compute ``W_down (silu(W_gate x) * W_up x)`` (Shazeer, 2020, 2002.05202)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., D)`` for `x` ``(..., D)``."""
        out: Tensor = self.down(gated(self.gate(x), self.up(x)))
        return out


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up``, which may take the place of `gate`."""
    if torch.is_grad_enabled():
        return F.silu(gate) * up
    return F.silu(gate, inplace=True).mul_(up)
