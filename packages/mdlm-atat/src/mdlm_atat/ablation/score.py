"""Score a trained run by the uniform bound, window by window, and say where it loses.

Every variant is scored by the same bound, the one of uniform masks, on the same
held-out windows with the same masks: a window's noise is keyed by its `sample_id`. The
bound describes the ordinary sampler of each model, however the model was trained
(Ou et al., 2024, arXiv 2406.03736). Its parts by token frequency and by the share of
hidden tokens come from the same draws and add up to it.

Letters: B batch, L length, V vocabulary, N hidden tokens, R windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_atat.frequency import FrequencyPrior
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import masked_cross_entropy
from mdlm_core.diffusion.corrupt import Corrupted, corrupt_exactly, count_at
from mdlm_core.diffusion.likelihood import Estimate, draw_error
from mdlm_core.errors import DataError
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, Schedule
from mdlm_core.tasks.bound import Bound
from mdlm_core.tasks.held_out import held_out

QUARTERS = 4
TIME_BINS = 10
ROWS_AT_ONCE = 64
COUNTED = 1_000_000
"""Training tokens that are counted for the frequency quarters, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How every run of an ablation is scored; the same for all of them."""

    rows: int = 384
    """Held-out windows, spread evenly over the split; 0 means all."""
    draws: int = 16
    """Draws for each window, stratified over the share of hidden tokens."""
    seed: int = 0
    """Decides the masks."""

    def noise(self) -> Noise:
        """Return the generator of the masks."""
        return Noise(self.seed).child("evaluate")

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scored:
    """One draw of one batch, and what the model made of it."""

    batch: Batch
    """The clean windows."""
    corrupted: Corrupted
    """What the model saw; its weight is n / k with k of n tokens hidden."""
    nll: Tensor
    """``(N,)`` float32: -log p of the hidden tokens, in row-major order."""
    share: Tensor
    """``(B,)`` float64: k / n."""
    draw: int


@dataclass(slots=True)
class Parts:
    """A sum and a count for each bin."""

    bins: int
    total: Tensor = field(init=False)
    count: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.total = torch.zeros(self.bins, dtype=torch.float64)
        self.count = torch.zeros(self.bins, dtype=torch.float64)

    def add(self, index: Tensor, total: Tensor, count: Tensor) -> None:
        """Add values to the bins `index`; all ``(N,)``."""
        place = index.cpu()
        self.total.index_add_(0, place, total.double().cpu())
        self.count.index_add_(0, place, count.double().cpu())

    def means(self) -> list[float | None]:
        """Return the mean of each bin; None where nothing fell in."""
        pairs = zip(self.total.tolist(), self.count.tolist(), strict=True)
        return [total / count if count else None for total, count in pairs]


def score(
    backbone: nn.Module,
    source: DataSource,
    schedule: Schedule,
    scoring: Scoring,
    *,
    measured: DataSource | None = None,
) -> dict[str, Any]:
    """Return the bound of a model, its windows and its parts, as plain values.

    The values of the windows are those of `likelihood.exact_counts`, draw by draw.

    Args:
        backbone: the denoiser.
        source: the data of training; its tokens are counted for the quarters.
        schedule: the one of training, for a model that sees the time.
        scoring: which windows, how many draws, which masks.
        measured: whose validation split is scored; None means that of `source`.

    Returns:
        ``bound`` with nats per token, perplexity and bits per byte (None if the bytes
        are not known), each with its standard error; ``windows`` with the nats and
        the tokens of each; ``ce_by_frequency``, nats per token for each quarter of
        the training text from frequent to rare; ``ce_by_time``, for each tenth of the
        share of hidden tokens.

    Raises:
        DataError: if there is no token to score.
    """
    quarter = frequency_quarters(source)
    by_quarter, by_time = Parts(QUARTERS), Parts(TIME_BINS)
    values: list[Tensor] = []
    tokens: list[Tensor] = []
    bytes_seen, sizes = 0.0, _token_bytes(source)
    for batch in windows(measured or source, scoring.rows):
        n = batch.free.sum(1)
        per_draw = []
        for item in draws_of(backbone, batch, schedule, scoring):
            weight = item.corrupted.weight[item.corrupted.masked].double()
            sums = torch.zeros(len(batch), dtype=torch.float64)
            row = item.corrupted.masked.nonzero()[:, 0].cpu()
            sums.index_add_(0, row, (weight * item.nll).cpu())
            per_draw.append(sums)
            hidden = item.corrupted.targets[item.corrupted.masked].cpu()
            by_quarter.add(
                quarter[hidden], weight * item.nll, torch.zeros_like(item.nll)
            )
            some = (n > 0).cpu()
            by_time.add(
                time_bin(item.share).cpu()[some],
                (sums / n.clamp(min=1).cpu())[some],
                torch.ones(int(some.sum())),
            )
        values.append(torch.stack(per_draw, 1))
        tokens.append(n.cpu())
        kept = batch.tokens[batch.free].cpu()
        by_quarter.add(quarter[kept], torch.zeros(len(kept)), torch.ones(len(kept)))
        if sizes is not None:
            bytes_seen += float(sizes[kept].sum())
    if not tokens or not int(torch.cat(tokens).sum()):
        raise DataError("the validation split has no token to score")
    by_quarter.total /= scoring.draws
    estimate = _estimate(torch.cat(values), torch.cat(tokens))
    return {
        "bound": _bound(estimate, bytes_seen),
        "windows": {
            "nats": [round(value, 6) for value in estimate.nats.tolist()],
            "tokens": estimate.tokens.tolist(),
        },
        "ce_by_frequency": by_quarter.means(),
        "ce_by_time": by_time.means(),
    }


def windows(source: DataSource, rows: int) -> Iterator[Batch]:
    """Yield the held-out windows, always the same; just `rows` unless that is 0."""
    seen = 0
    for batch in held_out(source, rows, at_once=ROWS_AT_ONCE):
        kept = batch.select(slice(rows - seen)) if rows else batch
        if len(kept):
            yield kept
        seen += len(batch)
        if rows and seen >= rows:
            return


def draws_of(
    backbone: nn.Module, batch: Batch, schedule: Schedule, scoring: Scoring
) -> Iterator[Scored]:
    """Yield the draws of a batch: masks of exact numbers of tokens, and their loss."""
    device = next(backbone.parameters()).device
    here, noise = batch.to(device), scoring.noise()
    n = here.free.sum(1)
    for draw in range(scoring.draws):
        jitter = noise.child("time", draw).uniform(here.sample_id, 1)[:, 0]
        k = count_at((draw + jitter) / scoring.draws, n)
        corrupted = corrupt_exactly(
            here,
            k,
            noise=noise.child("mask", draw),
            mask_id=cast("Backbone", backbone).mask_id,
            schedule=schedule,
        )
        nll = _measure(backbone, corrupted)
        yield Scored(here, corrupted, nll, k.double() / n.clamp(min=1), draw)


@torch.no_grad()
def _measure(backbone: nn.Module, corrupted: Corrupted) -> Tensor:
    """Return ``(N,)`` -log p, in float32 and without dropout."""
    denoiser = cast("Backbone", backbone)
    kind = corrupted.targets.device.type
    with torch.autocast(kind, enabled=False), evaluating(denoiser):
        return masked_cross_entropy(denoiser, corrupted).nll


def time_bin(share: Tensor) -> Tensor:
    """Return which tenth of (0, 1] each share of hidden tokens is in."""
    return ((share * TIME_BINS).ceil().long() - 1).clamp(0, TIME_BINS - 1)


def frequency_quarters(source: DataSource, limit: int = COUNTED) -> Tensor:
    """Return ``(V,)`` which quarter of the training text each token is in.

    Tokens are sorted from frequent to rare and laid end to end with their counts;
    a token is where its middle is. 0 is the most frequent quarter; a token that was
    not seen is in the last.

    Args:
        source: the data.
        limit: training tokens that are counted, at most.
    """
    prior = FrequencyPrior(source, tokens=limit)
    rank = prior(torch.arange(source.tokenizer.vocab_size))
    quarter: Tensor = (rank.double() * QUARTERS).long().clamp(max=QUARTERS - 1)
    return quarter


def _estimate(values: Tensor, tokens: Tensor) -> Estimate:
    return Estimate(
        nats=values.mean(1),
        se=draw_error(values, stratified=True),
        draws=values.shape[1],
        tokens=tokens,
        values=values,
        stratified=True,
    )


def _bound(estimate: Estimate, bytes_seen: float) -> dict[str, Any]:
    mean, error = estimate.per_token()
    tokens = int(estimate.tokens.sum())
    bound = Bound(
        nats=mean,
        nats_se=error,
        bytes_per_token=bytes_seen / tokens if bytes_seen else None,
        rows=len(estimate.tokens),
        tokens=tokens,
        draws=estimate.draws,
        estimator="exact-counts",
    )
    known = bound.bytes_per_token is not None
    return {
        "nats": bound.nats,
        "nats_se": bound.nats_se,
        "perplexity": bound.perplexity,
        "perplexity_se": bound.perplexity_se,
        "bits_per_byte": bound.bits_per_byte if known else None,
        "bits_per_byte_se": bound.bits_per_byte_se if known else None,
        "rows": bound.rows,
        "tokens": bound.tokens,
    }


def _token_bytes(source: DataSource) -> Tensor | None:
    tell = getattr(source.tokenizer, "token_bytes", None)
    sizes = None if tell is None else tell()
    return None if sizes is None else torch.tensor(sizes, dtype=torch.float64)
