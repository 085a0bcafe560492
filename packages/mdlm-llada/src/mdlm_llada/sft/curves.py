"""Measure the loss at many times and under many masks.

Letters: B rows at once, a measured rows, b times, c masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from accelerate import PartialState
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import TrainingError
from mdlm_core.kernels.noise import Noise
from mdlm_core.train.processes import sum_over_processes

LossRows = Callable[[Batch, Tensor, Noise], Tensor]
"""The losses ``(B,)`` of the rows of a batch at the times tau ``(B,)`` in [0, 1], with
masks keyed by the noise and `sample_id`. A row's loss holds the weight of its mask rate
but not 1 / p, and is what the batch's loss is the mean of, up to a factor that all rows
share: the normaliser decides how long answers count. Dropout is off."""


@dataclass(frozen=True, slots=True)
class Curves:
    """The mean and the spread of the loss at each time."""

    times: Tensor
    """``(b,)`` tau."""
    losses: Tensor
    """``(a, b, c)`` float64: row, time, mask."""
    shares: Tensor | None = None
    """``(b,)`` the widths of the cells of [0, 1] that the times stand for; None: equal
    ones."""

    @property
    def g(self) -> Tensor:
        """``(b,)``: the mean over rows and masks."""
        return self.losses.mean((0, 2))

    @property
    def v(self) -> Tensor:
        """``(b,)``: the variance over masks, unbiased, in the mean over rows."""
        return self.losses.var(2).mean(0)


def measure_losses(
    loss_rows: LossRows,
    batch: Batch,
    *,
    times: Tensor,
    masks: int,
    loss_max: float,
    max_tokens: int,
    noise: Noise,
) -> Curves:
    """Measure every row of `batch` at every time under `masks` independent masks.

    Args:
        loss_rows: the model's losses.
        batch: a rows, the same on every process.
        times: ``(b,)`` tau.
        masks: c.
        loss_max: a cap on each loss.
        max_tokens: tokens that go through the model at once, at most.
        noise: the generator; each row, time and mask has its own numbers.

    Raises:
        TrainingError: if a loss is not a finite number.
    """
    state = PartialState()
    a, b, c = len(batch), len(times), masks
    device = batch.tokens.device
    size = max(1, max_tokens // batch.length)
    starts = range(0, a * b * c, size)
    found = torch.zeros(a * b * c, dtype=torch.float64)
    # Every process calls the model equally often, as a sharded one demands.
    for turn in range(math.ceil(len(starts) / state.num_processes)):
        place = turn * state.num_processes + state.process_index
        start = starts[min(place, len(starts) - 1)]
        job = torch.arange(start, min(start + size, a * b * c), device=device)
        rows = replace(batch.select(job // (b * c)), sample_id=job)
        tau = times.to(device)[job // c % b]
        losses = loss_rows(rows, tau, noise).double().cpu()
        if place < len(starts):
            found[start : start + len(job)] = losses
    found = torch.tensor(
        sum_over_processes(found.tolist(), device), dtype=torch.float64
    )
    if not bool(found.isfinite().all()):
        bad = int((~found.isfinite()).nonzero()[0])
        when = float(times[bad // c % b])
        raise TrainingError(
            f"the loss of row {bad // (b * c)} at time {when:.3f} is "
            f"{float(found[bad])}; the density of times needs finite losses: check the "
            f"model's weights"
        )
    return Curves(times, found.clamp(max=loss_max).view(a, b, c))
