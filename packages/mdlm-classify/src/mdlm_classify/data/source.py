"""Batches of labelled texts, in an order that depends on the seed alone.

Letters: B rows in this process's part of a batch, L length, R rows of a split, N texts,
C classes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdlm_classify.config import LabelledTextConfig
from mdlm_core.data.batch import Batch
from mdlm_core.data.source import check_request, share, shuffled
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Tokenizer

from .document import Document
from .prepare import Prepared, prepare
from .rows import Places, Rows, by_length
from .split import places
from .texts import LabelledTexts


class LabelledSource:
    """Windows of texts with the class of each; a `protocols.DataSource`.

    A row is ``[window | padding]`` with its padding frozen, as wide as the longest row
    of its global batch. ``condition["label"]`` is ``(B,)``, -1 for a text without a
    label. The windows of a text are rows of their own, all of its class.
    """

    def __init__(self, prepared: Prepared, config: LabelledTextConfig) -> None:
        """Take over texts that were read, divided and encoded."""
        self.tokenizer: Tokenizer = prepared.tokenizer
        self.length = config.length
        self.labels = prepared.labels
        self._rows: Mapping[str, Rows] = prepared.splits
        self._unlabelled = prepared.unlabelled
        self._card = prepared.card
        self.dropped = prepared.dropped
        self._share = config.unlabelled_share if len(prepared.unlabelled) else 0.0

    @classmethod
    def from_texts(
        cls,
        train: LabelledTexts,
        held_out: LabelledTexts | None,
        config: LabelledTextConfig,
        *,
        unlabelled: Sequence[str] = (),
        tokenizer: Tokenizer | None = None,
        card: Mapping[str, object] | None = None,
    ) -> LabelledSource:
        """Divide and encode texts.

        Args:
            train: the texts to learn from, with labels.
            held_out: the texts to measure on; None takes ``config.holdout`` of
                `train`.
            config: how.
            unlabelled: texts for the null class.
            tokenizer: one that is there already, such as that of a model that learns
                on; None builds ``config.tokenizer`` from the training texts.
            card: more entries for the card.

        Raises:
            DataError: if a split is empty, there is one class only, or a label is not
                among the classes.
        """
        prepared = prepare(train, held_out, config, unlabelled, tokenizer, card or {})
        return cls(prepared, config)

    def size(self, split: str) -> int:
        """Return the rows R of `split` that have labels."""
        check_request(split, 1, 0, 0, 1)
        return len(self._rows[split])

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the batches in which each row with a label comes once."""
        labelled, unlabelled = self._mixture(batch_size)
        if labelled:
            return len(self._rows["train"]) // labelled
        return len(self._unlabelled) // unlabelled

    def _mixture(self, size: int) -> tuple[int, int]:
        """Return how many rows of a batch have labels, and how many have none."""
        unlabelled = round(size * self._share)
        if 0 < self._share < 1:  # at least one of each
            unlabelled = min(max(unlabelled, 1), size - 1)
        return size - unlabelled, unlabelled

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
        """Yield this process's rows of global batch `start`, `start + 1`, ...

        In an epoch of "train" each row with a label comes once, but for those that do
        not fill the last batch, in batches of rows of about the same length, in an
        order decided by (seed, epoch); rows without labels go round on their own. In
        "validation" rows are in order, and the last batch may be short.

        Raises:
            DataError: at once, if the training rows do not fill one batch.
        """
        check_request(split, size, start, rank, world)
        if split == "validation":
            return self._in_order(size, start, rank, world)
        if not self.steps_per_epoch(size):
            labelled, unlabelled = self._mixture(size)
            rows = self._rows["train"] if labelled else self._unlabelled
            raise DataError(
                f"there are {len(rows)} training rows"
                f"{'' if labelled else ' without labels'}, and a batch takes "
                f"{labelled or unlabelled}; lower train.batch_size or give more texts"
            )
        return self._shuffled(size, seed, start, rank, world)

    def _in_order(
        self, size: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        rows = np.arange(self.size("validation"), dtype=np.int64)
        for first in range(start * size, len(rows), size):
            yield self._batch(
                "validation", rows[first : first + size], _NONE, rank, world
            )

    def _shuffled(
        self, size: int, seed: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        steps = self.steps_per_epoch(size)
        epoch, index = divmod(start, steps)
        while True:
            batches = self._epoch(size, steps, seed, epoch)
            for labelled, unlabelled in batches[index:]:
                yield self._batch("train", labelled, unlabelled, rank, world, epoch)
            epoch, index = epoch + 1, 0

    def _epoch(
        self, size: int, steps: int, seed: int, epoch: int
    ) -> list[tuple[Places, Places]]:
        """Return the rows of each batch of an epoch, those without labels counted on.

        Row r of the texts without labels that comes for the k-th time in an epoch is
        ``r + k * R``, so that its mask is another one.
        """
        labelled, unlabelled = self._mixture(size)
        parts: list[list[Places]] = []
        if labelled:
            rows = self._rows["train"]
            order = shuffled(len(rows), seed, epoch)[: steps * labelled]
            parts.append([order[b] for b in by_length(rows.sizes[order], labelled)])
        else:
            parts.append([_NONE] * steps)
        if unlabelled:
            order = self._round(steps * unlabelled, seed, epoch)
            sizes = self._unlabelled.sizes[order % len(self._unlabelled)]
            parts.append([order[b] for b in by_length(sizes, unlabelled)])
        else:
            parts.append([_NONE] * steps)
        order = _order(steps, seed, epoch)
        return [(parts[0][step], parts[1][step]) for step in order.tolist()]

    def _round(self, count: int, seed: int, epoch: int) -> Places:
        """Return the next `count` rows without labels, on from the epoch before."""
        rows = len(self._unlabelled)
        first = epoch * count // rows
        last = ((epoch + 1) * count - 1) // rows
        noise = Noise(seed).child("classify", "unlabelled").integer()
        passes = [
            shuffled(rows, noise, number) + (number - first) * rows
            for number in range(first, last + 1)
        ]
        begin = epoch * count - first * rows
        return np.concatenate(passes)[begin : begin + count]

    def _batch(
        self,
        split: str,
        labelled: Places,
        unlabelled: Places,
        rank: int,
        world: int,
        epoch: int = 0,
    ) -> Batch:
        rows, free, n = self._rows[split], self._unlabelled, len(labelled)
        where = unlabelled % max(len(free), 1)
        width = int(
            max(rows.sizes[labelled].max(initial=0), free.sizes[where].max(initial=0))
        )
        mine: NDArray[Any] = share(np.arange(n + len(unlabelled)), rank, world)
        mine_labelled, mine_free = mine[mine < n], mine[mine >= n] - n
        tokens = torch.full((len(mine), width), self.tokenizer.pad_id)
        pad = torch.ones((len(mine), width), dtype=torch.bool)
        rows.fill(tokens, pad, labelled[mine_labelled], 0)
        free.fill(tokens, pad, where[mine_free], len(mine_labelled))
        labels = np.full(len(mine), -1, dtype=np.int64)
        labels[: len(mine_labelled)] = rows.labels(labelled[mine_labelled])
        ids = np.concatenate(
            [labelled[mine_labelled], len(rows) + unlabelled[mine_free]]
        )
        return Batch.of(
            tokens,
            pad=pad,
            sample_id=torch.from_numpy(ids),
            condition={"label": torch.from_numpy(labels)},
            epoch=epoch,
        )

    def counts(self) -> Tensor:
        """Return ``(C + 1, V)`` float64: how often each id stands in training texts.

        One row for each class, then one for all texts, those without labels included.
        """
        size = self.tokenizer.vocab_size
        found = self._rows["train"].counts(len(self.labels), size)
        more = self._unlabelled.counts(0, size)[0]
        found[-1] = more if self._share == 1 else found[-1] + more
        return torch.from_numpy(found)

    def class_sizes(self) -> Tensor:
        """Return ``(C,)`` int64: the training texts of each class."""
        codes = self._rows["train"].codes
        sizes = np.bincount(codes, minlength=len(self.labels)).astype(np.int64)
        return torch.from_numpy(sizes)

    def documents(self, split: str, count: int = 0) -> tuple[list[Document], Tensor]:
        """Return N texts of `split` as they are scored, and their classes ``(N,)``.

        Args:
            split: "train" or "validation".
            count: that many texts, spread evenly; 0 means all.
        """
        check_request(split, 1, 0, 0, 1)
        rows = self._rows[split]
        mask_id = self.tokenizer.mask_id
        chosen = places(rows.texts, count)
        found = [rows.document(text, mask_id) for text in chosen]
        return found, torch.from_numpy(rows.codes[chosen])

    def completed(self, config: LabelledTextConfig) -> LabelledTextConfig:
        """Return the settings with the classes that were found."""
        return replace(config, labels=self.labels)

    def card(self) -> dict[str, object]:
        """Return what identifies the data, and what was left out of it."""
        return dict(self._card)


_NONE: Places = np.zeros(0, dtype=np.int64)


def _order(steps: int, seed: int, epoch: int) -> Places:
    return shuffled(steps, Noise(seed).child("classify", "batches").integer(), epoch)


def build(config: LabelledTextConfig) -> LabelledSource:
    """Return the data source that the settings describe."""
    from .prepare import read

    train, held_out, unlabelled, card = read(config)
    return LabelledSource.from_texts(
        train, held_out, config, unlabelled=unlabelled, card=card
    )
