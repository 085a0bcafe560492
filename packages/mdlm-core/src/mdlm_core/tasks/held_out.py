"""Which held-out rows are measured: all, or some spread evenly over the split."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, islice

import torch
from accelerate import PartialState
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import DataError
from mdlm_core.protocols import DataSource


def held_out(source: DataSource, rows: int, *, at_once: int) -> Iterator[Batch]:
    """Yield this process's part of global batches that hold `rows` rows or more.

    More only for a stream, and if there are no more than `rows`.

    Args:
        source: the data.
        rows: how many rows; 0 means all.
        at_once: rows of one process in a batch, at most.
    """
    state = PartialState()
    size, count = at_once * state.num_processes, None
    if rows:
        count = math.ceil(rows / size)
        size = max(math.ceil(rows / count), state.num_processes)
    total = source.size("validation")
    if rows and total is not None and rows < total:
        yield from _spread(source, rows, total, size)
        return
    batches = source.batches(
        "validation",
        size=size,
        seed=0,  # the order is fixed
        rank=state.process_index,
        world=state.num_processes,
    )
    yield from islice(batches, count)


def _spread(source: DataSource, rows: int, total: int, size: int) -> Iterator[Batch]:
    """Yield this process's part of `rows` of `total` rows, `size` at a time."""
    state = PartialState()
    rank, world = state.process_index, state.num_processes
    places = [(2 * i + 1) * total // (2 * rows) for i in range(rows)]
    for first in range(0, rows, size):
        group = places[first : first + size]
        mine = group[rank * len(group) // world : (rank + 1) * len(group) // world]
        for _, alike in groupby((_row(source, place) for place in mine), key=_shapes):
            yield _joined(list(alike))


def _row(source: DataSource, place: int) -> Batch:
    batches = source.batches("validation", size=1, seed=0, start=place)
    found = next(batches, None)
    if found is None or len(found) != 1:
        raise DataError(
            f"the validation split of {source.size('validation')} rows has no row "
            f"{place}; its size() must be the number of rows that batches() gives"
        )
    return found


def _shapes(row: Batch) -> object:
    """Return what rows must have in common to stand in one batch."""
    return (
        row.tokens.shape,
        None if row.positions is None else row.positions.shape,
        row.documents is None,
        {name: value.shape for name, value in row.condition.items()},
    )


def _joined(rows: list[Batch]) -> Batch:
    first = rows[0]
    return replace(
        first,
        tokens=torch.cat([row.tokens for row in rows]),
        frozen=torch.cat([row.frozen for row in rows]),
        pad=torch.cat([row.pad for row in rows]),
        sample_id=torch.cat([row.sample_id for row in rows]),
        positions=_cat([row.positions for row in rows]),
        documents=_cat([row.documents for row in rows]),
        condition={
            name: torch.cat([row.condition[name] for row in rows])
            for name in first.condition
        },
    )


def _cat(values: list[Tensor | None]) -> Tensor | None:
    there = [value for value in values if value is not None]
    return torch.cat(there) if there else None
