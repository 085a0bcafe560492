"""Rows with room for answers. Letters: B rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch


def answer_canvas(
    prompts: Sequence[Sequence[int]],
    length: int,
    *,
    sample_id: Tensor,
    mask_id: int,
    pad_id: int,
) -> Batch:
    """Return rows ``[prompt | length masks | padding]``.

    Args:
        prompts: B lists of ids.
        length: masks behind each of them.
        sample_id: ``(B,)``, keys the draws.
        mask_id: the mask.
        pad_id: what stands in padding.
    """
    width = max(len(prompt) for prompt in prompts) + length
    tokens = torch.full((len(prompts), width), pad_id)
    place = torch.arange(width)
    begins = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt, dtype=torch.int64)
        row[len(prompt) : len(prompt) + length] = mask_id
    return Batch.of(
        tokens,
        frozen=place < begins,
        pad=place >= begins + length,
        sample_id=sample_id,
    )
