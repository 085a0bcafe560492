"""What is measured of samples: how varied they are, and what they guess right.

Letters: B rows, L length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.corrupt import corrupt_exactly
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Schedule
from mdlm_core.samplers.denoiser import Denoiser

from .commit import BY_NUMBER, Order, Score
from .sampler import uncertainty_guided


def unigram_entropy(tokens: Tensor) -> float:
    """Return the entropy in nats of the tokens of a row ``(B, L)``, mean over rows.

    It falls when samples repeat themselves (Zheng et al., 2024, arXiv 2409.02908).
    Rows of one length only can be compared.
    """
    size = int(tokens.max()) + 1
    rows = torch.arange(len(tokens), device=tokens.device)[:, None]
    counts = torch.bincount(
        (rows * size + tokens).flatten(), minlength=size * len(rows)
    )
    share = counts.view(len(tokens), size).double() / tokens.shape[1]
    return float(torch.special.entr(share).sum(1).mean())


def distinct(tokens: Tensor, n: int) -> float:
    """Return how many different n-grams ``(B, L)`` has, over how many there are.

    Counted over all rows together, so that both n-grams that a row repeats and those
    that rows share count. Compare equal numbers of rows of one length only.

    Raises:
        UsageError: if rows are shorter than n.
    """
    if not 1 <= n <= tokens.shape[1]:
        raise UsageError(
            f"rows of {tokens.shape[1]} tokens have no {n}-grams; n is at least 1 and "
            "at most their length"
        )
    grams = tokens.unfold(1, n, 1).reshape(-1, n)
    return len(torch.unique(grams, dim=0)) / len(grams)


def infilling_accuracy(
    denoiser: Denoiser,
    batch: Batch,
    *,
    share: float,
    steps: int,
    schedule: Schedule,
    noise: Noise,
    order: Order = "random",
    score: Score = "entropy",
    entropy_bound: float = BY_NUMBER,
    batch_size: int = 16,
) -> tuple[float, float]:
    """Hide a share of the tokens, fill it in, and return how many are as they were.

    Exactly ``share`` of a row's free tokens are hidden, rounded, and at least one.
    Steps are in proportion, ``steps * share``, so that as many positions are committed
    at once as in a sample from scratch.

    Args:
        denoiser: the model; its temperature decides how tokens are drawn.
        batch: clean rows.
        share: in (0, 1].
        steps: of a sample from scratch; not used with an entropy bound.
        schedule: of training.
        noise: keys what is hidden and what is drawn.
        order: see `uncertainty_guided`.
        score: likewise.
        entropy_bound: likewise.
        batch_size: rows in one evaluation.

    Returns:
        The accuracy over all hidden tokens, and the evaluations of a row.
    """
    if not 0 < share <= 1:
        raise UsageError(f"the hidden share is {share}; it must be in (0, 1]")
    free = batch.free.sum(1)
    counts = torch.minimum((free * share).round().long().clamp(min=1), free)
    hidden = corrupt_exactly(
        batch,
        counts,
        noise=noise.child("hide"),
        mask_id=denoiser.mask_id,
        schedule=schedule,
    )
    found = uncertainty_guided(
        denoiser,
        hidden.batch,
        schedule=schedule,
        noise=noise.child("fill"),
        steps=max(1, round(steps * share)),
        batch_size=batch_size,
        order=order,
        score=score,
        entropy_bound=entropy_bound,
    )
    right = (found.tokens == hidden.targets)[hidden.masked]
    return float(right.double().mean()), float(found.nfe.double().mean())
