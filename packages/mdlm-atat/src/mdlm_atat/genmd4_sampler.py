"""Ancestral sampling where each token has a mask schedule of its own.

When a position is revealed depends on what the model thinks it holds, so that, unlike
with one schedule for all, the times cannot be drawn up front. Letters: B rows, L
length, V vocabulary, N masked positions, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.categorical import categorical
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, SamplerCallback, Schedule
from mdlm_core.samplers.denoiser import Denoiser


def step_law(log_mu: Tensor, exponents: Tensor, log_ratio: Tensor) -> Tensor:
    """Return what becomes of a masked position in the step from u to s < u.

    Token v stays hidden with chance ``(s / u)^w_v``, so that the position becomes v
    with chance ``mu_v (1 - (s / u)^w_v)`` and stays masked otherwise: the reversal of
    the step if it does hold v with chance mu_v.

    Args:
        log_mu: ``(N, V)``, the mask's column being -inf.
        exponents: ``(V,)`` w.
        log_ratio: scalar ``log(s / u)``; -inf reveals all.

    Returns:
        log_reveal: ``(N, V + 1)``; the last column is to stay masked.
    """
    decay = exponents.float() * log_ratio.float()  # (V,)
    reveal = log_mu + torch.log(-torch.expm1(decay))
    stay = torch.logsumexp(log_mu + decay, dim=1, keepdim=True)
    return torch.cat((reveal, stay), dim=1)


class OwnTokenSampler:
    """The reverse process on the grid t_i = i / T, from 1 to 0.

    A row costs one evaluation for each step at which it has a masked position.
    """

    def __init__(self, exponents: Tensor, batch_size: int = 16) -> None:
        """Keep the settings.

        Args:
            exponents: ``(V,)`` w, positive.
            batch_size: rows in one evaluation; changes nothing else.
        """
        self.exponents = exponents
        self.batch_size = batch_size

    def __call__(
        self,
        denoiser: Denoiser,
        canvas: Batch,
        *,
        schedule: Schedule,
        noise: Noise,
        steps: int,
        callback: SamplerCallback | None = None,
    ) -> Sampled:
        """Fill the canvas; see `mdlm_core.protocols.Sampler`."""
        tokens = canvas.tokens.clone()
        device = tokens.device
        nfe = torch.zeros(len(tokens), dtype=torch.int64, device=device)
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64, device=device)
        log_u = schedule.mask_rate(times).log()
        log_u = log_u - log_u[0]
        log_u[-1] = -torch.inf  # also where the schedule does not start at 0
        changes = 0
        with denoiser.evaluating():
            for step in range(steps):
                numbers = noise.child("step", step).uniform(
                    canvas.sample_id, canvas.length
                )
                todo = denoiser.masked(canvas.with_tokens(tokens)).any(1).nonzero()
                for rows in torch.split(todo[:, 0], self.batch_size):
                    part = canvas.with_tokens(tokens).select(rows)
                    tokens[rows] = self._step(
                        denoiser,
                        part,
                        numbers[rows],
                        times[step],
                        log_u[step : step + 2],
                    )
                    nfe[rows] += denoiser.passes
                    changes += 1
                    if callback is not None:
                        callback(changes, tokens.clone())
        return Sampled(tokens, nfe)

    def _step(
        self, denoiser: Denoiser, part: Batch, u: Tensor, t: Tensor, log_u: Tensor
    ) -> Tensor:
        """Return the canvas ``(b, L)`` one step later."""
        where = denoiser.masked(part)
        tilt = self.exponents.float() * log_u[0].float()  # (V,)
        pieces = []
        for law in denoiser.laws(part, where, t.expand(len(part))):
            log_mu = denoiser.truncated((law + tilt).log_softmax(-1))
            pieces.append(step_law(log_mu, self.exponents, log_u[1] - log_u[0]))
        law = torch.cat(pieces)
        drawn = categorical(law, u[where])
        stays = drawn == law.shape[1] - 1
        drawn = drawn.masked_fill(stays, denoiser.mask_id)
        return part.tokens.masked_scatter(where, drawn)
