"""Sampling in an order of uncertainty, by number or by a bound on entropy.

Letters: B rows of the canvas, b rows in one evaluation, L length, V vocabulary,
N masked positions, T steps.
"""

from __future__ import annotations

import math
from itertools import islice

import torch

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels import modes
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Schedule
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.samplers.events import reveal

from .commit import BY_NUMBER, Order, Score, fixed_rank, importance_of, one_step, plan
from .config import UncertaintyConfig


def uncertainty_guided(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int,
    callback: SamplerCallback | None = None,
    batch_size: int = 16,
    order: Order = "confident_first",
    score: Score = "entropy",
    entropy_bound: float = BY_NUMBER,
) -> Sampled:
    """Fill the canvas, the masked positions of each row in the given order.

    By number, ``ceil(masked / steps left)`` positions of a row are committed at each
    of T steps. With an entropy bound gamma >= 0 it is the largest k with

        H_1 + ... + H_k - max(H_1, ..., H_k) <= gamma,

    H_1, H_2, ... being the entropies in nats of the positions in their order
    (EB-Sampler, Ben-Hamu et al., 2025, arXiv 2505.24857). The left side is at least
    what is lost by drawing the k tokens independently, H_1 + ... + H_k minus their
    joint entropy, if the model is right. At gamma = 0 one position is committed, and
    those that are certain before it; at infinity all are.

    The orders:

    - ``confident_first``: the least uncertain ones, see `uncertainty`. Kim et al.,
      2025 (arXiv 2502.06768) report a large gain on puzzles.
    - ``uncertain_first``: the most uncertain ones. This is the opposite of what that
      evidence recommends, and is here for comparison.
    - ``importance``: what the masking policy finds most important on the canvas as it
      is, at the time its masked share implies. The passes of the policy's network are
      not counted.
    - ``left_to_right``.
    - ``random``: an order drawn once for each row, uniformly, as in the bound on
      -log p. By number with T at least the masked positions, the law of the result
      is the model's any-order law, and the tokens are those of `first_hitting` unless
      the model sees t.

    Uncertainty and entropy are of the model's own laws; temperature, top-k and top-p
    change what is drawn, not the order. Positions within 2^-10 of each other are taken
    as equal and come in random order: on a blank canvas a transformer finds them all
    alike.

    Args:
        denoiser: the model; a time-conditioned one sees the t its canvas implies. For
            ``importance`` its `policy` has a method ``importance(batch, t)``.
        canvas: B rows; the mask stands where to write.
        schedule: used for that t alone.
        noise: keys every draw.
        steps: T; not used with an entropy bound.
        callback: called after every evaluation with its number and the canvas.
        batch_size: rows in one evaluation; changes nothing else.
        order: which masked positions come first.
        score: what uncertain means.
        entropy_bound: gamma; negative means by number.

    Raises:
        UsageError: if T is not positive, the bound is not a number, or there is no
            policy that tells importance and the order needs one.
    """
    if steps < 1:
        raise UsageError(f"steps is {steps}; it must be at least 1")
    if math.isnan(entropy_bound):
        raise UsageError(
            "entropy_bound is nan; give nats from 0 to inf, or -1 for steps of equal "
            "size"
        )
    clocked = denoiser.on_implied_time(schedule)
    if entropy_bound < 0 and order in ("random", "left_to_right"):
        turns = plan(fixed_rank(denoiser, canvas, noise, order), steps)
        return reveal(
            clocked,
            canvas,
            turns,
            noise=noise,
            batch_size=batch_size,
            callback=callback,
        )
    policy = importance_of(denoiser) if order == "importance" else None
    tokens = canvas.tokens.clone()
    masked = denoiser.masked(canvas).sum(1).tolist()
    waiting = (row for row, count in enumerate(masked) if count)
    active: list[int] = []
    done = [0] * len(canvas)
    changes = 0
    with clocked.evaluating(), modes.evaluating(policy):
        while True:
            active = [row for row in active if masked[row]]
            active += islice(waiting, batch_size - len(active))
            if not active:
                break
            rows = torch.tensor(active, device=tokens.device)
            left = torch.tensor(
                [max(1, steps - done[row]) for row in active], device=tokens.device
            )
            step = one_step(
                clocked,
                canvas.with_tokens(tokens).select(rows),
                schedule=schedule,
                noise=noise,
                left=left,
                order=order,
                score=score,
                entropy_bound=entropy_bound,
            )
            tokens[rows] = step.tokens
            for row, count in zip(active, step.committed.sum(1).tolist(), strict=True):
                masked[row] -= count
                done[row] += 1
            changes += 1
            if callback is not None:
                callback(changes, tokens.clone())
    nfe = torch.tensor(done, dtype=torch.int64, device=tokens.device)
    return Sampled(tokens, nfe * denoiser.passes)


class UncertaintyGuidedSampler:
    """`uncertainty_guided` with its settings, for the catalog."""

    def __init__(self, config: UncertaintyConfig) -> None:
        self.config = config

    def __call__(
        self,
        denoiser: Denoiser,
        canvas: Batch,
        *,
        schedule: Schedule,
        noise: Noise,
        steps: int | None = None,
        callback: SamplerCallback | None = None,
    ) -> Sampled:
        """Fill the canvas; see `uncertainty_guided`. T comes from the settings."""
        return uncertainty_guided(
            denoiser,
            canvas,
            schedule=schedule,
            noise=noise,
            steps=self.config.steps if steps is None else steps,
            callback=callback,
            batch_size=self.config.batch_size,
            order=self.config.order,
            score=self.config.score,
            entropy_bound=self.config.entropy_bound,
        )


def build(config: UncertaintyConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    return UncertaintyGuidedSampler(config)
