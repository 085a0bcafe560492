"""A backbone whose logits are guided by leaving the prompt out.

Letters: B batch, L length, D width, N selected positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.protocols import Backbone

PROMPT = "prompt"
"""The condition that says which positions are the prompt, ``(B, L)`` bool."""


def without_prompt(batch: Batch, prompt: Tensor, mask_id: int) -> Batch:
    """Return 2 B rows: the batch, then the same with the mask for the prompt.

    Args:
        batch: B rows.
        prompt: ``(B, L)`` bool, where the prompt is.
        mask_id: the mask.
    """
    rows = torch.arange(len(batch), device=prompt.device).repeat(2)
    bare = batch.tokens.masked_fill(prompt, mask_id)
    return replace(batch.select(rows), tokens=torch.cat([batch.tokens, bare]))


def guided_logits(backbone: Backbone, states: Tensor, scale: float) -> Tensor:
    """Return ``(N, V)`` float32 ``u + (w + 1) (c - u)`` (LLaDA, appendix A.2).

    Args:
        backbone: has the head.
        states: ``(N, 2 D)``, those with the prompt and those without.
        scale: w.
    """
    with_prompt, without = (
        backbone.logits(half.contiguous()).float() for half in states.chunk(2, dim=-1)
    )
    return without + (scale + 1) * (with_prompt - without)


class Guided(nn.Module):
    """Logits ``u + (w + 1) (c - u)``, c with the prompt and u without it.

    Without it means that each token of the prompt is the mask (LLaDA, arXiv
    2502.09992, appendix A.2). With w = 0 the logits are c.
    """

    def __init__(self, backbone: Backbone, scale: float) -> None:
        """Guide `backbone` with w = `scale`."""
        super().__init__()
        self.backbone: Any
        self.backbone = backbone
        self.scale = scale
        self.vocab_size = backbone.vocab_size
        self.mask_id = backbone.mask_id
        self.time_conditioned = backbone.time_conditioned

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return ``(B, L, 2 D)``: the states with the prompt and those without.

        The prompt is ``batch.condition["prompt"]``, or what is frozen and no padding.
        """
        prompt = batch.condition.get(PROMPT, batch.frozen & ~batch.pad)
        both = without_prompt(batch, prompt, self.mask_id)
        states = self.backbone.hidden(both, None if t is None else t.repeat(2))
        return torch.cat(states.chunk(2), dim=-1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, 2 D)``."""
        return guided_logits(self.backbone, hidden, self.scale)
