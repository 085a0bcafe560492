"""What enters the network: tokens, and the noise level as a condition.

Letters: B batch, L length, V vocabulary, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 128


class TokenEmbedding(nn.Embedding):
    """A table ``(V, D)``, uniform in [-1/sqrt(D), 1/sqrt(D)] at the start."""

    def reset_parameters(self) -> None:
        """Draw the table from torch's global generator."""
        bound = self.embedding_dim**-0.5
        nn.init.uniform_(self.weight, -bound, bound)


def fourier_features(sigma: Tensor) -> Tensor:
    """Return ``[cos(sigma f_k), sin(sigma f_k)]`` with ``f_k = 10000^(-k/128)``.

    `sigma` is ``(B,)``; the result is ``(B, 256)`` float32.
    """
    k = torch.arange(FREQUENCIES, dtype=torch.float32, device=sigma.device)
    angle = sigma.float()[:, None] * torch.exp(-math.log(10000.0) * k / FREQUENCIES)
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


class NoiseLevel(nn.Module):
    """Map sigma ``(B,)`` to a condition ``(B, width)`` by a small MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(2 * FREQUENCIES, width)
        self.down = nn.Linear(width, width)

    def forward(self, sigma: Tensor) -> Tensor:
        """Return ``SiLU(W2 SiLU(W1 features(sigma)))``."""
        features = fourier_features(sigma).to(self.up.weight.dtype)
        return F.silu(self.down(F.silu(self.up(features))))
