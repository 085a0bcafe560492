"""One forward pass, and every token drawn by itself: the baseline of all samplers.

The law of the result is a product of marginals, whatever the model knows about how
positions go together. A loop that draws all positions anew at every step and then hides
nearly all of them again comes to the same thing, at many times the cost.
"""

from __future__ import annotations

from functools import partial

from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Schedule
from mdlm_core.samplers import Denoiser, ancestral


def one_shot(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int = 1,
    callback: SamplerCallback | None = None,
    batch_size: int = 16,
) -> Sampled:
    """Fill the canvas from one forward pass, every position independently.

    Args:
        denoiser: the model; a time-conditioned one sees t = 1.
        canvas: B rows; the mask stands where to write.
        schedule: gives the mask rate.
        noise: keys every draw.
        steps: not used: there is always one.
        callback: called after every evaluation with its number and the canvas.
        batch_size: rows in one evaluation; changes nothing else.
    """
    return ancestral(
        denoiser,
        canvas,
        schedule=schedule,
        noise=noise,
        steps=1,
        callback=callback,
        batch_size=batch_size,
    )


def build(config: SamplerConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    return partial(one_shot, batch_size=config.batch_size)
