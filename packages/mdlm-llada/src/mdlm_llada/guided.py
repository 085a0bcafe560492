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
        without = batch.tokens.masked_fill(prompt, self.mask_id)
        rows = torch.arange(len(batch), device=without.device).repeat(2)
        both = replace(batch.select(rows), tokens=torch.cat([batch.tokens, without]))
        states = self.backbone.hidden(both, None if t is None else t.repeat(2))
        return torch.cat(states.chunk(2), dim=-1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, 2 D)``."""
        with_prompt, without = (
            self.backbone.logits(half.contiguous()).float()
            for half in hidden.chunk(2, dim=-1)
        )
        logits: Tensor = without + (self.scale + 1) * (with_prompt - without)
        return logits
