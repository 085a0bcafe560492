"""Layer norm whose scale and shift come from a condition.

Letters: B batch, L length, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5


class AdaptiveNorm(nn.Module):
    """Compute ``(1 + scale) * w * (x - mean) / std + shift`` over the width.

    The norm has a weight and no bias; `scale` and `shift` belong to a row of the
    batch (Peebles and Xie, 2022, arXiv 2212.09748, section 3.2).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Return the modulated norm of `x` ``(B, L, D)``.

        `shift` and `scale` are ``(B, D)``, or ``(1, D)`` if all rows share them: then
        they are the weight and bias of an ordinary layer norm, which is one pass.
        """
        width = self.weight.shape
        if len(shift) == 1:
            weight = self.weight * (1 + scale[0])
            return F.layer_norm(x, width, weight, shift[0], EPS)
        normed = F.layer_norm(x, width, self.weight, None, EPS)
        return torch.addcmul(shift[:, None], normed, 1 + scale[:, None])
