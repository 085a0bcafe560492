"""The importance network: how important the token at a position is.

Letters: B batch, L length, V vocabulary, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdlm_core.config.components import DiTConfig
from mdlm_core.data.batch import Batch
from mdlm_core.nn.dit import Block, DiT

from .config import ImportanceConfig

FIXED_TIME = 0.5
"""The time told to the network where masks must come from one process in t: scores
that change with t have a velocity of their own, which no closed form knows."""
COND_WIDTH = 64
"""Width of what the network knows about the time."""
_STEP = 0.02


class ImportanceEstimator(DiT):
    """A small transformer of the row and the time, with one number per position.

    The trunk is that of the denoiser, conditioned on time; a small MLP and a sigmoid
    take the place of the vocabulary head. Blocks do not start as the identity: every
    gate starts near 1, so that every parameter has a gradient from the first step.
    """

    def __init__(
        self, config: ImportanceConfig, *, vocab_size: int, mask_id: int, length: int
    ) -> None:
        """Draw new weights from torch's global generator.

        Args:
            config: the sizes.
            vocab_size: V, mask included.
            mask_id: the mask's id; it may be in the row.
            length: the usual L; any other works too.
        """
        sizes = DiTConfig(
            blocks=config.blocks,
            width=config.width,
            heads=config.heads,
            cond_width=COND_WIDTH,
            conv_kernel=config.conv_kernel,
            dropout=0.0,  # masks must not depend on global random state
            time_conditioned=True,
        )
        super().__init__(sizes, vocab_size=vocab_size, mask_id=mask_id, length=length)
        self.head = nn.Sequential(  # type: ignore[assignment]  # not a vocabulary's
            nn.Linear(config.width, config.width),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.width, 1),
        )
        nn.init.normal_(self.modulation.weight, std=_STEP)
        for block in self.blocks:
            assert isinstance(block, Block)
            _open(block)

    def forward(self, batch: Batch, t: Tensor) -> Tensor:
        """Return the importance of each position, ``(B, L)`` float32 in [0, 1].

        Rows do not depend on each other, nor on what stands at padded positions.

        Args:
            batch: the row, clean or with masks in place.
            t: ``(B,)``.
        """
        states = self.hidden(batch, t.float())
        importance: Tensor = self.logits(states)[..., 0].float().sigmoid()
        return importance


def _open(block: Block) -> None:
    """Start with both gates at 1, moved a little by the condition."""
    layer = block.modulation
    nn.init.normal_(layer.weight, std=_STEP)
    with torch.no_grad():
        _, _, gate1, _, _, gate2 = layer.bias.chunk(6)
        gate1.fill_(1.0)
        gate2.fill_(1.0)
