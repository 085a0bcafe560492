"""How parents make a node: a weighted sum, or a small network that sees them alone.

Letters: B batch, n nodes, m nodes asked for, k hidden units.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mechanism = Literal["linear", "mask"]


class LinearMechanism(nn.Module):
    """``f_j(z) = sum_i A[i, j] z_i``. It has no weights besides A."""

    def forward(self, z: Tensor, adjacency: Tensor, nodes: Tensor) -> Tensor:
        """Return f_j ``(B, m)`` for j in `nodes` ``(m,)``, given z ``(B, n)``."""
        return z @ adjacency[:, nodes]


class MaskMechanism(nn.Module):
    """The mask layer of CausalVAE, Yang et al., 2021 (arXiv 2004.08697, eq. 7).

    ``f_j(z) = g_j(A_j o z; eta_j)`` with A_j the j-th column of A, so that nothing but
    the parents passes. g_j has one hidden layer,

        g_j(x) = w_j . (ELU(V_j x + b_j) - ELU(b_j)) + c_j,

    with w_j and the column of V_j that belongs to each parent of norm 1. ELU's slope is
    at most 1, so that abs(A[i, j]) bounds the change of f_j for one unit of z_i: the
    strength of an edge is in A alone, and a threshold on A means something. A node
    without parents has no constant: f_j = 0.
    """

    def __init__(self, nodes: int, *, hidden: int = 32) -> None:
        """Draw weights from torch's global generator; the networks start out smooth.

        Args:
            nodes: n.
            hidden: k.
        """
        super().__init__()
        out = torch.randn(nodes, hidden)
        self.out = nn.Parameter(F.normalize(out, dim=1))
        near = self.out.detach().unsqueeze(1) + torch.randn(nodes, nodes, hidden) / 8
        self.into = nn.Parameter(F.normalize(near, dim=2))  # (child, parent, k)
        self.bias = nn.Parameter(torch.randn(nodes, hidden))
        self.constant = nn.Parameter(torch.zeros(nodes))

    def forward(self, z: Tensor, adjacency: Tensor, nodes: Tensor) -> Tensor:
        """Return f_j ``(B, m)`` for j in `nodes` ``(m,)``, given z ``(B, n)``."""
        column = adjacency[:, nodes].T  # (m, n)
        into = F.normalize(self.into[nodes], dim=2) * column.unsqueeze(2)
        bias = self.bias[nodes]
        seen = torch.einsum("bi,mik->bmk", z, into)
        change = F.elu(seen + bias) - F.elu(bias)
        out = F.normalize(self.out[nodes], dim=1)
        made = (change * out).sum(2) + self.constant[nodes]
        return made * (column != 0).any(1)


def build_mechanism(name: Mechanism, nodes: int) -> LinearMechanism | MaskMechanism:
    """Return the mechanism of that name for n nodes."""
    return LinearMechanism() if name == "linear" else MaskMechanism(nodes)
