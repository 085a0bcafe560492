"""The laws of a block from a part of the canvas, and a cache for the rest.

A cache holds the keys and values of every position in a slot of its own. What is fed
to the model writes its slots, and sees all of them. Letters: B rows, L length, N
positions fed, M slots, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from mdlm_core.data.batch import Batch
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_llada.config import DecodeConfig

from .blocks import Row, kept_columns

Fed = Callable[[Row], tuple[int, int]]
"""Which positions of a row are fed to the model now, [first, end)."""


def around_block(settings: DecodeConfig, *, shift: bool) -> Fed:
    """Return what an approximate cache feeds.

    The whole row at the start of a block and at every `refresh`-th step; in between
    the block and what is behind it (approx-prefix), or the block alone (approx-dual),
    as in Fast-dLLM (arXiv 2505.22618). A model that says at position i what token
    i + 1 is (`shift`) is also fed the position before the block.
    """
    dual = settings.cache == "approx-dual"

    def fed(row: Row) -> tuple[int, int]:
        first, end = row.span
        step = row.step + row.edits
        if step == 0 or (settings.refresh and step % settings.refresh == 0):
            return 0, row.length
        return max(0, first - shift), end if dual else row.length

    return fed


def behind_settled(row: Row) -> tuple[int, int]:
    """Return what a block-diffusion model is fed: what its cache lacks, and the block.

    A block does not see those behind it. So the keys and values of a full block are
    what they will be, once it has been fed in its last state, which happens together
    with the first step of the next one: the cache is exact.
    """
    return row.settled, row.span[1]


class Cached:
    """The model computes what is fed, and sees the rest in a cache.

    Args:
        denoiser: its backbone has ``states(tokens, positions=, see=, cache=)``.
        canvas: what is decoded; its padding is known from here.
        fed: says what is fed.
        capacity: rows that are decoded at the same time, at most.
        size: positions of a block.
        causal: whether the model sees only its own and earlier blocks.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        canvas: Batch,
        fed: Fed,
        *,
        capacity: int,
        size: int,
        causal: bool,
    ) -> None:
        self.denoiser = denoiser
        self.backbone = cast("Any", denoiser.backbone)
        self.fed = fed
        self.size = size
        self.causal = causal
        self.shift = int(self.backbone.architecture.shift)
        self.spare = canvas.length  # a slot that nobody sees, for what is no position
        self.holes = has_holes(canvas)
        self.cache = _empty(self.backbone, capacity, canvas)

    def laws(self, part: Batch, where: Tensor, rows: Sequence[Row]) -> Iterator[Tensor]:
        """Yield the laws."""
        spans = [self.fed(row) for row in rows]
        owner, place = where.nonzero(as_tuple=True)
        found, order = [], []
        for group in self._groups(spans):
            mine = part if len(group) == len(rows) else part.select(_index(group, part))
            chosen = [rows[i] for i in group]
            states = self._states(mine, chosen, [spans[i] for i in group])
            inside = torch.full((len(rows),), -1, device=owner.device)
            inside[group] = torch.arange(len(group), device=owner.device)
            entries = (inside[owner] >= 0).nonzero().squeeze(1)
            row = inside[owner[entries]]
            firsts = [spans[i][0] for i in group]
            kept = kept_columns(chosen, firsts, self.shift).start
            column = (place[entries] - self.shift).clamp(min=0)
            found.append(states[row, column - _index(firsts, part)[row] - kept])
            order.append(entries)
            self.denoiser.count.calls += 1
            self.denoiser.count.rows += len(group)
        if self.causal:
            for fed in rows:
                fed.settled = fed.span[0]
        states = torch.cat(found)
        yield from self.denoiser.laws_of(
            torch.empty_like(states).index_copy_(0, torch.cat(order), states)
        )

    def _groups(self, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Return which rows are fed together: much, or no more than two blocks."""
        wide = [end - first > 2 * self.size for first, end in spans]
        both = [[i for i, is_wide in enumerate(wide) if is_wide == w] for w in (0, 1)]
        return [group for group in both if group]

    def _states(
        self, part: Batch, rows: Sequence[Row], spans: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Feed the model; return the states of the blocks in work, and around them."""
        first = _index([first for first, _ in spans], part)[:, None]
        ends = [end for _, end in spans]
        widths = {end - first for first, end in spans}
        place = first + torch.arange(max(widths), device=first.device)  # (b, N)
        ragged = len(widths) > 1
        inside = place.clamp(max=part.length - 1)
        tokens = part.tokens.gather(1, inside)
        positions = place
        slots = max(ends) if self.causal else max(row.length for row in rows)
        if ragged:
            beyond = place >= _index(ends, part)[:, None]
            positions = place.masked_fill(beyond, self.spare)
            slots = self.spare + 1
        kept, write_back = self._kept([row.slot for row in rows])
        states: Tensor = self.backbone.states(
            tokens,
            positions=positions,
            see=None
            if not ragged and self._sees_all(rows, spans, slots)
            else self._see(part, inside, slots),
            cache=kept.upto(slots),
            keep=kept_columns(rows, [first for first, _ in spans], self.shift),
        )
        write_back(positions)
        return states

    def _sees_all(
        self, rows: Sequence[Row], spans: Sequence[tuple[int, int]], slots: int
    ) -> bool:
        """Return whether everything that is fed sees every slot."""
        if self.holes:
            return False
        if not self.causal:
            return all(row.length == slots for row in rows)
        return all(
            end == slots and first // self.size == (end - 1) // self.size
            for first, end in spans
        )

    def _see(self, part: Batch, place: Tensor, slots: int) -> Tensor:
        """Return who sees which slot, ``(b, 1, N, M)`` or ``(b, 1, 1, M)``."""
        there = pad(~part.pad, (0, slots - part.length))  # (b, M)
        if not self.causal:
            return there[:, None, None, :]
        block = torch.arange(slots, device=place.device) // self.size
        earlier = block <= (place // self.size).unsqueeze(-1)  # (b, N, M)
        return (earlier & there[:, None, :])[:, None]

    def _kept(self, slots: list[int]) -> tuple[Any, Callable[[Tensor], None]]:
        """Return the cache of some rows, and how what is written there is kept."""
        low, count = slots[0], len(slots)
        if slots == list(range(low, low + count)):
            if count == self.cache.rows:
                return self.cache, lambda _: None
            run = slice(low, low + count)
            keys = [tensor[run] for tensor in self.cache.keys]
            values = [tensor[run] for tensor in self.cache.values]
            return type(self.cache)(keys, values), lambda _: None
        chosen = torch.tensor(slots, device=self.cache.keys[0].device)
        copied = self.cache.select(chosen)

        def write_back(positions: Tensor) -> None:
            rows = torch.arange(count, device=positions.device)[:, None]
            for whole, part in (
                (self.cache.keys, copied.keys),
                (self.cache.values, copied.values),
            ):
                for kept, new in zip(whole, part, strict=True):
                    kept[chosen[:, None], :, positions] = new[rows, :, positions]

        return copied, write_back


def _index(numbers: Sequence[int], part: Batch) -> Tensor:
    return torch.tensor(numbers, device=part.tokens.device)


def _empty(backbone: Any, rows: int, canvas: Batch) -> Any:
    """Return an empty cache, with a slot to spare if rows may differ in length."""
    from mdlm_llada.nn.key_values import KeyValues

    weight = next(backbone.parameters())
    kind = weight.device.type
    low = torch.is_autocast_enabled(kind)
    return KeyValues.empty(
        backbone.architecture,
        rows,
        canvas.length + (rows > 1),
        device=weight.device,
        dtype=torch.get_autocast_dtype(kind) if low else weight.dtype,
    )


def has_holes(canvas: Batch) -> bool:
    """Return whether a row goes on behind padding."""
    return bool((canvas.pad[:, :-1] & ~canvas.pad[:, 1:]).any())
