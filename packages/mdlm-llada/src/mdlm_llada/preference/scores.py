"""Bounds on log p(answer | prompt), as scores with gradients.

Letters: B pairs, L length, D draws, n the tokens of an answer, N hidden positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad as extend

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted, corrupt_exactly
from mdlm_core.diffusion.corrupt import count_at
from mdlm_core.diffusion.likelihood import hide_some
from mdlm_core.diffusion.objective import chunked_nll
from mdlm_core.diffusion.times import time_at
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_llada.data.preferences import REJECTED, REJECTED_LENGTH
from mdlm_llada.sft.module import joined
from mdlm_llada.sft.noise import MirroredNoise

Estimator = Literal["counts", "times"]


@dataclass(frozen=True, slots=True)
class Draws:
    """How a bound is estimated."""

    count: int
    """D, masks of each answer, each with a count or a time of its own."""
    estimator: Estimator = "counts"
    """``counts`` hides k of n tokens, k uniform in 1 to n; ``times`` each token with a
    chance t, t uniform in (0, 1)."""
    mirror: bool = False
    """Whether draw D - 1 - d is the mirror image of draw d."""


def both(batch: Batch) -> Batch:
    """Return B chosen and then B rejected answers as 2 B rows, each with its prompt.

    The sample ids are twice those of the pairs, and one more for rejected answers.

    Raises:
        DataError: if the batch has no rejected answers.
    """
    if not {REJECTED, REJECTED_LENGTH} <= batch.condition.keys():
        raise DataError(
            "the data hold no rejected answers; use data.name=llada-preferences"
        )
    prompts = (batch.frozen & ~batch.pad).long().cumprod(1).sum(1)  # (B,)
    other = batch.condition[REJECTED]
    width = max(batch.length, other.shape[1])
    tokens = torch.cat(
        [extend(part, (0, width - part.shape[1])) for part in (batch.tokens, other)]
    )
    place = torch.arange(width, device=tokens.device)
    ends = torch.cat([(~batch.pad).sum(1), batch.condition[REJECTED_LENGTH]])[:, None]
    return Batch.of(
        tokens,
        frozen=place < prompts.repeat(2)[:, None],
        pad=place >= ends,
        sample_id=torch.cat([2 * batch.sample_id, 2 * batch.sample_id + 1]),
        epoch=batch.epoch,
    )


def views(
    rows: Batch,
    draws: Draws,
    *,
    noise: Noise,
    mask_id: int,
    schedule: Schedule | None = None,
) -> list[Corrupted]:
    """Return D noisings of the rows, whose weighted log p are D unbiased bounds.

    For a given number of forward passes many counts or times with one mask each have
    a smaller variance than a few with several (arXiv 2505.19223); here those of a row
    are stratified over its draws as well. With mirror images a draw hides k tokens and
    its image n + 1 - k from the other end of the same random order, or each token with
    the chances t and 1 - t: what one of them shows the other hides.

    Args:
        rows: clean rows.
        draws: how many, and which masks.
        noise: decides the masks, by `sample_id` and position.
        mask_id: the token that hides.
        schedule: that of training, for a backbone that sees the time.
    """
    found: dict[int, Corrupted] = {}
    total = draws.count
    for draw in range(total // 2 if draws.mirror else total):
        jitter = noise.child("time", draw).uniform(rows.sample_id, 1)[:, 0]
        place = (draw + jitter) / total
        key = noise.child("mask", draw)
        pairs = [(draw, place, key)]
        if draws.mirror:
            pairs.append((total - 1 - draw, 1 - place, MirroredNoise.of(key)))
        for index, u, generator in pairs:
            found[index] = _hidden(
                rows, u, draws.estimator, generator, mask_id, schedule
            )
    return [found[index] for index in range(total)]


def _hidden(
    rows: Batch,
    u: Tensor,
    estimator: Estimator,
    noise: Noise,
    mask_id: int,
    schedule: Schedule | None,
) -> Corrupted:
    n = rows.free.sum(1)
    if estimator == "counts":
        return corrupt_exactly(
            rows, count_at(u, n), noise=noise, mask_id=mask_id, schedule=schedule
        )
    keys = noise.uniform(rows.sample_id, rows.length)
    # A mask that hides nothing says nothing: it is not drawn, and weighed for.
    masked, chance = hide_some(keys, rows.free, u)
    return Corrupted(
        batch=rows.with_tokens(rows.tokens.masked_fill(masked, mask_id)),
        targets=rows.tokens,
        masked=masked,
        weight=(chance / u).float()[:, None].expand(rows.tokens.shape),
        t=time_at(u, schedule).float(),
    )


def log_bounds(
    backbone: Backbone, noised: list[Corrupted]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted sums of log p of the hidden tokens, with gradients.

    Args:
        backbone: the denoiser.
        noised: D noisings of R rows.

    Returns:
        The sums ``(D, R)`` float32; -log p ``(N,)`` of the hidden tokens, detached, in
        row-major order; and which those are, ``(D R, L)`` bool.
    """
    whole = joined(noised)
    masked = whole.masked
    states = backbone.hidden(whole.batch, whole.t)[masked]  # (N, D)
    nll = chunked_nll(backbone, states, whole.targets[masked])
    sums = nll.new_zeros(len(whole.batch)).index_add(
        0, masked.nonzero()[:, 0], nll * whole.weight[masked]
    )
    return -sums.view(len(noised), -1), nll.detach(), masked
