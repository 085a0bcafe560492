"""From texts, draws and classes to rows that go through the model together.

A unit is what one mask shows of a window: the masked row itself, whose class is still
open. A job is a unit under a class. Masks are made once for a unit, and depend on the
seed, the text's key, the window and the draw alone.

Letters: T texts of a group, W windows, L length of the longest, U units, J jobs, K
classes and the null class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdlm_classify.config import ScoringConfig
from mdlm_classify.data.document import Document
from mdlm_classify.nn.condition import labelled
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.corrupt import random_ranks
from mdlm_core.diffusion.draws import (
    MaskDraw,
    hide_by_count,
    hide_by_size,
    hide_by_time,
    hide_in_order,
    stratum,
    token_nll,
)
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule

_ODD = (-0x61C8864680B583EB, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D)
"""What windows, draws and classes move an id by, modulo 2^64."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of some texts that have a token to score, the shortest first."""

    tokens: Tensor
    """``(W, L)`` int64, zero behind the end."""
    frozen: Tensor
    """``(W, L)`` bool: gaps and what is behind the end."""
    lengths: Tensor
    """``(W,)`` int64, on the CPU."""
    free: Tensor
    """``(W,)`` int64: the tokens that are scored."""
    owner: Tensor
    """``(W,)`` int64: the text's place in the group."""
    place: Tensor
    """``(W,)`` int64: the window's place in its text."""
    key: Tensor
    """``(W,)`` int64: the text's key."""

    def __len__(self) -> int:
        return len(self.tokens)


def windows_of(
    documents: Sequence[Document], *, mask_id: int, device: torch.device
) -> Windows:
    """Return the windows of T texts."""
    found = [
        (ids, owner, place, document.key)
        for owner, document in enumerate(documents)
        for place, ids in enumerate(document.windows)
        if any(token != mask_id for token in ids)
    ]
    found.sort(key=lambda window: len(window[0]))
    lengths = torch.tensor([len(ids) for ids, *_ in found], dtype=torch.int64)
    longest = int(lengths.max()) if found else 0
    tokens = torch.zeros(len(found), longest, dtype=torch.int64)
    frozen = torch.ones(len(found), longest, dtype=torch.bool)
    for row, (ids, *_) in enumerate(found):
        tokens[row, : len(ids)] = torch.tensor(ids)
        frozen[row, : len(ids)] = tokens[row, : len(ids)] == mask_id
    rest = torch.tensor([row[1:] for row in found], dtype=torch.int64).view(-1, 3)
    owner, place, key = rest.to(device).unbind(1)
    return Windows(
        tokens=tokens.to(device),
        frozen=frozen.to(device),
        lengths=lengths,
        free=(~frozen).sum(1).to(device),
        owner=owner,
        place=place,
        key=key,
    )


@dataclass(frozen=True, slots=True)
class Jobs:
    """What is to be evaluated in one round, in the order of the windows' lengths."""

    window: Tensor
    """``(U,)`` int64."""
    draw: Tensor
    """``(U,)`` int64: the draw's place in the round."""
    known: Tensor
    """``(U,)`` int64: how many tokens of an order are known; 0 if there are none."""
    unit: Tensor
    """``(J,)`` int64, never falling."""
    column: Tensor
    """``(J,)`` int64: which of the K."""


