"""Measure losses under masks and under their mirror images, token by token.

Letters: B rows at once, L length, a measured rows, b times, c masks, P the free tokens
of a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import corrupt, masked_cross_entropy
from mdlm_core.diffusion.corrupt import rates_of
from mdlm_core.diffusion.times import Times
from mdlm_core.errors import ConfigError, DataError, TrainingError
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, MaskingPolicy, Schedule
from mdlm_llada.sft.module import answer_lengths, with_clean
from mdlm_llada.sft.noise import MirroredNoise

BISECTIONS = 60


class Grid(NamedTuple):
    """Times that stand for cells of [0, 1]."""

    times: Tensor
    """``(b,)`` float64: tau."""
    shares: Tensor
    """``(b,)`` float64: the widths of their cells, which add up to 1."""


@dataclass(frozen=True, slots=True)
class Draws:
    """Losses ``l = 1 / (P p) sum over hidden i of -log p(x_i | what is visible)``."""

    grid: Grid
    t: Tensor
    """``(b,)`` the times of training, ``t_min + (1 - t_min) tau``."""
    plain: Tensor
    """``(a, b, c)`` float64: under a mask."""
    mirrored: Tensor
    """``(a, b, c)`` float64: under its mirror image."""
    parts: Tensor
    """``(a, b, 3)`` float64: the terms of `token_parts`; nan for a policy that draws
    its rates."""

    def rows(self, chosen: Tensor) -> Draws:
        """Return some of the rows."""
        return replace(
            self,
            plain=self.plain[chosen],
            mirrored=self.mirrored[chosen],
            parts=self.parts[chosen],
        )


def grid_of(count: int, t_min: float) -> Grid:
    """Return `count` times that integrate what grows like 1 / t near 0.

    Half of them are spread evenly over t in [t_min, 1], half over log t: the variance
    over masks is about (1 - t) / (P t), of which evenly spread times miss a good part.
    """
    edges = torch.linspace(0, 1, 2 * count + 1, dtype=torch.float64)
    low, high = torch.full_like(edges, t_min), torch.ones_like(edges)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        share = (middle - t_min) / (1 - t_min) / 2
        share = share + (middle / t_min).log() / -math.log(t_min) / 2
        low = torch.where(share < edges, middle, low)
        high = torch.where(share < edges, high, middle)
    tau = ((low - t_min) / (1 - t_min)).clamp(0, 1)
    tau[0], tau[-1] = 0.0, 1.0
    return Grid(tau[1::2].contiguous(), tau[::2].diff())


@torch.no_grad()
def measure_draws(
    backbone: nn.Module,
    batch: Batch,
    *,
    schedule: Schedule,
    policy: MaskingPolicy | None = None,
    t_min: float = 1e-3,
    times: int = 32,
    masks: int = 8,
    max_tokens: int = 60_000,
    noise: Noise,
) -> Draws:
    """Measure each row at each time under `masks` masks and their mirror images.

    Args:
        backbone: the denoiser; dropout is off.
        batch: a rows, at least 6.
        schedule: the mask rate and the weight of a time.
        policy: which tokens are hidden first; None hides them all alike.
        t_min: the smallest time.
        times: b.
        masks: c, at least 2.
        max_tokens: tokens that go through the model at once, at most.
        noise: the generator; each row, time and mask has its own numbers.

    Raises:
        ConfigError: if there are too few rows, times or masks.
        DataError: if a row has nothing to learn.
        TrainingError: if a loss is not a finite number.
    """
    if len(batch) < 6 or min(times, masks) < 2:
        raise ConfigError(
            f"there are {len(batch)} rows, {times} times and {masks} masks; a variance "
            f"needs at least 6 rows and 2 of the others"
        )
    if not bool(batch.free.any(1).all()):
        bad = int((~batch.free.any(1)).nonzero()[0])
        raise DataError(f"row {bad} has no token to learn; leave it out")
    grid = grid_of(times, t_min)
    t = t_min + (1 - t_min) * grid.times
    a, b, c, device = len(batch), times, masks, batch.tokens.device
    size = max(1, max_tokens // batch.length)
    views = (noise, MirroredNoise.of(noise))
    losses = torch.zeros(2, a * b * c, dtype=torch.float64)
    sums = torch.zeros(2, 2, a * b, batch.length, dtype=torch.float64)
    rates = torch.zeros(a * b, batch.length, dtype=torch.float64)
    with evaluating(backbone), torch.autocast(device.type, enabled=False):
        for first in range(0, a * b * c, size):
            job = torch.arange(first, min(first + size, a * b * c), device=device)
            rows = replace(batch.select(job // (b * c)), sample_id=job)
            at = t.to(device)[job // c % b]
            place, cell = job.cpu(), (job // c).cpu()
            rates[cell] = _rates(rows, at, schedule, policy, noise).cpu()
            for view, hidden_by in enumerate(views):
                each = _token_losses(backbone, rows, at, schedule, policy, hidden_by)
                losses[view, place] = (each.sum(1) / answer_lengths(rows)).cpu()
                sums[view, 0].index_add_(0, cell, each.cpu())
                sums[view, 1].index_add_(0, cell, each.square().cpu())
    if not bool(losses.isfinite().all()):
        bad = int((~losses.isfinite()).nonzero()[0, 1])
        when = float(t[bad // c % b])
        raise TrainingError(
            f"the loss of row {bad // (b * c)} at time {when:.3f} is not a finite "
            f"number; check the model's weights"
        )
    losses = losses.view(2, a, b, c)
    count = answer_lengths(batch).cpu().double()
    parts = [
        token_parts(each, total.view(2, a, b, -1), rates.view(a, b, -1), count)
        for each, total in zip(losses, sums, strict=True)
    ]
    return Draws(grid, t, losses[0], losses[1], torch.stack(parts).mean(0))


def token_parts(plain: Tensor, sums: Tensor, rates: Tensor, tokens: Tensor) -> Tensor:
    """Return the terms of the variance over masks, given the time: ``(a, b, 3)``.

    With the loss ``(1 / P) sum z_i`` of tokens that are hidden with probability q_i,
    and then have z_i of mean mu_i and variance sigma_i^2 (each times its weight), the
    three terms are (arXiv 2511.18159, Theorem 1, where q_i = t and the weight 1 / t)::

        sum q_i sigma_i^2 / P^2                what else is hidden
        sum q_i (1 - q_i) mu_i^2 / P^2         whether the token itself is hidden
        sum over i != j of Cov(z_i, z_j) / P^2

    All are unbiased estimates, and their sum is just the unbiased variance of the loss.

    Args:
        plain: ``(a, b, c)`` losses.
        sums: ``(2, a, b, L)`` sums over masks of z_i and of z_i^2, 0 if not hidden.
        rates: ``(a, b, L)`` q_i.
        tokens: ``(a,)`` P.
    """
    c = plain.shape[2]
    mean, square = sums / c
    variance = (square - mean.square()) * c / (c - 1)
    squared = mean.square() - variance / c  # unbiased for E[z]^2 = q^2 mu^2
    own = torch.where(rates == 0, 0.0, squared * (1 - rates) / rates)
    context = variance - own
    total = plain.var(2) * tokens.square()[:, None]
    scale = tokens.square()[:, None, None]
    terms = [context.sum(2), own.sum(2), total - variance.sum(2)]
    parts: Tensor = torch.stack(terms, 2) / scale
    return parts


def _token_losses(
    backbone: nn.Module,
    rows: Batch,
    t: Tensor,
    schedule: Schedule,
    policy: MaskingPolicy | None,
    noise: Noise,
) -> Tensor:
    """Return ``(B, L)`` float64: weight times -log p where hidden, 0 elsewhere."""
    denoiser = cast("Backbone", backbone)
    corrupted = corrupt(
        with_clean(rows, backbone),
        Times(t, torch.ones_like(t)),
        schedule=schedule,
        policy=policy,
        noise=noise,
        mask_id=denoiser.mask_id,
    )
    loss = masked_cross_entropy(denoiser, corrupted)
    each = torch.zeros(rows.tokens.shape, dtype=torch.float64, device=t.device)
    each[corrupted.masked] = loss.nll.double()
    return each * corrupted.weight


def _rates(
    rows: Batch,
    t: Tensor,
    schedule: Schedule,
    policy: MaskingPolicy | None,
    noise: Noise,
) -> Tensor:
    """Return ``(B, L)`` the chance of each token to be hidden; nan if that is drawn."""
    if policy is None:
        rates = schedule.mask_rate(t)[:, None]
    elif getattr(policy, "draws", False):
        rates = torch.full_like(t, torch.nan)[:, None]
    else:
        rates = rates_of(policy, rows, t, schedule, noise).mask_prob
    return (rates * rows.free).double()
