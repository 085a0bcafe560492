"""First-hitting sampling: the reverse process in continuous time."""

from __future__ import annotations

from functools import partial

from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Schedule

from .denoiser import Denoiser
from .events import levels, one_by_one, reveal


def first_hitting(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int = 0,
    callback: SamplerCallback | None = None,
    batch_size: int = 16,
) -> Sampled:
    """Reveal one position at a time, at the times of the continuous process.

    Zheng et al. 2024 (arXiv 2409.02908): with n positions masked at time t, the next
    one is revealed at t' where m(t') = m(t) u^(1/n), u uniform, and it is any of them
    with equal chance. That is the law of n independent uniform levels in descending
    order (the largest of n uniforms is distributed as u^(1/n), and the others stay
    uniform below it), which is how it is drawn here: every position has its own
    level, keyed by row and position, and every row its own clock. The law is exactly
    the model's; a row costs as many evaluations as it has masked positions.

    Args:
        denoiser: the model; a time-conditioned one sees t' of each row.
        canvas: B rows; the mask stands where to write.
        schedule: gives m and its inverse.
        noise: keys every draw.
        steps: not used; the process has no grid.
        callback: called after every evaluation with its number and the canvas.
        batch_size: rows in one evaluation; changes nothing else.
    """
    plan = one_by_one(levels(denoiser, canvas, noise), schedule)
    return reveal(
        denoiser, canvas, plan, noise=noise, batch_size=batch_size, callback=callback
    )


def build(config: SamplerConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    return partial(first_hitting, steps=config.steps, batch_size=config.batch_size)
