"""Batches of prompts with answers, in an order that depends on the seed alone.

Letters: B rows in this process's part of a batch, L length, R rows of a split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.data.batch import Batch
from mdlm_core.data.source import check_request, share, shuffled
from mdlm_core.data.split import SPLITS
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Tokenizer
from mdlm_llada.config import ProcessedConfig, RowsConfig, TaskRowsConfig
from mdlm_llada.registry import Example

from .rows import Rows, collate


class RowSource:
    """Rows of a prompt and an answer, held in memory; a `protocols.DataSource`.

    A batch is as wide as the longest row of its global batch, so that every process
    has the same width; a row is ``[prompt | answer | padding]``, with its prompt and
    its padding frozen.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        splits: Mapping[str, Rows],
        config: RowsConfig,
        *,
        template: str = "none",
        card: Mapping[str, object] | None = None,
        examples: Mapping[str, Sequence[Example]] | None = None,
    ) -> None:
        """Take over the rows, which have at most `config.max_length` tokens each.

        Args:
            tokenizer: what made the tokens.
            splits: "train" and "validation", which may be empty.
            config: what is learned behind a row, and how long batches are.
            template: how prompts became text.
            card: more entries for the card.
            examples: what the rows of a split were made from, one for each.

        Raises:
            ConfigError: if rows with prompts are to be cut to random lengths.
            DataError: if there is no row to learn from.
        """
        if not len(splits["train"]):
            raise DataError("the training split has no rows; give more data")
        self.tokenizer = tokenizer
        self.template = template
        self.length = config.max_length
        self._rows = dict(splits)
        self._config = config
        self._extra = dict(card or {})
        self._examples = examples
        self._facts: dict[str, dict[str, object]] = {}
        if config.random_length and splits["train"].prompts.any():
            raise ConfigError(
                f"data.random_length is {config.random_length}, but there are rows "
                "with prompts, whose answers it would cut off; it is for text without "
                "prompts (prompt_length 0): set data.random_length=0"
            )

    def size(self, split: str) -> int:
        """Return the rows R of `split`."""
        check_request(split, 1, 0, 0, 1)
        return len(self._rows[split])

    def examples(self, split: str) -> Sequence[Example] | None:
        """Return what row i of `split` was made from, at place i; None if unknown."""
        check_request(split, 1, 0, 0, 1)
        return None if self._examples is None else self._examples[split]

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

        "train" has ``R // size`` global batches in an epoch, in an order decided by
        (seed, epoch); what does not fill the last batch waits for the next epoch.
        "validation" is in order and ends; its last batch may be short.

        Raises:
            DataError: at once, if the training rows do not fill one batch.
        """
        check_request(split, size, start, rank, world)
        rows = len(self._rows[split])
        if split == "validation":
            return self._in_order(size, start, rank, world)
        if rows < size:
            raise DataError(
                f"the training split has {rows} rows, and train.batch_size={size} asks "
                "for more in one batch; lower train.batch_size or give more data"
            )
        return self._shuffled(size, seed, start, rank, world)

    def _in_order(
        self, size: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        rows = np.arange(len(self._rows["validation"]))
        for first in range(start * size, len(rows), size):
            yield self._batch("validation", rows[first : first + size], rank, world)

    def _shuffled(
        self, size: int, seed: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        rows = len(self._rows["train"])
        per_epoch = rows // size
        epoch, index = divmod(start, per_epoch)
        while True:
            order = shuffled(rows, seed, epoch)
            for place in range(index, per_epoch):
                yield self._batch(
                    "train",
                    order[place * size : (place + 1) * size],
                    rank,
                    world,
                    epoch,
                    self._cut(seed, epoch * per_epoch + place),
                )
            epoch, index = epoch + 1, 0

    def _cut(self, seed: int, number: int) -> float | None:
        """Return where in (0, 1) of its width batch `number` is cut; None: nowhere."""
        chance = self._config.random_length
        if not chance:
            return None
        noise = Noise(seed).child("data", "random-length")
        u, where = noise.uniform(torch.tensor(number), 2).tolist()
        return where if u < chance else None

    def _batch(
        self,
        split: str,
        whole: NDArray[Any],
        rank: int,
        world: int,
        epoch: int = 0,
        cut: float | None = None,
    ) -> Batch:
        rows = self._rows[split]
        learned = self._learned(split, rows.lengths[whole], rows.prompts[whole])
        width = int(learned.max())
        if cut is not None:
            width = 1 + int(cut * width)  # uniform in 1 to the width
        return collate(
            rows,
            share(whole, rank, world),
            width=width,
            learned=np.minimum(share(learned, rank, world), width),
            eod_id=self.tokenizer.eod_id,
            pad_id=self.tokenizer.pad_id,
            epoch=epoch,
        )

    def _learned(
        self, split: str, lengths: NDArray[np.int64], prompts: NDArray[np.int32]
    ) -> NDArray[np.int64]:
        """Return how much of each row of a global batch is there, ends included.

        Ends up to the longest row are for training alone: what is measured on a row
        must not depend on the rows beside it.
        """
        if self._config.eos_pad == "loss_k":
            return np.minimum(lengths + self._config.eos_count, self.length)
        if self._config.eos_pad == "fixed":
            wanted = np.minimum(prompts + self._config.answer_length, self.length)
            return np.maximum(lengths, wanted)
        if self._config.eos_pad == "loss" and split == "train":
            return np.full_like(lengths, lengths.max())
        return lengths

    def card(self) -> dict[str, object]:
        """Return what identifies the data."""
        config = self._config
        return {
            **self._extra,
            "tokenizer": {
                "name": self.tokenizer.name,
                "vocab_size": self.tokenizer.vocab_size,
                "fingerprint": self.tokenizer.fingerprint(),
            },
            "template": self.template,
            "length": self.length,
            "eos_pad": config.eos_pad,
            "eos_count": config.eos_count if config.eos_pad == "loss_k" else 0,
            "answer_length": config.answer_length if config.eos_pad == "fixed" else 0,
            "random_length": config.random_length,
            "splits": {split: dict(self._split_card(split)) for split in SPLITS},
        }

    def _split_card(self, split: str) -> Mapping[str, object]:
        if split not in self._facts:
            rows = self._rows[split]
            self._facts[split] = {
                "rows": len(rows),
                "prompt_tokens": int(rows.prompts.sum()),
                "answer_tokens": int(rows.lengths.sum() - rows.prompts.sum()),
                "longest": int(rows.lengths.max()) if len(rows) else 0,
                "sha256": rows.sha256(),
            }
        return self._facts[split]


def build_task_rows(config: TaskRowsConfig) -> RowSource:
    """Return the data source of a task's examples."""
    from .examples import encode, read_examples

    return read_examples(
        config, config, name="llada-task", kind=RowSource, encoded=encode
    )


def build_processed(config: ProcessedConfig) -> RowSource:
    """Return the data source of JSON lines of token ids."""
    from .processed import read_source

    return read_source(config)
