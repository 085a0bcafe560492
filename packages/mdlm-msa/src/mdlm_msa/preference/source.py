"""Batches of pairs of alignments: the winner's canvas, the loser's as a condition.

Letters: B pairs, L tokens of the longest winner of a global batch, K of the longest
loser.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.data.batch import Batch
from mdlm_core.data.source import check_request, share, shuffled
from mdlm_core.data.split import SPLITS
from mdlm_core.errors import DataError
from mdlm_core.protocols import Tokenizer
from mdlm_msa.config import PairsConfig
from mdlm_msa.layout import batch as on_canvases
from mdlm_msa.tokenizer import AlignmentTokenizer

from .pairs import Pair, read_pairs

_LOG = logging.getLogger(__name__)
_SIDE = ("tokens", "frozen", "pad", "positions")
LOSER = tuple(f"loser_{name}" for name in _SIDE)
"""The conditions that hold the loser's canvas: ``(B, K)`` tokens, frozen and pad, and
``(B, K, 2)`` positions."""


class PairSource:
    """Pairs held in memory; a `protocols.DataSource`. A row is a pair.

    The batch is over the winners' canvases, and its condition holds the losers'. A
    pair's `sample_id` is its number in the file.
    """

    def __init__(
        self, pairs: Sequence[Pair], config: PairsConfig, *, left_out: int = 0
    ) -> None:
        """Divide the pairs into those to learn from and those to measure on.

        Args:
            pairs: all of them short enough for `config.length`.
            config: length and share held out.
            left_out: how many were left out before, for the card.

        Raises:
            DataError: if there are not two pairs at least.
        """
        self.tokenizer: Tokenizer = AlignmentTokenizer()
        self.length = config.length
        self.config = config
        self.pairs = tuple(pairs)
        self.left_out = left_out
        self._sides = divide(self.pairs, config)

    def size(self, split: str) -> int:
        """Return the pairs of `split`."""
        check_request(split, 1, 0, 0, 1)
        return len(self._sides[split])

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
        """Yield this process's pairs of global batches; see `protocols.DataSource`.

        Raises:
            DataError: at once, if the pairs do not fill one batch.
        """
        check_request(split, size, start, rank, world)
        count = len(self._sides[split])
        if split == "train" and count < size:
            raise DataError(
                f"there {'is 1 pair' if count == 1 else f'are {count} pairs'} to learn "
                f"from, and train.batch_size={size} asks for more in one batch; lower "
                f"it with --set train.batch_size={count}, or give more pairs"
            )
        return self._numbered(split, size, seed, start, rank, world)

    def _numbered(
        self, split: str, size: int, seed: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        members = self._sides[split]
        if split == "validation":
            for first in range(start * size, len(members), size):
                yield self._batch(members[first : first + size], 0, rank, world)
            return
        per_epoch = len(members) // size
        epoch, index = divmod(start, per_epoch)
        while True:
            order = members[shuffled(len(members), seed, epoch)]
            for first in range(index * size, per_epoch * size, size):
                yield self._batch(order[first : first + size], epoch, rank, world)
            epoch, index = epoch + 1, 0

    def _batch(
        self, whole: NDArray[np.int64], epoch: int, rank: int, world: int
    ) -> Batch:
        """Return a part of a global batch; its width is that of the whole."""
        canvases = [self.pairs[i].canvases() for i in whole]
        ids = torch.from_numpy(whole)
        winners = on_canvases([pair[0] for pair in canvases], ids, epoch)
        losers = on_canvases([pair[1] for pair in canvases], ids, epoch)
        condition = {f"loser_{name}": getattr(losers, name) for name in _SIDE}
        mine = share(np.arange(len(whole)), rank, world)
        return replace(winners, condition=condition).select(torch.from_numpy(mine))

    def card(self) -> Mapping[str, object]:
        """Return what identifies the data."""
        return {
            "name": "msa-preferences",
            "path": self.config.path,
            "tokenizer": {
                "name": self.tokenizer.name,
                "vocab_size": self.tokenizer.vocab_size,
                "fingerprint": self.tokenizer.fingerprint(),
            },
            "length": self.length,
            "left_out": self.left_out,
            "splits": {split: self._split_card(split) for split in SPLITS},
        }

    def _split_card(self, split: str) -> Mapping[str, object]:
        members = [self.pairs[i] for i in self._sides[split]]
        digest = sha256()
        for pair in members:
            for rows in (pair.query, pair.prompt, pair.winner, pair.loser):
                digest.update(repr(rows.shape).encode() + rows.tobytes())
        return {
            "pairs": len(members),
            "queries": len({pair.query.tobytes() for pair in members}),
            "sha256": digest.hexdigest(),
        }


def divide(pairs: Sequence[Pair], config: PairsConfig) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the pairs of each split.

    All pairs of a query are on the same side. The queries are put in an order by a
    hash of (seed, query), and the first share of them, one at least, is held out. If
    there is only one query its pairs are divided in the same way.

    Raises:
        DataError: if there are not two pairs at least.
    """
    if len(pairs) < 2:
        raise DataError(
            f"there {'is 1 pair' if pairs else 'are no pairs'} left to use; learning "
            f"takes one and measuring another: give more, raise data.length, or lower "
            f"data.min_difference"
        )
    keys = [pair.query.tobytes() for pair in pairs]
    if len(set(keys)) == 1:
        keys = [f"{number}".encode() for number in range(len(pairs))]

    def place(key: bytes) -> bytes:
        return sha256(f"{config.seed}:".encode() + key).digest()

    order = sorted(set(keys), key=place)
    count = min(max(1, round(config.holdout * len(order))), len(order) - 1)
    held = set(order[:count])
    out = np.array([key in held for key in keys])
    return {"train": np.flatnonzero(~out), "validation": np.flatnonzero(out)}


def usable(pairs: Iterable[Pair], config: PairsConfig) -> tuple[list[Pair], int]:
    """Return the pairs that fit and differ enough, and how many do not.

    The first process says so.
    """
    kept: list[Pair] = []
    long = close = 0
    for pair in pairs:
        if pair.tokens > config.length:
            long += 1
        elif (
            pair.score_difference is not None
            and pair.score_difference < config.min_difference
        ):
            close += 1
        else:
            kept.append(pair)
    total = len(kept) + long + close
    if os.environ.get("RANK", "0") == "0":
        for count, why in (
            (long, f"have more than data.length={config.length} tokens"),
            (close, f"differ by less than data.min_difference={config.min_difference}"),
        ):
            if count:
                _LOG.warning(
                    "%s of %s pairs %s and are left out",
                    f"{count:,}",
                    f"{total:,}",
                    why,
                )
    return kept, long + close


def build(config: PairsConfig, **context: Any) -> PairSource:
    """Return the data source of a file of pairs, or of synthetic families.

    Raises:
        DataError: which line is no pair, or that too few are left.
    """
    del context
    if config.path:
        pairs: Iterable[Pair] = read_pairs(config.path)
    else:
        from .making import synthetic_pairs

        pairs = synthetic_pairs(config.length, config.seed)
    kept, left_out = usable(pairs, config)
    return PairSource(kept, config, left_out=left_out)
