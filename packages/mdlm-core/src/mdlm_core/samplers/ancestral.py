"""Ancestral sampling: the reverse process on a grid of T steps, in event form."""

from __future__ import annotations

from functools import partial

import torch

from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Schedule

from .denoiser import Denoiser
from .events import levels, on_grid, reveal


def ancestral(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int,
    callback: SamplerCallback | None = None,
    batch_size: int = 16,
) -> Sampled:
    """Fill the canvas by the reverse process on the grid t_i = i / T, from 1 to 0.

    In the step from t_i to t_{i-1} a masked position is revealed with probability
    1 - m(t_{i-1}) / m(t_i), and its token is drawn from the model's law on the
    canvas at t_i. The process is conditioned on the masked positions being masked
    at t = 1, so partly known canvases need nothing special. The last step ends at
    mask rate 0: what is left is drawn, not taken greedily. The positions of one step
    are independent given the canvas; the law is that of the model as T grows.

    A row costs as many evaluations as there are distinct steps with an event, at
    most min(masked positions, T); see `events`.

    Args:
        denoiser: the model; a time-conditioned one sees t_i of each row.
        canvas: B rows; the mask stands where to write.
        schedule: gives m.
        noise: keys every draw.
        steps: T.
        callback: called after every evaluation with its number and the canvas.
        batch_size: rows in one evaluation; changes nothing else.
    """
    device = canvas.tokens.device
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=device)
    plan = on_grid(levels(denoiser, canvas, noise), times, schedule)
    return reveal(
        denoiser, canvas, plan, noise=noise, batch_size=batch_size, callback=callback
    )


ddpm = ancestral
"""The reference's name. Theirs ends at t = 1e-5 with a greedy fill of what is left."""

ddpm_cache = ancestral
"""The reference's cached form: the same law, and `ancestral` skips more than it did."""


def build(config: SamplerConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    return partial(ancestral, steps=config.steps, batch_size=config.batch_size)
