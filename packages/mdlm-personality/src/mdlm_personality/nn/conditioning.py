"""From nodes of the causal layer to what the transformer is told.

Letters: B batch, n nodes, D width, C width of the condition, M pseudo-tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdlm_core.nn.dit import zero_


class Conditioner(nn.Module):
    """A persona as one vector for the norms and M vectors to attend to.

    Both are linear in the nodes and in which of them are observed. The null, of rows of
    which nothing is known, has a vector and M vectors of its own, which are learned. At
    first the vector is zero, for a persona as for the null.
    """

    def __init__(self, nodes: int, *, width: int, cond_width: int, tokens: int) -> None:
        super().__init__()
        self.to_vector = zero_(nn.Linear(2 * nodes, cond_width))
        self.to_tokens = nn.Linear(2 * nodes, tokens * width)
        with torch.no_grad():  # nodes that no data tell learn no flag, and have none
            self.to_tokens.weight[:, nodes:] = 0.0
        self.null_vector = nn.Parameter(torch.zeros(cond_width))
        self.null_tokens = nn.Parameter(0.02 * torch.randn(tokens, width))

    def vector(self, z: Tensor, known: Tensor) -> Tensor:
        """Return ``(B, C)``, to add to the condition of the norms.

        Args:
            z: ``(B, n)`` the nodes.
            known: ``(B, n)`` bool, which of them are observed or set.
        """
        told = self.to_vector(_joined(z, known))
        return torch.where(known.any(1, keepdim=True), told, self.null_vector)

    def tokens(self, z: Tensor, known: Tensor) -> Tensor:
        """Return ``(B, M, D)``, to attend to; see `vector`."""
        told = self.to_tokens(_joined(z, known)).view(len(z), *self.null_tokens.shape)
        return torch.where(known.any(1)[:, None, None], told, self.null_tokens)


def _joined(z: Tensor, known: Tensor) -> Tensor:
    return torch.cat([z, known.to(z)], dim=-1)
