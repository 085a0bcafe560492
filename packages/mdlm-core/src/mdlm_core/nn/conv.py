"""A depthwise convolution along the row, which lets neighbours meet early.

Letters: B batch, L length, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalMix(nn.Module):
    """Return ``sum_k w_k * x[i + k] + b`` per channel; zero at the start.

    Padding enters as zero, and a position takes in its own document only.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(kernel, width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, *, pad: Tensor, documents: Tensor | None) -> Tensor:
        """Mix `x` ``(B, L, D)``; `pad` and `documents` are ``(B, L)``."""
        x = x.masked_fill(pad[:, :, None], 0.0)
        with torch.autocast(x.device.type, enabled=False):  # bound by memory, not maths
            if documents is None:
                return self._convolve(x)
            return self._shift_and_add(x, documents)

    def _convolve(self, x: Tensor) -> Tensor:
        kernel, width = self.weight.shape
        image = x.transpose(1, 2).unsqueeze(2)  # (B, D, 1, L), channels last in memory
        weight = self.weight.t().reshape(width, 1, 1, kernel)
        mixed = F.conv2d(
            image, weight, self.bias, padding=(0, kernel // 2), groups=width
        )
        return mixed.squeeze(2).transpose(1, 2)

    def _shift_and_add(self, x: Tensor, documents: Tensor) -> Tensor:
        length, reach = x.shape[1], len(self.weight) // 2
        out = x * self.weight[reach] + self.bias
        for shift in range(1, min(reach, length - 1) + 1):
            same = documents[:, shift:] == documents[:, :-shift]
            for here, there, k in (
                (slice(0, -shift), slice(shift, None), reach + shift),
                (slice(shift, None), slice(0, -shift), reach - shift),
            ):
                part = x[:, there] * same[:, :, None] * self.weight[k]
                ends = (0, shift) if here.start == 0 else (shift, 0)
                out = out + F.pad(part, (0, 0, *ends))
        return out
