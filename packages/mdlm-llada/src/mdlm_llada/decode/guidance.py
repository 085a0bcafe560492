"""Classifier-free guidance by leaving the prompt out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.parameterization import subs
from mdlm_core.errors import UsageError
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_llada.guided import guided_logits, without_prompt

_PIECE = {"cpu": 2**22, "other": 2**26}  # logits at once


class PromptGuidance(Denoiser):
    """A denoiser with logits ``u + (w + 1) (c - u)`` (LLaDA, arXiv 2502.09992).

    c are the logits on the canvas, and u those on the canvas in which every token of
    the prompt is the mask: the frozen positions that are not padding. With w = 0 they
    are c, so that nothing has to be guided.

    Args:
        plain: what is guided; it is not changed, and the counters are shared.
        scale: w.

    Raises:
        UsageError: if `plain` is guided already.
    """

    passes = 2

    def __init__(self, plain: Denoiser, scale: float) -> None:
        if type(plain) is not Denoiser:
            raise UsageError(
                f"sampler.cfg_scale is {scale}, but the denoiser is a "
                f"{type(plain).__name__}, which guides by itself; set cfg_scale=0"
            )
        self.__dict__.update(plain.__dict__)
        self.scale = scale

    def states(self, canvas: Batch, where: Tensor, t: Tensor | None = None) -> Tensor:
        """Return ``(N, 2 D)``: the states with the prompt, then those without."""
        prompt = canvas.frozen & ~canvas.pad
        both = without_prompt(canvas, prompt, self.mask_id)
        times = None if t is None else t.repeat(2)
        states = super().states(both, where.repeat(2, 1), times)
        return torch.cat(states.chunk(2), dim=-1)

    def laws_of(self, states: Tensor) -> Iterator[Tensor]:
        """Yield the guided laws ``(n, V)``."""
        self.count.head_rows += 2 * len(states)
        size = _PIECE.get(states.device.type, _PIECE["other"])
        banned = torch.tensor(self.banned, dtype=torch.int64, device=states.device)
        for piece in torch.split(states, max(1, size // self.backbone.vocab_size)):
            logits = guided_logits(self.backbone, piece, self.scale)
            yield subs(logits.index_fill(-1, banned, -torch.inf), self.mask_id)
