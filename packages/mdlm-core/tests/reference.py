"""Masked diffusion as the published code does it: dense, plain and slow.

The fast paths are compared with this. It keeps the reference's habits, the float32
Gumbel draw among them, which loses rare tokens. Letters: B batch, L length, V
vocabulary. A network maps a canvas (B, L) to logits (B, L, V).
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch

Network = Callable[[Tensor], Tensor]
EPS = 1e-3
NEVER = -1e6


def network_of(backbone: nn.Module, batch: Batch) -> Network:
    """Return trunk and head as one network over canvases like `batch`."""

    def network(canvas: Tensor) -> Tensor:
        hidden = backbone.hidden(batch.with_tokens(canvas))
        return backbone.logits(hidden.flatten(0, 1)).unflatten(0, canvas.shape)

    return network


def dense_subs(logits: Tensor, canvas: Tensor, mask_id: int) -> Tensor:
    """Return log p(x_0 | x_t), (B, L, V): no mask, and visible tokens stay."""
    logits = logits.clone()
    logits[:, :, mask_id] += NEVER
    log_probs = logits - logits.logsumexp(-1, keepdim=True)
    visible = canvas != mask_id
    log_probs[visible] = NEVER
    log_probs[visible, canvas[visible]] = 0
    return log_probs


def loss(
    network: Network,
    tokens: Tensor,
    masked: Tensor,
    t: Tensor,
    valid: Tensor,
    mask_id: int,
) -> Tensor:
    """Return the bound per token: 1 / t times the cross-entropy, over all valid."""
    canvas = torch.where(masked, mask_id, tokens)
    log_probs = dense_subs(network(canvas), canvas, mask_id)
    nll = -log_probs.gather(-1, tokens[:, :, None])[:, :, 0] / t[:, None]
    return (nll * valid).sum() / valid.sum()


def gumbel_draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Return argmax of p / E with float32 exponentials: wrong for rare tokens."""
    uniform = torch.rand(probabilities.shape, generator=generator)
    return (probabilities / (1e-10 - (uniform + 1e-10).log())).argmax(-1)


def sample(
    network: Network,
    canvas: Tensor,
    steps: int,
    mask_id: int,
    generator: torch.Generator,
    *,
    cache: bool = False,
    draw: Callable[[Tensor, torch.Generator], Tensor] = gumbel_draw,
) -> tuple[Tensor, int]:
    """Fill `canvas` by `ddpm`, or by `ddpm_cache`; return it and the evaluations.

    The cache keeps p(x_0 | x_t) as long as no token of the whole batch changes, and
    its mask rate is t instead of (1 - eps) t.
    """
    times = torch.linspace(1, 1e-5, steps + 1)
    scale = 1.0 if cache else 1 - EPS
    kept, evaluations = None, 0
    for t, s in pairwise(times):
        if kept is None:
            kept = dense_subs(network(canvas), canvas, mask_id).exp()
            evaluations += 1
        transition = kept * (scale * (t - s))
        transition[:, :, mask_id] = scale * s
        drawn = draw(transition, generator)
        following = torch.where(canvas == mask_id, drawn, canvas)
        if not cache or not torch.equal(following, canvas):
            kept = None
        canvas = following
    best = dense_subs(network(canvas), canvas, mask_id).argmax(-1)
    return torch.where(canvas == mask_id, best, canvas), evaluations + 1


class Ema:
    """Averaged weights, one parameter after the other."""

    def __init__(self, parameters: list[Tensor], decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, parameters: list[Tensor]) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for shadow, parameter in zip(self.shadow, parameters, strict=True):
            shadow.sub_((1 - decay) * (shadow - parameter))
