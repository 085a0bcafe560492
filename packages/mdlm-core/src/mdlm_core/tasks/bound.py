"""The held-out bound on -log p: nats per token, bits per byte, perplexity.

Each comes with its standard error. Every process measures its own rows and all get the
same numbers, whatever their count, because a row's masks depend on its id alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, zip_longest
from typing import cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import likelihood
from mdlm_core.diffusion.likelihood import Estimate
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, Schedule

ESTIMATORS = ("exact-counts", "continuous-time", "any-order")
ROWS_AT_ONCE = 16
"""Rows of one process that go through the model together."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound on the negative log-likelihood of held-out text."""

    nats: float
    """Nats per token."""
    nats_se: float
    """Its standard error: from the draws and from the choice of rows."""
    bytes_per_token: float | None
    """Of the held-out text; None if the source does not know."""
    rows: int
    tokens: int
    draws: int
    estimator: str

    @property
    def evaluations(self) -> int:
        """Forward passes of rows; the chain needs one for each token of a draw."""
        each = self.tokens if self.estimator == "any-order" else self.rows
        return each * self.draws

    @property
    def bits_per_byte(self) -> float:
        """Nats per token over ln 2 and over the bytes of a token; nan if not known."""
        return self.nats * self._bits

    @property
    def bits_per_byte_se(self) -> float:
        """The standard error of `bits_per_byte`."""
        return self.nats_se * self._bits

    @property
    def _bits(self) -> float:
        return (
            1 / (math.log(2) * self.bytes_per_token)
            if self.bytes_per_token
            else math.nan
        )

    @property
    def perplexity(self) -> float:
        """The exponential of nats per token."""
        return math.exp(min(self.nats, 700.0))

    @property
    def perplexity_se(self) -> float:
        """The standard error of `perplexity`, to first order."""
        return self.perplexity * self.nats_se


def measure(
    backbone: nn.Module,
    source: DataSource,
    *,
    draws: int,
    noise: Noise,
    rows: int = 0,
    estimator: str = "exact-counts",
    schedule: Schedule | None = None,
) -> Bound:
    """Estimate the bound on the first `rows` held-out rows, in float32.

    Args:
        backbone: the denoiser.
        source: the data.
        draws: draws for each row.
        noise: the generator; the same one gives the same masks.
        rows: how many rows; 0 means all.
        estimator: one of `ESTIMATORS`.
        schedule: needed by "continuous-time" alone.

    Raises:
        ConfigError: if the estimator is unknown.
        DataError: if there is no token to score.
    """
    device = next(backbone.parameters()).device
    estimate = _estimator(estimator, backbone, draws, noise, schedule)
    with torch.autocast(device.type, enabled=False):
        parts = [
            _on_cpu(estimate(batch.to(device)))
            for batch in _batches(source, rows)
            if len(batch)
        ]
    found = _gather(parts)
    if not found:
        raise DataError("the validation split has no rows to score")
    joined = _first(Estimate.join(found), rows)
    mean, error = joined.per_token()
    return Bound(
        nats=mean,
        nats_se=error,
        bytes_per_token=bytes_per_token(source),
        rows=len(joined.tokens),
        tokens=int(joined.tokens.sum()),
        draws=draws,
        estimator=estimator,
    )


def bytes_per_token(source: DataSource, split: str = "validation") -> float | None:
    """Return the bytes of text behind a token of a split, None if not known."""
    splits = source.card().get("splits")
    facts = splits.get(split) if isinstance(splits, Mapping) else None
    value = facts.get("bytes_per_token") if isinstance(facts, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _estimator(
    name: str,
    backbone: nn.Module,
    draws: int,
    noise: Noise,
    schedule: Schedule | None,
) -> Callable[[Batch], Estimate]:
    denoiser = cast("Backbone", backbone)
    if name == "exact-counts":
        return partial(likelihood.exact_counts, denoiser, draws=draws, noise=noise)
    if name == "any-order":
        return partial(likelihood.any_order_chain, denoiser, draws=draws, noise=noise)
    if name == "continuous-time" and schedule is not None:
        return partial(
            likelihood.continuous_time,
            denoiser,
            schedule=schedule,
            draws=draws,
            noise=noise,
        )
    raise ConfigError(
        f"the estimator is '{name}'; it must be one of {', '.join(ESTIMATORS)}, and "
        f"continuous-time needs a schedule"
    )


def _batches(source: DataSource, rows: int) -> Iterator[Batch]:
    """Yield this process's part of global batches that hold `rows` rows or more."""
    state = PartialState()
    size, count = ROWS_AT_ONCE * state.num_processes, None
    if rows:
        count = math.ceil(rows / size)
        size = max(math.ceil(rows / count), state.num_processes)
    batches = source.batches(
        "validation",
        size=size,
        seed=0,  # the order is fixed
        rank=state.process_index,
        world=state.num_processes,
    )
    return islice(batches, count)


def _on_cpu(part: Estimate) -> Estimate:
    return replace(
        part,
        nats=part.nats.cpu(),
        se=part.se.cpu(),
        tokens=part.tokens.cpu(),
        values=part.values.cpu(),
    )


def _first(whole: Estimate, rows: int) -> Estimate:
    if not rows:
        return whole
    return replace(
        whole,
        nats=whole.nats[:rows],
        se=whole.se[:rows],
        tokens=whole.tokens[:rows],
        values=whole.values[:rows],
    )


def _gather(parts: list[Estimate]) -> list[Estimate]:
    """Return the parts of all processes in the order of the rows."""
    count = PartialState().num_processes
    if count == 1:
        return parts
    everyone: list[list[Estimate]] = [[] for _ in range(count)]
    dist.all_gather_object(everyone, parts)
    ordered = zip_longest(*everyone)
    return [part for group in ordered for part in group if part is not None]
