"""Reverse steps that may hide tokens again, so that an early mistake can be mended.

ReMDM (Wang et al., 2025, arXiv 2503.00307): with the chance sigma that a visible token
is hidden again, the step from t to s < t is

    masked  -> visible  with chance (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t),
    visible -> masked   with chance sigma <= min(1, (1 - alpha_s) / alpha_t),

and leaves the share of visible tokens at every time what it is in ancestral sampling.
Here ``sigma = eta (1 - alpha_s)``: eta = 0 is ancestral sampling, and with eta = 1
every position is visible at s with chance alpha_s whatever it was at t, which is a step
of the forward process from the restored tokens.

Letters: B rows, L length, T steps.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Schedule
from mdlm_core.samplers import Denoiser
from mdlm_msa.config import RemaskConfig


def remask(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int,
    callback: SamplerCallback | None = None,
    batch_size: int = 16,
    eta: float = 1.0,
) -> Sampled:
    """Fill the canvas in T steps that reveal tokens and hide some of them again.

    Only positions that were masked at first are ever hidden again. A visible token is
    carried over: no step draws it anew unless it was hidden before. As in ancestral
    sampling the masked positions are taken to be masked at t = 1, and the last step
    ends at mask rate 0.

    A row is evaluated in the steps in which one of its positions is revealed, at most
    T; the head runs on those positions alone.

    Args:
        denoiser: the model; a time-conditioned one sees the t of each step.
        canvas: B rows; the mask stands where to write.
        schedule: gives the mask rate.
        noise: keys every draw.
        steps: T.
        callback: called after every step that changes the canvas.
        batch_size: rows in one evaluation; changes nothing else.
        eta: in [0, 1]; 0 hides nothing again.

    Raises:
        ConfigError: if `eta` is not in [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ConfigError(f"sampler.eta is {eta}; it must be in [0, 1]")
    device = canvas.tokens.device
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=device)
    reveal, hide = chances(schedule.mask_rate(times), eta)
    tokens = canvas.tokens.clone()
    writable = denoiser.masked(canvas)
    nfe = torch.zeros_like(canvas.sample_id)
    changes = 0
    everyone = torch.arange(len(canvas), device=device)
    with denoiser.evaluating():
        for group in torch.split(everyone, batch_size):
            ids, mine = canvas.sample_id[group], writable[group]
            for step in range(steps if bool(mine.any()) else 0, 0, -1):
                u = noise.child("when", step).uniform(ids, canvas.length)  # (b, L)
                masked = mine & (tokens[group] == denoiser.mask_id)
                again = mine & ~masked & (u < hide[step - 1])
                fresh = masked & (u < reveal[step - 1])
                there = fresh.any(1)
                if bool(there.any()):
                    rows, where = group[there], fresh[there]
                    part = canvas.with_tokens(tokens).select(rows)
                    what = noise.child("what", step)
                    numbers = what.uniform(part.sample_id, part.length)[where]
                    t = times[step].expand(len(rows))
                    drawn = denoiser.draw(part, where, numbers, t)
                    tokens[rows] = part.tokens.masked_scatter(where, drawn)
                    nfe[rows] += denoiser.passes
                tokens[group] = tokens[group].masked_fill(again, denoiser.mask_id)
                if bool((there | again.any(1)).any()):
                    changes += 1
                    if callback is not None:
                        callback(changes, tokens.clone())
    return Sampled(tokens, nfe)


def chances(rates: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Return the chances of each step that a token is revealed, and hidden again.

    Args:
        rates: ``(T + 1,)`` float64, the mask rates at t_0 = 0 to t_T = 1. They are
            divided by the last, and the first is taken as 0.
        eta: see `remask`.

    Returns:
        Two tensors ``(T,)``; element i is about the step from t_{i + 1} to t_i.
    """
    share = rates / rates[-1]
    share[0] = 0
    after, before = share[:-1], share[1:]  # 1 - alpha_s, 1 - alpha_t
    most = (after / (1 - before)).clamp(max=1).nan_to_num(nan=1.0)
    sigma = torch.minimum(eta * after, most)
    return (before - after + sigma * (1 - before)) / before, sigma


def build(config: RemaskConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    return partial(
        remask, steps=config.steps, batch_size=config.batch_size, eta=config.eta
    )
