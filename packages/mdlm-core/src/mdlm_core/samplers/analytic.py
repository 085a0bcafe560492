"""The analytic (Tweedie) sampler, which steps by the score."""

from __future__ import annotations

from functools import partial

import torch

from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Schedule

from .denoiser import Denoiser
from .events import levels, on_grid, reveal

_END = 1e-5  # where the grid ends and the denoising step begins


def analytic(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int,
    callback: SamplerCallback | None = None,
    batch_size: int = 16,
) -> Sampled:
    """Fill the canvas by T Tweedie steps from t = 1 to 1e-5 and a denoising step.

    Lou et al. 2024 (arXiv 2310.16834, section 4.3). A denoiser p gives the score of
    a masked position: p(y) / (e^sigma - 1) for a token y and 1 for the mask, with
    sigma = -log alpha. Put into the staggered score times the transition over
    d = sigma(t) - sigma(s), this is the law

        token y:  p(y) (e^d - 1) / (e^sigma - 1)  =  p(y) (m(t) - m(s)) / m(t)
        mask:     (e^sigma - e^d) / (e^sigma - 1) =  m(s) / m(t)

    which is already normalised, and leaves revealed positions alone. The denoising
    step is the same with d = sigma and no mask. So this is the event form on the
    grid 1, ..., 1e-5, 0 of T + 1 steps, and no score has to be formed.

    Args:
        denoiser: the model; a time-conditioned one sees t of each row.
        canvas: B rows; the mask stands where to write.
        schedule: gives m.
        noise: keys every draw.
        steps: T.
        callback: called after every evaluation with its number and the canvas.
        batch_size: rows in one evaluation; changes nothing else.
    """
    device = canvas.tokens.device
    grid = torch.linspace(_END, 1, steps + 1, dtype=torch.float64, device=device)
    times = torch.cat([torch.zeros_like(grid[:1]), grid])
    plan = on_grid(levels(denoiser, canvas, noise), times, schedule)
    return reveal(
        denoiser, canvas, plan, noise=noise, batch_size=batch_size, callback=callback
    )


def build(config: SamplerConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    return partial(analytic, steps=config.steps, batch_size=config.batch_size)
