"""Where the blocks of a row lie, and how many steps each of them gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .rules import by_count


@dataclass
class Row:
    """A row that is being decoded, and how far it is."""

    index: int
    """In the canvas."""
    length: int
    """Positions up to the last one that is not padding."""
    spans: list[tuple[int, int]]
    """The blocks that have something to fill, [first, end)."""
    masks: list[int]
    """Positions to fill in each of them."""
    steps: list[int]
    """Steps of each of them."""
    block: int = 0
    """The one that is being filled."""
    step: int = 0
    """Evaluations made in it."""
    turn: int = 0
    """Evaluations made in all; it keys the draws."""
    edits: int = 0
    """Evaluations made after it was full."""
    settled: int = 0
    """Positions at the beginning that a block cache has seen in their last state."""
    slot: int = field(default=0)
    """Its row in the cache."""

    @property
    def span(self) -> tuple[int, int]:
        """The block that is being filled, [first, end)."""
        return self.spans[self.block]

    @property
    def count(self) -> int:
        """Positions to commit now, by count."""
        return by_count(self.masks[self.block], self.steps[self.block], self.step)

    @property
    def done(self) -> bool:
        """Whether all blocks are full."""
        return self.block >= len(self.spans)

    def next_block(self) -> None:
        """Go on to the next block."""
        self.block += 1
        self.step = self.edits = 0


def rows_of(
    todo: Tensor, pad: Tensor, size: int, steps: int, *, aligned: bool
) -> list[Row]:
    """Return the rows that have something to fill.

    Args:
        todo: ``(B, L)`` bool, the positions to fill.
        pad: ``(B, L)`` bool.
        size: S.
        steps: of all blocks together. Each block gets a share by its positions to
            fill, so full blocks equal ones, and at least one; what does not divide
            goes to the first ones.
        aligned: whether blocks are counted from position 0, as a block-diffusion
            model has them, instead of from the row's first position to fill.
    """
    rows = []
    there = (~pad).cpu()
    for index, marks in enumerate(todo.cpu()):
        places: list[int] = marks.nonzero().squeeze(1).tolist()
        if not places:
            continue
        length = int(there[index].nonzero().amax()) + 1
        origin = 0 if aligned else places[0]
        masks: dict[int, int] = {}
        for place in places:
            number = (place - origin) // size
            masks[number] = masks.get(number, 0) + 1
        spans = [
            (origin + n * size, min(origin + (n + 1) * size, length)) for n in masks
        ]
        counts = list(masks.values())
        rows.append(Row(index, length, spans, counts, _shares(counts, steps)))
    return rows


def _shares(counts: list[int], steps: int) -> list[int]:
    """Return the steps of blocks with so many positions to fill."""
    total, shares, before, seen = sum(counts), [], 0, 0
    for count in counts:
        seen += count
        until = -(-steps * seen // total)  # ceil
        shares.append(max(1, until - before))
        before = until
    return shares


def kept_columns(rows: Sequence[Row], firsts: Sequence[int], shift: int) -> slice:
    """Return which of the fed positions hold a state of a block in work."""
    low = min(
        max(row.span[0] - shift, 0) - first
        for row, first in zip(rows, firsts, strict=True)
    )
    high = max(
        row.span[1] - shift - first for row, first in zip(rows, firsts, strict=True)
    )
    return slice(low, max(high, low + 1))
