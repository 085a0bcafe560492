"""Measures what is hidden of answers, in batches of similar lengths.

Letters: B batch, L length, G answer length, N selected positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.likelihood import exact_counts
from mdlm_core.diffusion.objective import chunked_nll
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.diffusion.times import time_at
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.samplers.text import device_of

from .guided import PROMPT

ENUMERABLE = 12
"""Tokens up to which all sets of hidden tokens may be evaluated."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer that is measured at once."""

    pair: int
    """The number of the prompt and answer it belongs to."""
    asked: int
    """How many of the tokens before it are the prompt."""
    before: tuple[int, ...]
    """The tokens before it."""
    answer: tuple[int, ...]
    """Its tokens."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of a piece."""

    nats: float
    se: float
    draws: int

    def with_more(self, other: Found) -> Found:
        """Return the mean over the draws of both."""
        draws = self.draws + other.draws
        error = math.hypot(self.draws * self.se, other.draws * other.se)
        nats = (self.draws * self.nats + other.draws * other.nats) / draws
        return Found(nats, error / draws, draws)


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures pieces, in batches of similar lengths."""

    backbone: Backbone
    """The model."""
    draws: int
    """Evaluations of a piece, or the first ones."""
    target_se: float
    """Standard error to reach with more; 0 for none. It makes a small bias, since the
    first evaluations decide how many follow and are part of the mean."""
    max_draws: int
    """Evaluations at most."""
    batch_size: int
    """Rows evaluated at once."""
    noise: Noise
    """The generator of all masks."""
    schedule: Schedule | None
    """Of a model that sees the time."""

    def measure(self, pieces: Sequence[Piece]) -> list[Found]:
        """Return what is found of each piece."""
        most = min(ENUMERABLE, (self.draws + 1).bit_length() - 1)  # 2^G - 1 <= draws
        exact = [i for i, piece in enumerate(pieces) if len(piece.answer) <= most]
        sums = self._enumerate([pieces[i] for i in exact])
        found = dict(zip(exact, sums, strict=True))
        rest = [i for i in range(len(pieces)) if i not in found]
        found |= self._draw(pieces, rest, self.draws, self.noise)
        for count, group in self._lacking(found).items():
            more = self._draw(pieces, group, count, self.noise.child("more"))
            found |= {i: found[i].with_more(more[i]) for i in group}
        return [found[i] for i in range(len(pieces))]

    def _lacking(self, found: dict[int, Found]) -> dict[int, list[int]]:
        """Return which pieces need how many draws more, in powers of two of `draws`."""
        target, first = self.target_se, self.draws
        groups: dict[int, list[int]] = {}
        room = self.max_draws - first
        for i, one in found.items():
            if target and one.se > target and room > 0:
                lacking = (one.se / target) ** 2 - 1  # in units of the first draws
                more = first * 2 ** max(0, math.ceil(math.log2(lacking)))
                groups.setdefault(min(room, more), []).append(i)
        return groups

    def _draw(
        self, pieces: Sequence[Piece], which: Sequence[int], draws: int, noise: Noise
    ) -> dict[int, Found]:
        """Return the estimates of the pieces `which`."""
        order = sorted(which, key=lambda i: -len(pieces[i].before + pieces[i].answer))
        found = {}
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            estimate = exact_counts(
                self.backbone,
                self._batch([pieces[i] for i in rows]),
                draws=draws,
                noise=noise,
                schedule=self.schedule,
            )
            for i, nats, se in zip(
                rows, estimate.nats.tolist(), estimate.se.tolist(), strict=True
            ):
                found[i] = Found(nats, se, draws)
        return found

    def _enumerate(self, pieces: Sequence[Piece]) -> list[Found]:
        """Return the exact bounds of short pieces."""
        order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i].before))
        tasks = [(i, s) for i in order for s in range(1, 2 ** len(pieces[i].answer))]
        nats = [0.0] * len(pieces)
        for start in range(0, len(tasks), self.batch_size):
            rows = tasks[start : start + self.batch_size]
            values = self._hidden_nats([(pieces[i], subset) for i, subset in rows])
            for (i, subset), value in zip(rows, values.tolist(), strict=True):
                size, hidden = len(pieces[i].answer), subset.bit_count()
                nats[i] += value / (hidden * math.comb(size, hidden))
        sizes = [2 ** len(piece.answer) - 1 for piece in pieces]
        return [Found(n, 0.0, size) for n, size in zip(nats, sizes, strict=True)]

    def _hidden_nats(self, rows: Sequence[tuple[Piece, int]]) -> Tensor:
        """Return ``(B,)`` sums of -log p over hidden tokens; bit i hides token i."""
        batch = self._batch([piece for piece, _ in rows])
        masked = torch.zeros(batch.frozen.shape, dtype=torch.bool)
        for row, (piece, subset) in enumerate(rows):
            begin = len(piece.before)
            for i in range(len(piece.answer)):
                masked[row, begin + i] = bool(subset >> i & 1)
        masked = masked.to(batch.frozen.device)
        share = masked.sum(1).double() / batch.free.sum(1)
        canvas = batch.with_tokens(
            batch.tokens.masked_fill(masked, self.backbone.mask_id)
        )
        with torch.no_grad(), evaluating(self.backbone):
            t = time_at(share, self.schedule).float()
            states = self.backbone.hidden(canvas, t)[masked]
            with torch.autocast(states.device.type, enabled=False):
                weights = _weights(self.backbone)
                states = states if weights is None else states.to(weights)
                nll = chunked_nll(self.backbone, states, batch.tokens[masked])
        sums = torch.zeros(len(rows), dtype=torch.float64, device=nll.device)
        return sums.index_add(0, masked.nonzero()[:, 0], nll.double())

    def greedy(self, pieces: Sequence[Piece]) -> list[bool]:
        """Return whether decoding the surest token of all, one at a time, gives it."""
        order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i].answer))
        same = [True] * len(pieces)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = self._batch([pieces[i] for i in rows])
            for i, value in zip(rows, self._greedy(batch).tolist(), strict=True):
                same[i] = value
        return same

    def _greedy(self, batch: Batch) -> Tensor:
        """Return ``(B,)`` bool; a row is left at the first token that is another."""
        schedule = self.schedule or LogLinear(eps=0.0)
        denoiser = Denoiser(self.backbone).on_implied_time(schedule)
        canvas = batch.tokens.masked_fill(batch.free, self.backbone.mask_id)
        same = torch.ones(len(batch), dtype=torch.bool, device=canvas.device)
        with denoiser.evaluating():
            while True:
                masked = batch.free & (canvas == self.backbone.mask_id)
                rows = (same & masked.any(1)).nonzero()[:, 0]
                if not len(rows):
                    return same
                where = masked[rows]
                best = [
                    law.max(dim=-1)
                    for law in denoiser.laws(
                        batch.with_tokens(canvas).select(rows), where
                    )
                ]
                sure = torch.full(where.shape, -torch.inf, device=canvas.device)
                sure[where] = torch.cat([one.values for one in best])
                token = torch.zeros_like(canvas[rows])
                token[where] = torch.cat([one.indices for one in best])
                place = sure.argmax(1, keepdim=True)
                chosen = token.gather(1, place)[:, 0]
                canvas[rows, place[:, 0]] = chosen
                same[rows] = chosen == batch.tokens[rows, place[:, 0]]

    def _batch(self, pieces: Sequence[Piece]) -> Batch:
        """Return rows ``[what comes before | piece | padding]``."""
        width = max(len(piece.before) + len(piece.answer) for piece in pieces)
        tokens = torch.full((len(pieces), width), self.backbone.mask_id)
        lengths = []
        for row, piece in zip(tokens, pieces, strict=True):
            ids = piece.before + piece.answer
            row[: len(ids)] = torch.tensor(ids)
            lengths.append((piece.asked, len(piece.before), len(ids)))
        asked, begin, end = torch.tensor(lengths).T[..., None]
        place = torch.arange(width)
        return Batch.of(
            tokens,
            frozen=place < begin,
            pad=place >= end,
            sample_id=torch.tensor([_key(piece.before) for piece in pieces]),
            condition={PROMPT: place < asked},
        ).to(device_of(self.backbone))


def _key(ids: tuple[int, ...]) -> int:
    """Return a number of 62 bits that stands for a prompt."""
    digest = blake2b(repr(ids).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def _weights(backbone: Backbone) -> torch.dtype | None:
    """Return the type of the backbone's weights, None if it has none."""
    if not isinstance(backbone, nn.Module):
        return None
    return next((p.dtype for p in backbone.parameters()), None)
