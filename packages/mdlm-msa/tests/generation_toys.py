"""A small family, and a denoiser that is alike everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import MASK, VOCAB_SIZE, decode, encode
from mdlm_msa.config import GenerationConfig
from mdlm_msa.generation.generate import Generated, generate

QUERY = "MKTAYIAKQRQISFVKSHFS"
ROWS = (
    QUERY,
    "MKSAYIAKQR--SFVRSHFS",
    "-KTAYLAKNRQISFVKTH--",
    "MRTAYIAR-RQLSYVKSHFT",
    "MKTGYIAKQRQISFIKSHWS",
    "LKTAYVAKQKQISF-KSNFS",
)


class Context(nn.Module):
    """A random law that depends on column, row and what is visible on the canvas."""

    vocab_size, mask_id, time_conditioned = VOCAB_SIZE, MASK, False

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.table = nn.Parameter(scale * torch.randn(64, VOCAB_SIZE, generator=draw))
        self.seen: list[Batch] = []

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        self.seen.append(batch)
        assert batch.positions is not None
        visible = (batch.tokens * (batch.tokens != MASK) * ~batch.pad).sum(1)
        column, row = batch.positions.unbind(-1)
        return self.table[(column + 3 * row + visible[:, None]) % 64]

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


class Flat(Context):
    """Every id alike."""

    def __init__(self) -> None:
        super().__init__(0.0)


def family(*rows: str, name: str = "toy") -> Alignment:
    texts = rows or ROWS
    return Alignment(
        rows=np.stack([encode(text) for text in texts]),
        headers=tuple(f"row{i} of {name}" for i in range(1, len(texts) + 1)),
        name=name,
    )


def write(
    source: Alignment | str | None = None,
    *,
    model: nn.Module | None = None,
    tokens: int = 256,
    sampler_: Any = None,
    callback: Any = None,
    **settings: Any,
) -> Generated:
    """Generate with few steps; `settings` are those of the configuration."""
    given = {"rows": 6, "steps": 8, "draws": 0, **settings}
    return generate(
        model or Context(),
        family() if source is None else source,
        GenerationConfig(**given),
        schedule=LogLinear(0.0),
        length=tokens,
        sampler=sampler_,
        callback=callback,
    )


def texts(found: Generated) -> list[str]:
    """Return the new rows."""
    return [decode(row) for row in found.alignment.rows[1:]]
