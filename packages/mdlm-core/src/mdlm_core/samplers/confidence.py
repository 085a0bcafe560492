"""Confidence sampling: commit the positions the model is surest of."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mdlm_core.config.components import ConfidenceConfig
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Schedule

from .denoiser import Denoiser

Score = Literal["probability", "margin", "entropy"]


def confidence(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int,
    callback: SamplerCallback | None = None,
    batch_size: int = 16,
    score: Score = "probability",
    threshold: float = 0.0,
) -> Sampled:
    """Fill the canvas in T steps, the surest positions of each row first.

    At every step a token is drawn at each masked position, from the law after
    temperature, top-k and top-p, and the positions with the highest scores are
    committed: ``ceil(masked / steps left)`` of them, so that the canvas is full after
    at most T steps; or, with a threshold, all whose score reaches it and at least
    one, whatever T is. The order depends on the canvas, so the law of the result is
    not the model's joint law: for quality, not for unbiased samples.

    Args:
        denoiser: the model; a time-conditioned one sees the t its canvas implies.
        canvas: B rows; the mask stands where to write.
        schedule: used for that t alone.
        noise: keys every draw.
        steps: T; not used with a threshold.
        callback: called after every evaluation with its number and the canvas.
        batch_size: rows in one evaluation; changes nothing else.
        score: see `scores`.
        threshold: in [0, 1]; 0 means by count.
    """
    clocked = denoiser.on_implied_time(schedule)
    tokens = canvas.tokens.clone()
    nfe = torch.zeros_like(canvas.sample_id)
    changes = 0
    with denoiser.evaluating():
        for start in range(0, len(canvas), batch_size):
            group = slice(start, start + batch_size)
            step = 0
            while True:
                remaining = denoiser.masked(canvas.with_tokens(tokens)).sum(1)  # (B,)
                rows = start + remaining[group].nonzero().squeeze(1)  # (b,)
                if not len(rows):
                    break
                part = canvas.with_tokens(tokens).select(rows)
                drawn, sure = _propose(clocked, part, noise.child("what", step), score)
                if threshold > 0:
                    quota = (sure >= threshold).sum(1).clamp(min=1)
                else:
                    left = max(1, steps - step)
                    quota = (remaining[rows] + left - 1) // left  # ceil
                commit = _best(sure, quota)
                tokens[rows] = torch.where(commit, drawn, part.tokens)
                nfe[rows] += denoiser.passes
                step += 1
                changes += 1
                if callback is not None:
                    callback(changes, tokens.clone())
    return Sampled(tokens, nfe)


def scores(law: Tensor, drawn: Tensor, score: Score) -> Tensor:
    """Return ``(n,)`` scores in [0, 1] of the model's own laws, before truncation.

    - probability: that of the drawn token;
    - margin: the gap between the two most probable tokens;
    - entropy: exp(-H), one over the number of tokens it is as uncertain as.

    Args:
        law: ``(n, V)`` log-probabilities.
        drawn: ``(n,)`` tokens.
        score: which.
    """
    if score == "probability":
        return law.gather(-1, drawn.unsqueeze(-1)).squeeze(-1).exp()
    if score == "margin":
        best = law.topk(2, dim=-1).values.exp()
        return best[:, 0] - best[:, 1]
    return torch.exp(-torch.special.entr(law.exp()).sum(-1))


def _propose(
    denoiser: Denoiser, part: Batch, noise: Noise, score: Score
) -> tuple[Tensor, Tensor]:
    """Return a token and its score at every masked position; elsewhere score -1."""
    where = denoiser.masked(part)
    numbers = noise.uniform(part.sample_id, part.length)[where]
    tokens, sure, start = [], [], 0
    for law in denoiser.laws(part, where):
        drawn = denoiser.choose(law, numbers[start : start + len(law)])
        tokens.append(drawn)
        sure.append(scores(law, drawn, score))
        start += len(law)
    everywhere = torch.full(where.shape, -1.0, device=where.device)
    return (
        part.tokens.masked_scatter(where, torch.cat(tokens)),
        everywhere.masked_scatter(where, torch.cat(sure)),
    )


def _best(sure: Tensor, quota: Tensor) -> Tensor:
    """Return ``(b, L)`` bool: the `quota` ``(b,)`` highest scores; ties go left."""
    order = sure.argsort(dim=1, descending=True, stable=True)
    place = torch.arange(sure.shape[1], device=sure.device)
    chosen = (place < quota.unsqueeze(1)).expand_as(order)
    return torch.zeros_like(chosen).scatter(1, order, chosen)


def build(config: ConfidenceConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    return partial(
        confidence,
        steps=config.steps,
        batch_size=config.batch_size,
        score=config.score,
        threshold=config.threshold,
    )
