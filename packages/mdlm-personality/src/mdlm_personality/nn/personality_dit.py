"""A diffusion transformer that is told a persona, or none.

The persona comes in twice: a vector joins the condition of the adaptive norms, and
every block attends to a few vectors of it. What is new is zero at the start, so that
the model then computes what a `dit` of the same weights does, to the last bit.

Letters: B batch, L length, D width, H heads, M pseudo-tokens, K columns, n nodes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.nn.dit import Block, DiT, Surroundings, zero_
from mdlm_personality.conditions import KNOWN, PERSONA, VALUES
from mdlm_personality.persona import Persona

from .conditioning import Conditioner

if TYPE_CHECKING:
    from mdlm_core.config.components import DiTConfig
    from mdlm_personality.config import PersonalityDiTConfig


class PersonalityBlock(Block):
    """A block that attends to the persona first: ``x + out(attention(norm(x)))``.

    `out` is zero at the start.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        width = config.width
        self.persona_q = nn.Linear(width, width, bias=False)
        self.persona_kv = nn.Linear(width, 2 * width, bias=False)
        self.persona_out = zero_(nn.Linear(width, width))

    def forward(self, x: Tensor, c: Tensor, around: Surroundings) -> Tensor:
        """Return the next states ``(B, L, D)``; `around.memory` is the persona."""
        assert around.memory is not None
        return super().forward(x + self._ask(x, around.memory), c, around)

    def _ask(self, x: Tensor, persona: Tensor) -> Tensor:
        rows, _, width = x.shape
        q = self.persona_q(F.layer_norm(x, (width,)))
        q = q.view(rows, -1, self.heads, width // self.heads).transpose(1, 2)
        kv = self.persona_kv(persona.to(q)).view(
            len(persona), -1, 2, self.heads, width // self.heads
        )
        k, v = kv.expand(rows, -1, -1, -1, -1).permute(2, 0, 3, 1, 4)  # (B, H, M, .)
        y = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.persona_out(y.transpose(1, 2).reshape(x.shape))
        return self._drop(out)


class PersonalityDiT(DiT):
    """A `DiT` with a `Persona`: the encoder and the causal layer.

    Read are ``condition["traits"]`` and ``condition["known"]``, or instead of the first
    ``condition["persona"]``, see `conditions`. A batch without them has no persona.
    """

    block_type = PersonalityBlock

    def __init__(
        self,
        config: PersonalityDiTConfig,
        *,
        vocab_size: int,
        mask_id: int,
        length: int,
    ) -> None:
        """Draw new weights from torch's global generator; see `DiT`."""
        super().__init__(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
        self.persona = Persona(config)
        self.conditioner = Conditioner(
            self.persona.nodes,
            width=config.width,
            cond_width=config.cond_width,
            tokens=config.pseudo_tokens,
        )

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return the states ``(B, L, D)`` of the canvas; see `DiT.hidden`."""
        return super().hidden(self.with_persona(batch), t)

    def with_persona(self, batch: Batch) -> Batch:
        """Return the batch with the nodes of its personas ``(B, n)``, if it has any.

        "known" is by node then.

        Raises:
            UsageError: if it has values, and does not say which are known.
        """
        told = batch.condition
        if KNOWN not in told:
            if PERSONA in told or VALUES in told:
                raise UsageError(
                    "a batch has personas, and its condition does not say what of them "
                    'is "known"; give that too'
                )
            return batch
        with torch.autocast(batch.tokens.device.type, enabled=False):
            z = (
                told[PERSONA].float()
                if PERSONA in told
                else self.persona.complete(told[VALUES], told[KNOWN])
            )
        known = self.persona.by_node(told[KNOWN])
        return replace(batch, condition={**told, PERSONA: z, KNOWN: known})

    def conditioning(self, batch: Batch, t: Tensor | None) -> Tensor:
        """Return the condition of the norms ``(B, cond_width)``, or one for all."""
        condition = super().conditioning(batch, t)
        if PERSONA not in batch.condition:
            return condition + self.conditioner.null_vector
        z, known = batch.condition[PERSONA], batch.condition[KNOWN]
        return condition + self.conditioner.vector(z, known)

    def memory(self, batch: Batch) -> Tensor:
        """Return what the blocks attend to, ``(B, M, D)``, or ``(1, M, D)`` for all."""
        if PERSONA not in batch.condition:
            return self.conditioner.null_tokens.unsqueeze(0)
        z, known = batch.condition[PERSONA], batch.condition[KNOWN]
        return self.conditioner.tokens(z, known)


def build(
    config: PersonalityDiTConfig, *, vocab_size: int, mask_id: int, length: int
) -> PersonalityDiT:
    """Return a new model, for the catalog."""
    return PersonalityDiT(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
