"""The bound on held-out answers, with mirrored masks: the same at every measurement.

Rows, masks and the batches that rows go through the model in depend on the data and
the noise alone, so that the numbers are the same for every process count. Letters: B
batch, D draws, n the tokens of a row's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn.functional import pad as extend

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import (
    Estimate,
    any_order_chain,
    continuous_time,
    corrupt_exactly,
    masked_cross_entropy,
)
from mdlm_core.diffusion.corrupt import count_at
from mdlm_core.diffusion.likelihood import draw_error
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, Schedule
from mdlm_core.tasks.bound import Bound, gather, on_cpu

from .module import with_clean
from .noise import MirroredNoise

ROWS_AT_ONCE = 16
"""Rows that go through the model together."""
BINS = 8
"""Points of the curve over mask rates, at most."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on held-out rows."""

    bound: Bound
    estimate: Estimate
    """Of all rows, in order."""

    def curve(self) -> dict[str, float]:
        """Return the mean -log p of a hidden token by mask rate: ``{"loss_at_0.25"}``.

        Draw d of D hides a share of the answer that is in the d-th part of (0, 1], so
        that the draws themselves are the curve. The name has the middle of the range.
        """
        values, tokens = self.estimate.values, float(self.estimate.tokens.sum())
        draws = values.shape[1]
        each = values.sum(0) / tokens  # (D,)
        edges = [index * draws // BINS for index in range(BINS + 1)]
        parts = sorted({(a, b) for a, b in pairwise(edges) if b > a})
        return {
            f"loss_at_{(a + b) / (2 * draws):.3f}": float(each[a:b].mean())
            for a, b in parts
        }


def measure(
    backbone: nn.Module,
    source: DataSource,
    *,
    draws: int,
    noise: Noise,
    rows: int = 0,
    estimator: str = "exact-counts",
    schedule: Schedule,
) -> Measured:
    """Estimate the bound on -log p(answer | prompt) of held-out rows, in float32.

    Args:
        backbone: the denoiser.
        source: the data, whose validation split has a known size.
        draws: forward passes of each row.
        noise: the generator; the same one gives the same masks.
        rows: how many rows, spread evenly over the split; 0 means all.
        estimator: "exact-counts" (see `mirrored_counts`), "continuous-time" or
            "any-order".
        schedule: that of training.

    Raises:
        ConfigError: if the estimator is unknown.
        DataError: if there is no token to score.
    """
    if estimator not in _ESTIMATORS:
        raise ConfigError(
            f"the estimator is '{estimator}'; it must be one of "
            f"{', '.join(_ESTIMATORS)}"
        )
    estimate = partial(
        _ESTIMATORS[estimator],
        cast("Backbone", backbone),
        draws=draws,
        noise=noise,
        schedule=schedule,
    )
    device = next(backbone.parameters()).device
    sizes = _token_bytes(source)
    state = PartialState()
    with torch.autocast(device.type, enabled=False):
        mine = [
            (
                on_cpu(estimate(with_clean(batch.to(device), backbone))),
                int((sizes[batch.tokens] * batch.free).sum())
                if sizes is not None
                else 0,
            )
            for index, batch in enumerate(held_out(source, rows))
            if index % state.num_processes == state.process_index
        ]
    parts = gather(mine)
    if not parts:
        raise DataError("the validation split has no rows to score")
    whole = Estimate.join([part for part, _ in parts])
    mean, error = whole.per_token()
    tokens = int(whole.tokens.sum())
    bound = Bound(
        nats=mean,
        nats_se=error,
        bytes_per_token=sum(size for _, size in parts) / tokens or None,
        rows=len(whole.tokens),
        tokens=tokens,
        draws=draws,
        estimator=estimator,
    )
    return Measured(bound, whole)


def mirrored_counts(
    backbone: Backbone,
    batch: Batch,
    *,
    draws: int,
    noise: Noise,
    schedule: Schedule | None = None,
) -> Estimate:
    """Estimate the bound by exact numbers of hidden tokens, in mirrored pairs.

    Each draw alone is one of `mdlm_core.diffusion.exact_counts`: k uniform in 1 to n,
    in the d-th of D equal parts, and k tokens hidden at random. Draw D - 1 - d is the
    mirror image of draw d: it hides k' = n + 1 - k tokens, from the other end of the
    same random order. Together the two hide every token, and just one of them twice,
    so that tokens which are hard to restore count in both sums alike. That changes no
    expectation and no cost.

    Args:
        backbone: the denoiser; dropout is off while it is measured.
        batch: the clean rows.
        draws: D.
        noise: the generator of this measurement.
        schedule: that of training, for a backbone that sees the time.
    """
    n = batch.free.sum(1)
    values: dict[int, Tensor] = {}
    with torch.no_grad(), evaluating(cast("nn.Module", backbone)):
        for draw in range((draws + 1) // 2):
            u = noise.child("time", draw).uniform(batch.sample_id, 1)[:, 0]
            key = noise.child("mask", draw)
            place = (draw + u) / draws
            pair = [(draw, place, key)]
            if (other := draws - 1 - draw) != draw:
                pair.append((other, 1 - place, MirroredNoise.of(key)))
            for index, share, generator in pair:
                counts = count_at(share, n)
                values[index] = _row_sums(backbone, batch, counts, generator, schedule)
    stacked = torch.stack([values[draw] for draw in range(draws)], 1)
    return Estimate(
        nats=stacked.mean(1),
        se=draw_error(stacked, stratified=True),
        draws=draws,
        tokens=n,
        values=stacked,
        stratified=True,
    )


_ESTIMATORS: dict[str, Callable[..., Estimate]] = {
    "exact-counts": mirrored_counts,
    "continuous-time": continuous_time,
    "any-order": any_order_chain,
}


def _row_sums(
    backbone: Backbone,
    batch: Batch,
    counts: Tensor,
    noise: Noise,
    schedule: Schedule | None,
) -> Tensor:
    """Return ``(B,)`` float64 weighted sums of -log p with `counts` tokens hidden."""
    corrupted = corrupt_exactly(
        batch, counts, noise=noise, mask_id=backbone.mask_id, schedule=schedule
    )
    nll = masked_cross_entropy(backbone, corrupted).nll.double()
    masked = corrupted.masked
    return nll.new_zeros(len(batch)).index_add(
        0, masked.nonzero()[:, 0], nll * corrupted.weight[masked]
    )


def held_out(source: DataSource, rows: int) -> Iterator[Batch]:
    """Yield `rows` held-out rows, always the same ones, in batches of `ROWS_AT_ONCE`.

    They are the middles of `rows` equal parts of the split; 0 means all. Every row is
    read by itself, so that nothing about it depends on the rows beside it.

    Raises:
        DataError: if the size of the split is not known.
    """
    chosen = places(source, rows)
    for first in range(0, len(chosen), ROWS_AT_ONCE):
        yield stack(
            [_row(source, place) for place in chosen[first : first + ROWS_AT_ONCE]],
            source.tokenizer.pad_id,
        )


def places(source: DataSource, rows: int) -> list[int]:
    """Return which rows of the validation split `held_out` yields.

    Raises:
        DataError: if the size of the split is not known.
    """
    total = source.size("validation")
    if total is None:
        raise DataError(
            "the validation split has no known size; llada-sft needs data whose rows "
            "can be counted"
        )
    count = min(rows, total) if rows else total
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def _row(source: DataSource, place: int) -> Batch:
    found = next(source.batches("validation", size=1, seed=0, start=place), None)
    if found is None or len(found) != 1:
        raise DataError(
            f"the validation split of {source.size('validation')} rows has no row "
            f"{place}; its size() must be the number of rows that batches() gives"
        )
    return found


def stack(rows: list[Batch], pad_id: int) -> Batch:
    """Return batches as one, as wide as the widest; what is added is padding."""
    width = max(row.length for row in rows)

    def wide(value: Tensor, fill: float | bool) -> Tensor:
        return extend(value, (0, width - value.shape[1]), value=fill)

    first = rows[0]
    positions = [row.positions for row in rows if row.positions is not None]
    documents = [row.documents for row in rows if row.documents is not None]
    if positions or first.condition:
        raise DataError(
            "llada-sft takes rows of text, without positions and conditions of their "
            "own; use other data, or task.name=pretrain"
        )
    return replace(
        first,
        tokens=torch.cat([wide(row.tokens, pad_id) for row in rows]),
        frozen=torch.cat([wide(row.frozen, True) for row in rows]),
        pad=torch.cat([wide(row.pad, True) for row in rows]),
        sample_id=torch.cat([row.sample_id for row in rows]),
        documents=torch.cat([wide(part, -1) for part in documents])
        if documents
        else None,
    )


def _token_bytes(source: DataSource) -> Tensor | None:
    """Return ``(V,)`` the bytes behind each id; None if the tokenizer cannot say."""
    tell = getattr(source.tokenizer, "token_bytes", None)
    sizes = None if tell is None else tell()
    return None if sizes is None else torch.tensor(sizes, dtype=torch.int64)
