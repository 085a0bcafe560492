"""Batches from packed documents, in an order that depends on the seed alone.

Letters: B rows in this process's part of a batch, L length, R rows of a split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.config.components import PackingConfig, TextConfig
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Tokenizer

from .batch import Batch
from .packing import Packed, pack
from .split import SPLITS, SplitFacts, survey
from .tokenizers import build_tokenizer


def check_request(split: str, size: int, start: int, rank: int, world: int) -> None:
    """Refuse a request for batches that cannot be served."""
    if split not in SPLITS:
        raise DataError(f"there is no split '{split}'; there are train and validation")
    if size < world:
        raise DataError(
            f"a batch of {size} rows cannot be shared by {world} processes; raise "
            "train.batch_size or start fewer processes"
        )
    if start < 0 or not 0 <= rank < world:
        raise DataError(
            f"batch {start} of process {rank} of {world} does not exist; both count "
            "from 0"
        )


def share(rows: NDArray[Any], rank: int, world: int) -> NDArray[Any]:
    """Return the part of a global batch that belongs to process `rank`."""
    return rows[rank * len(rows) // world : (rank + 1) * len(rows) // world]


class PackedSource:
    """Rows of packed documents, held in memory; a `protocols.DataSource`.

    The training split drops what does not fill its last row, once and for all; the
    validation split keeps it as a padded row, so that a bound covers every held-out
    token.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        splits: Mapping[str, Packed],
        facts: Mapping[str, SplitFacts],
        *,
        length: int,
        packing: PackingConfig | None = None,
        card: Mapping[str, object] | None = None,
    ) -> None:
        """Cut the packed splits into rows of `length`.

        Args:
            tokenizer: what made the tokens.
            splits: "train" and "validation".
            facts: what each holds as text.
            length: L.
            packing: whether documents are separated and isolated.
            card: more entries for the card.

        Raises:
            DataError: if the training split does not fill one row.
        """
        self.tokenizer = tokenizer
        self.length = length
        self.packing = packing or PackingConfig()
        self._packed = dict(splits)
        self._facts = dict(facts)
        self._extra = dict(card or {})
        tokens = len(self._packed["train"].tokens)
        if tokens < length:
            raise DataError(
                f"the training split fills no row: its {facts['train'].documents} "
                f"documents hold {tokens} tokens, and data.length={length}; lower "
                "data.length or give more text"
            )
        self._rows = {
            split: packed.cut(
                length, pad_id=tokenizer.pad_id, remainder=split == "validation"
            )
            for split, packed in self._packed.items()
        }

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[str],
        config: TextConfig,
        *,
        card: Mapping[str, object] | None = None,
        cache: Path | None = None,
    ) -> PackedSource:
        """Split, tokenise and pack `documents`.

        Args:
            documents: texts; read two or three times, so not an iterator.
            config: length, tokenizer, packing and held-out share.
            card: more entries for the card, for example the name of the data.
            cache: the cache folder; the default is `cache_folder()`.

        Raises:
            DataError: if there is no text, a split is empty or too short.
        """
        found = survey(documents, config.holdout)
        # Characters are taken from all text, so that all of it can be encoded; merges
        # are learned from the training text alone.
        known = (
            found.select(documents, "train")
            if config.tokenizer.startswith("bpe:")
            else documents
        )
        tokenizer = build_tokenizer(config.tokenizer, known, cache)
        splits = {
            split: pack(
                tokenizer,
                found.select(documents, split),
                found.facts[split],
                eod=config.packing.eod,
                cache=cache,
            )
            for split in SPLITS
        }
        more = {"holdout": config.holdout, "empty_documents": found.empty}
        return cls(
            tokenizer,
            splits,
            found.facts,
            length=config.length,
            packing=config.packing,
            card={**more, **(card or {})},
        )

    def size(self, split: str) -> int:
        """Return the rows R of `split`."""
        check_request(split, 1, 0, 0, 1)
        return len(self._rows[split])

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

        "train" has ``R // size`` global batches in an epoch; in each epoch the rows
        stand in another order, decided by (seed, epoch), and what does not fill the
        last batch waits for the next epoch. "validation" is in order; its last batch
        may be short, and shorter than the number of processes, so that a process may
        get a batch without rows: each gets the same number of batches.

        Raises:
            DataError: at once, if the training rows do not fill one batch.
        """
        check_request(split, size, start, rank, world)
        rows = len(self._rows[split])
        if split == "validation":
            return self._in_order(size, start, rank, world)
        if rows < size:
            raise DataError(
                f"the training split has {rows} rows of {self.length} tokens, and "
                f"train.batch_size={size} asks for more in one batch; lower "
                "train.batch_size or data.length, or give more text"
            )
        return self._shuffled(size, seed, start, rank, world)

    def _in_order(
        self, size: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        rows = np.arange(len(self._rows["validation"]))
        for first in range(start * size, len(rows), size):
            yield self._batch(
                "validation", share(rows[first : first + size], rank, world)
            )

    def _shuffled(
        self, size: int, seed: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        per_epoch = len(self._rows["train"]) // size
        epoch, index = divmod(start, per_epoch)
        while True:
            order = shuffled(len(self._rows["train"]), seed, epoch)
            for first in range(index * size, per_epoch * size, size):
                rows = share(order[first : first + size], rank, world)
                yield self._batch("train", rows, epoch)
            epoch, index = epoch + 1, 0

    def _batch(self, split: str, rows: NDArray[Any], epoch: int = 0) -> Batch:
        packed = self._packed[split]
        tokens = torch.from_numpy(self._rows[split][rows].astype(np.int64))
        places = rows[:, None] * self.length + np.arange(self.length)  # (B, L)
        documents = None
        if self.packing.isolate:
            owner = np.searchsorted(packed.ends, places, side="right")
            documents = torch.from_numpy(owner.astype(np.int64))
        return Batch.of(
            tokens,
            pad=torch.from_numpy(places >= len(packed.tokens)),
            sample_id=torch.from_numpy(rows.astype(np.int64)),
            documents=documents,
            epoch=epoch,
        )

    def card(self) -> dict[str, object]:
        """Return what identifies the data.

        `bytes_per_token` is the UTF-8 bytes of a split's text over its tokens, end
        tokens included: bits per byte = nats per token / (ln 2 * bytes_per_token).
        """
        return {
            **self._extra,
            "tokenizer": {
                "name": self.tokenizer.name,
                "vocab_size": self.tokenizer.vocab_size,
                "fingerprint": self.tokenizer.fingerprint(),
            },
            "length": self.length,
            "eod": self.packing.eod,
            "isolate": self.packing.isolate,
            "splits": {split: self._split_card(split) for split in SPLITS},
        }

    def _split_card(self, split: str) -> dict[str, object]:
        facts, tokens = self._facts[split], len(self._packed[split].tokens)
        return {
            "documents": facts.documents,
            "rows": len(self._rows[split]),
            "tokens": tokens,
            "bytes": facts.bytes,
            "bytes_per_token": facts.bytes / tokens,
            "sha256": facts.sha256,
        }


def shuffled(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of `rows` rows in an epoch: a sort of one number per row."""
    keys = Noise(seed).child("data", "order", epoch).uniform(torch.arange(rows), 1)
    order: NDArray[np.int64] = np.argsort(keys[:, 0].numpy(), kind="stable")
    return order
