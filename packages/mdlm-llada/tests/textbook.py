"""LLaDA's decoding as it is published, written plainly: what `decode` is held to.

One canvas, the whole vocabulary at every position, every step evaluated. Sources:
arXiv 2502.09992, section 2.4 and appendix A.3, and the published generation script.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]
"""From tokens ``(1, L)`` to logits ``(1, L, V)``."""


def textbook(
    model: Model,
    prompt: Tensor,
    *,
    mask_id: int,
    answer: int,
    block: int,
    steps: int,
    cfg_scale: float = 0.0,
    temperature: float = 0.0,
) -> Tensor:
    """Return prompt and answer ``(1, L)``; how many tokens a step is by count.

    At a temperature tokens are drawn by float64 Gumbel noise over the vocabulary, as
    ``argmax exp(logit) / (-ln u)^T``, from torch's global generator.
    """
    device = prompt.device
    x = torch.full((1, prompt.shape[1] + answer), mask_id, device=device)
    x[:, : prompt.shape[1]] = prompt
    is_prompt = x != mask_id
    blocks = answer // block
    share = steps // blocks
    for number in range(blocks):
        first = prompt.shape[1] + number * block
        masks = int((x[:, first : first + block] == mask_id).sum())
        base, rest = divmod(masks, share)
        for step in range(share):
            masked = x == mask_id
            if cfg_scale > 0:
                without = torch.where(is_prompt, mask_id, x)
                c, u = model(torch.cat([x, without])).chunk(2)
                logits = u + (cfg_scale + 1) * (c - u)
            else:
                logits = model(x)
            logits[..., mask_id] = -torch.inf
            best = noisy(logits, temperature).argmax(-1)
            law = logits.double().softmax(-1)
            sure = law.gather(-1, best.unsqueeze(-1)).squeeze(-1)
            sure[:, first + block :] = -torch.inf
            sure = torch.where(masked, sure, -torch.inf)
            chosen = sure[0].topk(base + (step < rest)).indices
            x[0, chosen] = best[0, chosen]
    return x


def noisy(logits: Tensor, temperature: float) -> Tensor:
    """Return what the largest entry of is a draw; the logits at temperature 0."""
    if temperature == 0:
        return logits
    logits = logits.double()
    u = torch.rand_like(logits)
    return logits.exp() / (-u.log()) ** temperature