def jobs_of(windows: Windows, active: Tensor, *, draws: int, orders: bool) -> Jobs:
    """Return the jobs of one round.

    Args:
        windows: those of T texts.
        active: ``(T, K)`` bool: what each text is evaluated under.
        draws: of each text, in this round.
        orders: whether a draw is an order, which takes a unit for each token.
    """
    device = windows.tokens.device
    wanted = active.any(1)[windows.owner].nonzero()[:, 0]  # (windows,)
    window = wanted.repeat_interleave(draws)
    draw = torch.arange(draws, device=device).repeat(len(wanted))
    known = torch.zeros_like(window)
    if orders:
        steps = windows.free[window]
        ends = steps.cumsum(0).repeat_interleave(steps)
        known = ends - 1 - torch.arange(len(ends), device=device)
        window, draw = window.repeat_interleave(steps), draw.repeat_interleave(steps)
    unit, column = active[windows.owner[window]].nonzero().unbind(1)
    return Jobs(window, draw, known, unit, column)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Some jobs that went through the model together."""

    window: Tensor
    """``(J',)`` int64."""
    draw: Tensor
    """``(J',)`` int64."""
    column: Tensor
    """``(J',)`` int64."""
    weight: Tensor
    """``(J',)`` float64."""
    nll: Tensor
    """``(N,)`` float64: -log p of the scored tokens in row-major order."""
    row: Tensor
    """``(N,)`` int64: which of the J' each token belongs to."""
    position: Tensor
    """``(N,)`` int64: its place in the window."""


def evaluate(
    backbone: Backbone,
    windows: Windows,
    jobs: Jobs,
    *,
    labels: Tensor,
    first: int,
    draws: int,
    settings: ScoringConfig,
    schedule: Schedule | None,
) -> Iterator[Evaluated]:
    """Send jobs through the model, ``settings.tokens_at_once`` tokens at a time.

    Call it inside `measuring` and without autocast.

    Args:
        backbone: the denoiser.
        windows: what the jobs are about.
        jobs: one round.
        labels: ``(K,)`` int64: the class of each column, -1 for none.
        first: draws before this round.
        draws: draws of this round, one from each part of a partition.
        settings: the estimator.
        schedule: see `likelihood.exact_counts`.
    """
    lengths = windows.lengths[jobs.window.cpu()][jobs.unit.cpu()]
    for part in _parts(lengths, settings.tokens_at_once):
        unit, column = jobs.unit[part], jobs.column[part]
        if settings.common:
            new = torch.ones_like(unit, dtype=torch.bool)
            new[1:] = unit[1:] != unit[:-1]
            unit, row = unit[new], new.cumsum(0) - 1
            salt = torch.zeros_like(unit)
        else:
            row, salt = torch.arange(len(unit), device=unit.device), labels[column] + 2
        window, longest = jobs.window[unit], int(lengths[part][-1])
        ids = _ids(windows, window, first + jobs.draw[unit], salt)
        clean = _batch(windows, window, longest, ids)
        hidden = _hide(
            clean,
            draw=jobs.draw[unit],
            draws=draws,
            known=jobs.known[unit],
            mask_id=backbone.mask_id,
            settings=settings,
            schedule=schedule,
        )
        spread = MaskDraw(
            hidden.masked[row], hidden.scored[row], hidden.weight[row], hidden.t[row]
        )
        batch = labelled(clean.select(row), labels[column])
        scored_row, position = spread.scored.nonzero().unbind(1)
        yield Evaluated(
            window=window[row],
            draw=jobs.draw[unit][row],
            column=column,
            weight=spread.weight,
            nll=token_nll(backbone, batch, spread).double(),
            row=scored_row,
            position=position,
        )


def _batch(windows: Windows, window: Tensor, longest: int, ids: Tensor) -> Batch:
    """Return clean rows, one for each entry of `window`, cut to the longest."""
    at = torch.arange(longest, device=window.device)
    lengths = windows.lengths.to(window.device)[window]
    return Batch.of(
        windows.tokens[window, :longest],
        frozen=windows.frozen[window, :longest],
        pad=at >= lengths[:, None],
        sample_id=ids,
    )


def _ids(windows: Windows, window: Tensor, draw: Tensor, salt: Tensor) -> Tensor:
    """Return a number for each unit that decides its mask; int64 wraps."""
    moved = windows.place[window] * _ODD[0] + draw * _ODD[1] + salt * _ODD[2]
    return windows.key[window] + moved


def _hide(
    clean: Batch,
    *,
    draw: Tensor,
    draws: int,
    known: Tensor,
    mask_id: int,
    settings: ScoringConfig,
    schedule: Schedule | None,
) -> MaskDraw:
    noise = Noise(settings.seed).child("scoring")
    masks = noise.child("mask")
    if settings.estimator == "any-order":
        ranks = random_ranks(clean, noise=masks)
        return hide_in_order(clean, ranks, known, mask_id=mask_id, schedule=schedule)
    u = stratum(clean, draw, draws, noise.child("time"))
    if settings.estimator == "continuous-time":
        if schedule is None:
            raise ConfigError("scoring.estimator continuous-time needs a schedule")
        return hide_by_time(clean, u, noise=masks, schedule=schedule, mask_id=mask_id)
    power = settings.size_power if settings.estimator == "sizes" else 0.0
    if not power:
        return hide_by_count(clean, u, noise=masks, mask_id=mask_id, schedule=schedule)
    return hide_by_size(
        clean, u, power=power, noise=masks, mask_id=mask_id, schedule=schedule
    )


def _parts(lengths: Tensor, tokens: int) -> Iterator[slice]:
    """Cut rows, the shortest first, into runs of at most `tokens` tokens when padded.

    A run has at least one row.
    """
    start, rows = 0, len(lengths)
    while start < rows:
        low, high = start + 1, rows  # ends that fit, and that may
        while low < high:
            middle = (low + high + 1) // 2
            fits = (middle - start) * int(lengths[middle - 1]) <= tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        yield slice(start, low)
        start = low


def device_of(
    backbone: Backbone, device: torch.device | str | None = None
) -> torch.device:
    """Return `device`, or where the backbone's weights are if it is not given."""
    if device is not None:
        return torch.device(device)
    if isinstance(backbone, nn.Module):
        first = next(backbone.parameters(), None)
        if first is not None:
            return first.device
    return torch.device("cpu")
