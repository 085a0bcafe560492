"""Log-probabilities of an answer's tokens in one step, all of them hidden at once.

d1 (Zhao et al., 2025, arXiv 2504.12216): log p(token | prompt with holes, an answer
of masks alone). Letters: B prompts, L their length, g answers to each, R = g B answers,
G their length, W = L + G.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad as extend

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.objective import chunked_nll
from mdlm_core.diffusion.times import time_at
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule

RATES = (0.2, 0.8)
"""Between these is the share of an answer that one of two complementary masks hides."""


@dataclass(frozen=True, slots=True)
class Written:
    """Prompts with g answers each: row r is about prompt r mod B."""

    batch: Batch
    """``(R, W)`` ``[prompt | answer | padding]``; only answers are free."""
    places: Tensor
    """``(R, G)`` int64: where the tokens of an answer stand."""

    @property
    def answers(self) -> Tensor:
        """``(R, G)`` int64."""
        return self.batch.tokens.gather(1, self.places)

    def spread(self, values: Tensor) -> Tensor:
        """Return ``(R, W)`` bool from ``(R, G)``: the same, where answers stand."""
        return torch.zeros_like(self.batch.pad).scatter(1, self.places, values)


def written(prompts: Batch, answers: Tensor) -> Written:
    """Put answers behind their prompts.

    Args:
        prompts: B rows; what stands frozen at the beginning of each is its prompt.
        answers: ``(B, g, G)`` ids.

    Returns:
        R rows, all first answers before all second ones. The sample id of an answer is
        g times that of its prompt and its number in the group.
    """
    group, size = answers.shape[1:]
    lengths = (prompts.frozen & ~prompts.pad).long().cumprod(1).sum(1)
    lengths = lengths.repeat(group)[:, None]  # (R, 1)
    places = lengths + torch.arange(size, device=answers.device)
    tokens = extend(prompts.tokens, (0, size)).repeat(group, 1)
    tokens = tokens.scatter(1, places, answers.transpose(0, 1).reshape(-1, size))
    place = torch.arange(tokens.shape[1], device=answers.device)
    number = torch.arange(group, device=answers.device).repeat_interleave(len(prompts))
    batch = Batch.of(
        tokens,
        frozen=place < lengths,
        pad=place >= lengths + size,
        sample_id=prompts.sample_id.repeat(group) * group + number,
        epoch=prompts.epoch,
    )
    return Written(batch, places)


class View(NamedTuple):
    """One way to hide an answer."""

    tokens: Tensor
    """``(R, W)``: the canvas."""
    scored: Tensor
    """``(R, G)`` bool: whose log-probabilities are read off it."""
    share: Tensor
    """``(R,)`` the share of the answer that is hidden."""


def views(
    rows: Written, *, noise: Noise, mask_id: int, prompt_mask: float, coupled: bool
) -> list[View]:
    """Return the canvases that log-probabilities are read off.

    The first hides the whole answer. Two more, if they are `coupled`, hide
    complementary parts of it, so that each token is hidden in just one of them
    (coupled-GRPO: Gong et al., 2025, arXiv 2506.20639). All have the same holes in
    their prompts.

    Args:
        rows: R answers behind their prompts.
        noise: decides what is hidden, by `sample_id`: that of an inner step.
        mask_id: the token that hides.
        prompt_mask: the chance that a token of a prompt is hidden.
        coupled: whether there are complementary masks.
    """
    batch, places = rows.batch, rows.places
    u = noise.child("prompt").uniform(batch.sample_id, batch.length)
    prompt = batch.frozen & ~batch.pad
    holes = batch.tokens.masked_fill((u < prompt_mask) & prompt, mask_id)
    every = torch.ones_like(places, dtype=torch.bool)
    parts, shares = [every], [torch.ones(len(places), device=places.device)]
    if coupled:
        low, high = RATES
        rate = low + (high - low) * noise.child("rate").uniform(batch.sample_id, 1)
        keys = noise.child("pair").uniform(batch.sample_id, places.shape[1])
        parts += [keys < rate, keys >= rate]
        shares += [rate[:, 0], 1 - rate[:, 0]]
    return [
        View(holes.masked_fill(rows.spread(part), mask_id), part, share.float())
        for part, share in zip(parts, shares, strict=True)
    ]


def log_probs(
    backbone: Backbone,
    rows: Written,
    counted: Tensor,
    *,
    noise: Noise,
    prompt_mask: float,
    coupled: bool,
    schedule: Schedule | None = None,
) -> Tensor:
    """Return ``(R, G)`` float32 log-probabilities of the answers' tokens.

    Coupled ones are the mean of that with the whole answer hidden, and that from the
    one of two complementary masks which hides the token.

    Args:
        backbone: the denoiser.
        rows: R answers behind their prompts.
        counted: ``(R, G)`` bool: which tokens there are; 0 is returned for others.
        noise: the same one gives the same canvases, so that models can be compared.
        prompt_mask: the chance that a token of a prompt is hidden.
        coupled: whether to look at complementary masks as well.
        schedule: for a backbone that sees the time.
    """
    looks = views(
        rows,
        noise=noise,
        mask_id=backbone.mask_id,
        prompt_mask=prompt_mask,
        coupled=coupled,
    )
    several = torch.arange(len(rows.places), device=counted.device).repeat(len(looks))
    canvas = rows.batch.select(several).with_tokens(
        torch.cat([look.tokens for look in looks])
    )
    times = time_at(torch.cat([look.share for look in looks]), schedule)
    states = backbone.hidden(canvas, times.float())
    total = torch.zeros(counted.shape, device=counted.device)
    for look, part in zip(looks, states.chunk(len(looks)), strict=True):
        wanted = look.scored & counted
        nll = chunked_nll(backbone, part[rows.spread(wanted)], rows.answers[wanted])
        total = total + torch.zeros_like(total).masked_scatter(wanted, -nll)
    return total / 2 if coupled else total
