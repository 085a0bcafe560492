"""Semi-autoregressive sampling: block after block, left to right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mdlm_core.config.components import SemiAutoregressiveConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Schedule

from .ancestral import ancestral
from .confidence import confidence
from .denoiser import Denoiser
from .first_hitting import first_hitting

_INNER: dict[str, Callable[..., Sampled]] = {
    "ancestral": ancestral,
    "first-hitting": first_hitting,
    "confidence": confidence,
}


def semi_autoregressive(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int,
    callback: SamplerCallback | None = None,
    block: int = 32,
    inner: Sampler = ancestral,
) -> Sampled:
    """Fill the blocks of the canvas from left to right, each by another sampler.

    The model sees the whole canvas, in which the blocks to come are masked. With an
    exact inner sampler the law is the model's, revealed in another order.

    Args:
        denoiser: the model; one that reads the time, itself or by its guidance, sees
            the t that its whole canvas implies.
        canvas: B rows; the mask stands where to write.
        schedule: for the inner sampler.
        noise: keys every draw.
        steps: T over all blocks; of a row's blocks with something to fill, each gets
            an equal share, rounded up.
        callback: called after every evaluation with its number and the canvas.
        block: positions in a block, counted from the start of the canvas.
        inner: the sampler inside a block.
    """
    if block < 1:
        raise UsageError(f"block is {block}; a block has at least 1 position")
    tokens = canvas.tokens.clone()
    nfe = torch.zeros_like(canvas.sample_id)
    todo = denoiser.masked(canvas)
    starts = range(0, canvas.length, block)
    pending = torch.stack(
        [part.any(1) for part in torch.split(todo, block, dim=1)], dim=1
    )
    shares = pending.sum(1)  # (B,) blocks to fill in each row
    groups, clocks = _clocks(denoiser, canvas, schedule)
    changes = 0

    def relay(rows: Tensor, _: int, filled: Tensor) -> None:
        nonlocal changes
        changes += 1
        if callback is not None:
            whole = tokens.clone()
            whole[rows] = filled
            callback(changes, whole)

    for index, start in enumerate(starts):
        alike = torch.stack([shares, groups], 1)[pending[:, index]]
        for count, group in sorted(set(map(tuple, alike.tolist()))):
            chosen = pending[:, index] & (shares == count) & (groups == group)
            rows = chosen.nonzero().squeeze(1)
            part = canvas.with_tokens(tokens).select(rows)
            outside = torch.ones_like(part.frozen)
            outside[:, start : start + block] = False
            sampled = inner(
                clocks[group],
                replace(part, frozen=part.frozen | outside),
                schedule=schedule,
                noise=noise,
                steps=-(-steps // count),
                callback=partial(relay, rows),
            )
            tokens[rows] = sampled.tokens
            nfe[rows] += sampled.nfe
    return Sampled(tokens, nfe)


def _clocks(
    denoiser: Denoiser, canvas: Batch, schedule: Schedule
) -> tuple[Tensor, list[Denoiser]]:
    """Return each row's group ``(B,)``, and for each group a denoiser with its clock.

    The share that is masked counts the free positions of the whole canvas, which are
    not seen any more once the blocks to come are frozen. Rows with the same ones are a
    group; without a clock all rows are.
    """
    if not denoiser.reads_time:
        return torch.zeros_like(canvas.sample_id), [denoiser]
    patterns, groups = torch.unique(canvas.free, dim=0, return_inverse=True)
    return groups, [denoiser.on_implied_time(schedule, free) for free in patterns]


def build(config: SemiAutoregressiveConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    settings: dict[str, object] = {"batch_size": config.batch_size}
    if config.inner == "confidence":
        settings |= {"score": config.score, "threshold": config.threshold}
    return partial(
        semi_autoregressive,
        steps=config.steps,
        block=config.block,
        inner=partial(_INNER[config.inner], **settings),
    )
