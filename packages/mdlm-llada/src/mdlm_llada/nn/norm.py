"""Root mean square norm. Letters: D width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Compute ``w * x / sqrt(mean(x^2) + eps)`` over the last axis.

    The quotient is formed in float32 and cast to the type of `x` before the product
    with w, as LLaDA and Llama do (Zhang and Sennrich, 2019, arXiv 1910.07467).
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm of `x` ``(..., D)``, in the type of `x`."""
        shape = self.weight.shape
        if x.dtype == torch.float32:
            return F.rms_norm(x, shape, self.weight, self.eps)
        normed = F.rms_norm(x.float(), shape, None, self.eps).to(x.dtype)
        return (self.weight * normed).to(x.dtype)  # weights may be float32 beside x
