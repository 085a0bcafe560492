"""Things small enough for a test: a vocabulary, a batch, a source, a canvas.

Letters: B batch, L length, V vocabulary.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mdlm_core.config.components import TextConfig
from mdlm_core.data.batch import Batch
from mdlm_core.data.source import PackedSource
from mdlm_core.data.tokenizers import CharTokenizer
from mdlm_core.kernels.noise import Noise

LENGTH = 16
"""L of everything here."""
VOCAB_SIZE = 13
"""V, where no tokenizer decides it."""
MASK_ID = 5
"""In the middle, so that whoever takes the last id for the mask is found out."""

_ALPHABET = "abcdefghij"


def tiny_vocab() -> CharTokenizer:
    """Return a tokenizer of ten letters: V = 12, eod and padding 10, mask 11."""
    return CharTokenizer(_ALPHABET)


def tiny_batch(
    *,
    rows: int = 4,
    length: int = LENGTH,
    vocab_size: int = VOCAB_SIZE,
    mask_id: int = MASK_ID,
    seed: int = 0,
    axes: int = 1,
) -> Batch:
    """Return clean rows: the second starts with a frozen prompt, the last is padded.

    Args:
        rows: B.
        length: L.
        vocab_size: V; every id but `mask_id` may occur.
        mask_id: the id that does not occur.
        seed: decides the tokens.
        axes: P, of positions; with more than one they are those of lines of four.
    """
    sample_id = 7 * torch.arange(rows) + 3
    u = Noise(seed).child("tiny").uniform(sample_id, length)
    tokens = (u * (vocab_size - 1)).long()
    tokens += (tokens >= mask_id).long()  # (B, L), jumps over the mask
    frozen = torch.zeros(rows, length, dtype=torch.bool)
    pad = torch.zeros(rows, length, dtype=torch.bool)
    if rows > 1:
        frozen[1, : length // 4] = True
        pad[-1, length - length // 5 :] = True
    positions = None
    if axes > 1:
        index = torch.arange(length)
        along = [index % 4 + 1, index // 4, *[index * 0] * (axes - 2)]
        positions = torch.stack(along, -1).expand(rows, -1, -1).clone()
    return Batch.of(
        tokens, frozen=frozen, pad=pad, sample_id=sample_id, positions=positions
    )


def tiny_canvas(batch: Batch, mask_id: int) -> Batch:
    """Return a copy to fill in: all free tokens of the first row are masked.

    In the third row every second free token stays, in the other rows the first free
    token does; what is frozen stays everywhere.
    """
    hide = batch.free.clone()
    hide[2:3, ::2] = False
    for row in [1, *range(3, len(batch))]:
        if row < len(batch):
            hide[row, int(batch.free[row].int().argmax())] = False
    return batch.with_tokens(batch.tokens.masked_fill(hide, mask_id))


def tiny_times(rows: int) -> Tensor:
    """Return ``(B,)`` times between 0 and 1."""
    return torch.linspace(0.15, 0.9, rows)


@cache
def _documents() -> tuple[str, ...]:
    u = Noise(0).child("documents").uniform(torch.arange(60), 50)
    # The square makes letters unequal, for policies that look at frequencies.
    ids = (u.square() * len(_ALPHABET)).long().tolist()
    return tuple("".join(_ALPHABET[i] for i in row) for row in ids)


def tiny_source(*, length: int = LENGTH) -> PackedSource:
    """Return a source of 60 random documents over the letters of `tiny_vocab`."""
    config = TextConfig(length=length, tokenizer="char", holdout=0.2)
    return PackedSource.from_documents(_documents(), config, card={"name": "tiny"})
