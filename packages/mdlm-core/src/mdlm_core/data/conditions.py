"""Data seen without the conditions of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mdlm_core.protocols import DataSource

from .batch import Batch


class WithoutConditions:
    """A source whose batches have no condition; all else is that of another source.

    Of pairs, whose second half is a condition, the first half alone is left.
    """

    def __init__(self, source: DataSource) -> None:
        """Take the source to see so."""
        self.source = source
        self.tokenizer = source.tokenizer
        self.length = source.length

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def size(self, split: str) -> int | None:
        """Return the rows of a split."""
        return self.source.size(split)

    def card(self) -> Mapping[str, object]:
        """Return what identifies the data."""
        return self.source.card()

    def batches(
        self,
        split: str,
        *,
        size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """Yield the batches of the source without their conditions."""
        for batch in self.source.batches(
            split, size=size, seed=seed, start=start, rank=rank, world=world
        ):
            yield replace(batch, condition={})
