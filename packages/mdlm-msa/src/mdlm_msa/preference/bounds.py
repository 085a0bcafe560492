"""Bounds on log p of winners and losers, as scores with gradients.

Of the n free tokens of a canvas draw d of D hides k, the quantile at ``(d + u) / D`` of
the uniform law on 1 to n, and

    (n / k) sum over hidden i of log p(x_i | x outside the mask)

has the bound on log p for its mean (Ou et al., 2024, arXiv 2406.03736, section 3.3).
The draws of a canvas are spread over all k, one in each D-th part, which keeps the mean
and lowers the variance. Letters: B pairs, C = 2 B canvases, L length, D draws, N hidden
positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad as extend

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted, corrupt_exactly
from mdlm_core.diffusion.corrupt import count_at
from mdlm_core.diffusion.draws import stratum
from mdlm_core.diffusion.objective import chunked_nll
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_msa.alphabet import PAD

from .source import LOSER


def both(batch: Batch) -> Batch:
    """Return B winners and then B losers as 2 B canvases of one width.

    Winner and loser of a pair keep its `sample_id`, so that they are hidden by the same
    random numbers, and equally large shares of them.

    Raises:
        DataError: if the batch has no losers.
    """
    if not set(LOSER) <= batch.condition.keys() or batch.positions is None:
        raise DataError("the data hold no pairs; use data.name=msa-preferences")
    tokens, frozen, pad, positions = (batch.condition[name] for name in LOSER)
    width = max(batch.length, tokens.shape[1])

    def joined(first: Tensor, second: Tensor, fill: int | bool) -> Tensor:
        return torch.cat([_wider(part, width, fill) for part in (first, second)])

    return Batch.of(
        joined(batch.tokens, tokens, PAD),
        frozen=joined(batch.frozen, frozen, True),
        pad=joined(batch.pad, pad, True),
        positions=joined(batch.positions, positions, 0),
        sample_id=batch.sample_id.repeat(2),
        epoch=batch.epoch,
    )


def _wider(values: Tensor, width: int, fill: int | bool) -> Tensor:
    """Return ``(B, width)`` or ``(B, width, 2)`` values, filled up on the right."""
    missing = width - values.shape[1]
    return extend(values, (0, 0) * (values.dim() - 2) + (0, missing), value=fill)


def free_rows(canvases: Batch) -> Tensor:
    """Return ``(C,)`` how many rows of an alignment are free, one at least.

    They stand one below the other; rows of unknown residues alone at the end of a
    canvas are not counted.
    """
    assert canvases.positions is not None
    row = canvases.positions[..., 1]
    last = row.masked_fill(canvases.frozen, -1).amax(1)
    first = row.masked_fill(canvases.frozen, int(row.max()) + 1).amin(1)
    return (last - first + 1).clamp(min=1)


def views(
    canvases: Batch,
    draws: int,
    *,
    noise: Noise,
    mask_id: int,
    schedule: Schedule | None = None,
) -> list[Corrupted]:
    """Return D noisings of the canvases.

    Args:
        canvases: clean.
        draws: D.
        noise: decides the masks, by `sample_id` and position.
        mask_id: the token that hides.
        schedule: that of training, for a backbone that sees the time.
    """
    n = canvases.free.sum(1)
    return [
        corrupt_exactly(
            canvases,
            count_at(stratum(canvases, draw, draws, noise.child("time", draw)), n),
            noise=noise.child("mask", draw),
            mask_id=mask_id,
            schedule=schedule,
        )
        for draw in range(draws)
    ]


def log_bounds(
    backbone: Backbone, noised: Sequence[Corrupted]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted sums of log p of the hidden tokens, with gradients.

    The head and its softmax run in float32 even under autocast.

    Args:
        backbone: the denoiser.
        noised: D noisings of C canvases.

    Returns:
        The sums ``(D, C)`` float64; -log p ``(N,)`` of the hidden tokens, detached, in
        the order of draws, canvases and positions; and which those are, ``(D C, L)``
        bool.
    """
    sums, every, masked = [], [], []
    for view in noised:
        states = backbone.hidden(replace(view.batch, condition={}), view.t)
        states = states[view.masked]  # (N, D)
        with torch.autocast(states.device.type, enabled=False):
            nll = chunked_nll(backbone, states.float(), view.targets[view.masked])
        each = (nll * view.weight[view.masked]).double()
        zero = each.new_zeros(len(view.batch))
        sums.append(-zero.index_add(0, view.masked.nonzero()[:, 0], each))
        every.append(nll.detach())
        masked.append(view.masked)
    return torch.stack(sums), torch.cat(every), torch.cat(masked)
