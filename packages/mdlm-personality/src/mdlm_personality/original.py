"""The original's data loaders and block, by their names.

Training here reads batches of `data.source`; these show the same rows as mappings of
tensors, for those who know them so. Letters: B rows, L tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mdlm_core.catalog import load_catalog
from mdlm_core.config.schema import Component
from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError

from .conditions import KNOWN, VALUES
from .config import PersonaCorpusConfig, PersonaTextConfig
from .data.source import PersonaSource
from .nn.personality_dit import PersonalityBlock, PersonalityDiT
from .traits import TRAITS

Item = dict[str, Tensor]

PersonalityDiTBlock = PersonalityBlock
"""A block of `PersonalityDiT`."""


class MDLMPANDORADataset(Dataset[Item]):
    """Rows of texts with the traits of their authors.

    An item has ``input_ids`` and ``attention_mask`` (0 where nothing is), each
    ``(L,)`` int64, ``personality`` ``(5,)`` float32 in [0, 1], and ``known`` ``(5,)``
    bool, false where a trait is not known; its personality is 0 then and means nothing.
    No author is in two splits.
    """

    def __init__(
        self,
        path: Path | str = "",
        split: str = "train",
        max_length: int = 1024,
        *,
        source: PersonaSource | None = None,
        **settings: Any,
    ) -> None:
        """Read texts with traits.

        Args:
            path: a file, or the folder of PANDORA's two files; empty for invented
                persons.
            split: "train" or "validation".
            max_length: tokens of a row.
            source: what was read already, instead of all others.
            settings: others of `PersonaTextConfig`, or of `PersonaCorpusConfig`.
        """
        if source is None:
            source = read(path, max_length=max_length, **settings)
        self.source = source
        self.split = split
        self._size = source.size(split)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        batch = self.source.rows(self.split, [index % len(self)])
        return {name: value[0] for name, value in as_item(batch).items()}


class _Batches(IterableDataset[Item]):
    """Batches of a split; the training rows are shuffled anew in every epoch."""

    def __init__(self, source: PersonaSource, split: str, size: int, seed: int) -> None:
        self.source = source
        self.split = split
        self.size = size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        if self.split == "train":
            return self.source.steps_per_epoch(self.size)
        return (self.source.size(self.split) + self.size - 1) // self.size

    def __iter__(self) -> Iterator[Item]:
        count, start = len(self), 0
        if self.split == "train":
            start, self.epoch = self.epoch * count, self.epoch + 1
        batches = self.source.batches(
            self.split, size=self.size, seed=self.seed, start=start
        )
        for _ in range(count):
            yield as_item(next(batches))


def create_mdlm_dataloaders(
    path: Path | str = "",
    batch_size: int = 32,
    max_length: int = 1024,
    *,
    seed: int = 0,
    **settings: Any,
) -> tuple[DataLoader[Item], DataLoader[Item]]:
    """Return loaders of the training and of the validation rows.

    They yield what items of `MDLMPANDORADataset` have, with a first dimension B. A
    training batch is full; the last validation batch may be short.

    Args:
        path: see `MDLMPANDORADataset`.
        batch_size: B.
        max_length: tokens of a row.
        seed: decides the order.
        settings: see `MDLMPANDORADataset`.

    Raises:
        UsageError: if there are fewer training rows than in a batch.
    """
    source = read(path, max_length=max_length, **settings)
    rows = source.size("train")
    if not 1 <= batch_size <= rows:
        raise UsageError(
            f"batch_size is {batch_size}, and there are {rows} training rows; give 1 "
            f"to {rows}"
        )
    train, validation = (
        DataLoader(_Batches(source, split, batch_size, seed), batch_size=None)
        for split in ("train", "validation")
    )
    return train, validation


def read(path: Path | str = "", *, max_length: int, **settings: Any) -> PersonaSource:
    """Return the source behind the loaders; see `MDLMPANDORADataset`."""
    settings["length"] = max_length
    config: PersonaTextConfig | PersonaCorpusConfig = (
        PersonaTextConfig(path=str(path), **settings)
        if str(path)
        else PersonaCorpusConfig(**settings)
    )
    name = "persona-text" if str(path) else "persona-corpus"
    source: PersonaSource = load_catalog().build(
        "dataset", Component(name=name, config=config)
    )
    return source


def as_item(batch: Batch) -> Item:
    """Return a batch as the original's trainers see it."""
    count = len(TRAITS)
    return {
        "input_ids": batch.tokens,
        "attention_mask": (~batch.pad).long(),
        "personality": batch.condition[VALUES][:, :count],
        "known": batch.condition[KNOWN][:, :count],
    }


__all__ = [
    "MDLMPANDORADataset",
    "PersonalityDiT",
    "PersonalityDiTBlock",
    "create_mdlm_dataloaders",
]
