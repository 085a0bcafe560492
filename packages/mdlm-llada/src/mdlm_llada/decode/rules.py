"""Which of the proposed tokens are committed at a step.

Letters: B rows, S positions of a block, V vocabulary, n positions of a piece.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_core.samplers.confidence import Score, scores
from mdlm_llada.config import DecodeConfig

_SCORE: dict[str, Score] = {
    "low_confidence": "probability",
    "margin": "margin",
    "entropy": "entropy",
}
LATE = 2.0
"""Taken from a score to put a position behind all others; scores are in [0, 1]."""


def sureness(settings: DecodeConfig, law: Tensor, drawn: Tensor) -> Tensor:
    """Return ``(n,)`` scores in [0, 1] of the drawn tokens; 0 for remasking=random.

    They are those of the model's own law, before temperature, top-k and top-p.

    Args:
        settings: says which score.
        law: ``(n, V)`` log-probabilities.
        drawn: ``(n,)`` tokens.
    """
    if settings.remasking == "random":
        return torch.zeros_like(law[:, 0])
    return scores(law, drawn, _SCORE[settings.remasking])


def by_count(masks: int, steps: int, step: int) -> int:
    """Return how many of `masks` positions step number `step` of `steps` commits.

    ``floor(m / s) + [i < m mod s]``: as even as can be, the first ones more (LLaDA,
    arXiv 2502.09992, appendix A.3).
    """
    return masks // steps + (step < masks % steps)


def commit(
    settings: DecodeConfig,
    sure: Tensor,
    masked: Tensor,
    counts: Tensor,
    entropy: Tensor | None = None,
    *,
    at_least_counts: bool = False,
) -> Tensor:
    """Return ``(B, S)`` bool: the masked positions that get their token now.

    They are the first ones of the order of falling sureness, ties going left. How
    many is decided by the settings, at least one where there is a masked position:

    - by count: `counts`;
    - threshold: all whose sureness reaches it;
    - factor: n while (n + 1) (1 - sureness of the n-th) stays below it (Fast-dLLM,
      arXiv 2505.22618, section 3.3);
    - entropy_bound: n while sum H - max H of the first n is at most the bound
      (arXiv 2505.24857).

    Args:
        settings: which rule.
        sure: ``(B, S)`` scores; positions that come last of all are below zero.
        masked: ``(B, S)`` bool, the positions asked about.
        counts: ``(B,)`` int64, read by the rule by count, and by the others if they
            are the least.
        entropy: ``(B, S)`` in nats, read by the entropy bound alone.
        at_least_counts: whether `counts` are committed however unsure they are, as
            LLaDA 2 does beside its threshold.
    """
    key = sure.masked_fill(~masked, -torch.inf)
    ordered, order = key.sort(dim=1, descending=True, stable=True)
    place = torch.arange(1, key.shape[1] + 1, device=key.device)  # n
    by_counts = place <= counts.unsqueeze(1)
    if settings.threshold > 0:
        chosen = ordered >= settings.threshold
    elif settings.factor > 0:
        chosen = _while((place + 1) * (1 - ordered) < settings.factor)
    elif settings.entropy_bound > 0:
        if entropy is None:
            raise ValueError("the entropy bound needs entropies")
        h = entropy.gather(1, order)
        joint = h.cumsum(1) - h.cummax(1).values
        chosen = _while(joint <= settings.entropy_bound)
    else:
        chosen = by_counts
    least = by_counts if at_least_counts else place == 1
    chosen = (chosen | least) & (ordered > -torch.inf)
    return torch.zeros_like(chosen).scatter(1, order, chosen)


def _while(holds: Tensor) -> Tensor:
    """Return ``(B, S)`` bool: the leading positions up to the first that fails."""
    return holds.int().cumprod(1).bool()
