"""A regressor small enough to enumerate its laws."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from mdlm_core.config.components import DiTConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn.dit import DiT
from mdlm_personality.regressor.model import TraitRegressor

VOCABULARY, MASK, LENGTH = 6, 2, 5


def schedule() -> LogLinear:
    return LogLinear(eps=0.0)


def trunk(seed: int = 0, *, timed: bool = False, scale: float = 0.3) -> DiT:
    """Return a small DiT none of whose weights is zero."""
    config = DiTConfig(
        blocks=1, width=16, heads=2, cond_width=8, dropout=0.0, time_conditioned=timed
    )
    with global_seed(Noise(seed)):
        model = DiT(config, vocab_size=VOCABULARY, mask_id=MASK, length=LENGTH)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=scale)
    return model.eval()


def regressor(seed: int = 1, *, timed: bool = False) -> TraitRegressor:
    """Return a regressor whose law depends on the text."""
    made = TraitRegressor(trunk(seed, timed=timed), schedule=schedule())
    with global_seed(Noise(seed + 100)):
        torch.nn.init.normal_(made.head.weight, std=0.1)
    return made.eval()


def canvas(rows: int = 3, seed: int = 0) -> Batch:
    """Return rows with masks, a frozen token in the first and padding in the last."""
    u = Noise(seed).child("toy").uniform(torch.arange(rows), LENGTH)
    tokens = (u * (VOCABULARY - 1)).long()
    tokens += (tokens >= MASK).long()
    hidden = Noise(seed).child("hide").uniform(torch.arange(rows), LENGTH) < 0.6
    hidden[:, 1] = True
    frozen = torch.zeros(rows, LENGTH, dtype=torch.bool)
    frozen[0, 0] = True
    pad = torch.zeros_like(frozen)
    pad[-1, -1] = True
    hidden &= ~frozen & ~pad
    return Batch.of(tokens.masked_fill(hidden, MASK), frozen=frozen, pad=pad)


def traits(*values: float | None) -> dict[str, Tensor]:
    """Return the condition of one persona."""
    from mdlm_personality.conditions import as_condition

    return as_condition(cast("list[float | None]", list(values)))
