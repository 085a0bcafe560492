"""The reverse process of a schedule that knows the clean row.

Masks that depend on the clean row come from a process whose reversal knows the row as
well. The model's reverse process sees the canvas alone: it needs a rate of its own,
and pays for where that differs. Letters: B batch, L length, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdlm_core.config.components import DiTConfig
from mdlm_core.data.batch import Batch
from mdlm_core.nn.dit import DiT

from .config import ImportanceConfig

_STEP = 0.02


class ReverseRate(nn.Module):
    """The rate at which the model's reverse process reveals a masked position.

    A small transformer of the canvas and the time. It starts close to the rate of the
    uniform process, and every parameter has a gradient from the first step.
    """

    def __init__(
        self, config: ImportanceConfig, *, vocab_size: int, mask_id: int, length: int
    ) -> None:
        """Draw new weights from torch's global generator.

        Args:
            config: the sizes; those of the importance network.
            vocab_size: V.
            mask_id: the mask's id.
            length: the usual L.
        """
        super().__init__()
        sizes = DiTConfig(
            blocks=config.blocks,
            width=config.width,
            heads=config.heads,
            conv_kernel=config.conv_kernel,
            dropout=0.0,  # a rate with noise is the rate of another process
            time_conditioned=True,
        )
        self.trunk = DiT(sizes, vocab_size=vocab_size, mask_id=mask_id, length=length)
        self.trunk.head = nn.Linear(config.width, 1)
        for layer in self.trunk.modules():
            if isinstance(layer, nn.Linear) and not layer.weight.any():
                nn.init.normal_(layer.weight, std=_STEP)
                nn.init.normal_(layer.bias, std=_STEP)
        nn.init.normal_(self.trunk.head.weight, std=_STEP / config.width**0.5)
        nn.init.zeros_(self.trunk.head.bias)

    def forward(self, batch: Batch, t: Tensor) -> Tensor:
        """Return ``log(r / weight(t))``, ``(B, L)`` float32, for the schedule's weight.

        Args:
            batch: the canvas, masks in place; nothing else may be known of the row.
            t: ``(B,)``.
        """
        with torch.autocast(batch.tokens.device.type, enabled=False):
            states = self.trunk.hidden(batch, t.float())
            ratio: Tensor = self.trunk.logits(states)[..., 0].float()
        return ratio


def rate_term(velocity: Tensor, rate: Tensor) -> Tensor:
    """Return ``A log(A / r) - A + r``, what a wrong rate costs for each unit of time.

    It is the relative entropy of a Poisson process of rate A to one of rate r: not
    negative, zero where they agree, and r where A is zero.

    Args:
        velocity: A, the rate of the true reversal, not negative, any shape.
        rate: r, the rate of the model, positive, of the same shape.
    """
    there = velocity > 0
    scale = torch.where(there, velocity, 1.0)
    ratio = torch.where(there, rate / scale, 1.0)
    return torch.where(there, velocity * (ratio - 1 - ratio.log()), rate)
