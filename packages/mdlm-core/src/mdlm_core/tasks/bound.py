"""The held-out bound on -log p: nats per token, bits per byte, perplexity.

Each comes with its standard error. Every process measures its own rows and all get the
same numbers, whatever their count, because a row's masks depend on its id alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import likelihood
from mdlm_core.diffusion.likelihood import Estimate
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, Schedule

from .held_out import held_out

ESTIMATORS = ("exact-counts", "continuous-time", "any-order")
ROWS_AT_ONCE = 16
"""Rows of one process that go through the model together."""
T = TypeVar("T")
_Part = tuple[Estimate, Tensor]
"""The estimate of a batch, and the bytes of its rows."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound on the negative log-likelihood of held-out text."""

    nats: float
    """Nats per token."""
    nats_se: float
    """Its standard error: from the draws and from the choice of rows."""
    bytes_per_token: float | None
    """Of the rows that were scored; None if it is not known."""
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
    """Estimate the bound on `rows` held-out rows, in float32.

    They are spread evenly over the split, and always the same ones: the middles of
    `rows` equal parts. A split of unknown size gives its first rows.

    Args:
        backbone: the denoiser.
        source: the data.
        draws: draws for each row.
        noise: the generator; the same one gives the same masks.
        rows: how many rows; 0 means all.
        estimator: one of `ESTIMATORS`.
        schedule: the one of training: gives the times for a model that sees them, and
            is needed by "continuous-time" for any.

    Raises:
        ConfigError: if the estimator is unknown.
        DataError: if there is no token to score.
    """
    device = next(backbone.parameters()).device
    sizes = _token_bytes(source)
    bytes_each: float | None = None
    estimate = _estimator(estimator, backbone, draws, noise, schedule)
    with torch.autocast(device.type, enabled=False):
        parts = [
            (on_cpu(estimate(batch.to(device))), _bytes(batch, sizes))
            for batch in held_out(source, rows, at_once=ROWS_AT_ONCE)
            if len(batch)
        ]
    found = gather(parts)
    if not found:
        raise DataError("the validation split has no rows to score")
    joined = _first(Estimate.join([part for part, _ in found]), rows)
    mean, error = joined.per_token()
    scored, tokens = len(joined.tokens), int(joined.tokens.sum())
    if sizes is not None:
        counted = torch.cat([size for _, size in found])[:scored]
        bytes_each = float(counted.sum()) / tokens
    elif scored == source.size("validation"):
        bytes_each = bytes_per_token(source)
    return Bound(
        nats=mean,
        nats_se=error,
        bytes_per_token=bytes_each or None,
        rows=scored,
        tokens=tokens,
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
        return partial(
            likelihood.exact_counts,
            denoiser,
            draws=draws,
            noise=noise,
            schedule=schedule,
        )
    if name == "any-order":
        return partial(
            likelihood.any_order_chain,
            denoiser,
            draws=draws,
            noise=noise,
            schedule=schedule,
        )
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


def _token_bytes(source: DataSource) -> Tensor | None:
    """Return ``(V,)`` the bytes behind each id; None if the tokenizer cannot say."""
    tell = getattr(source.tokenizer, "token_bytes", None)
    sizes = None if tell is None else tell()
    return None if sizes is None else torch.tensor(sizes, dtype=torch.int64)


def _bytes(batch: Batch, sizes: Tensor | None) -> Tensor:
    """Return ``(B,)`` the bytes of text behind the tokens that are scored."""
    if sizes is None:
        return torch.zeros(len(batch), dtype=torch.int64)
    return (sizes[batch.tokens.cpu()] * batch.free.cpu()).sum(1)


def on_cpu(part: Estimate) -> Estimate:
    """Return an estimate whose tensors are on the CPU."""
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


def gather(parts: list[T]) -> list[T]:
    """Return the parts of all processes in the order of the rows.

    Part i of process r of n is that of global part ``i n + r``.
    """
    count = PartialState().num_processes
    if count == 1:
        return parts
    everyone: list[list[T]] = [[] for _ in range(count)]
    dist.all_gather_object(everyone, parts)
    ordered = zip_longest(*everyone)
    return [part for group in ordered for part in group if part is not None]
