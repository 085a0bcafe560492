"""Windows of texts as rows, and the order in which rows are learned from.

Letters: N texts, R rows, B batch, L length, V vocabulary, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdlm_core.protocols import Tokenizer

from .document import Document, of_ids

Places = NDArray[np.int64]

POOL = 50
"""Batches among which rows are sorted by length."""


def encode_all(tokenizer: Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    """Return the ids of each text, all at once where the tokenizer can."""
    many = getattr(tokenizer, "encode_many", None)
    if many is None:
        return [tokenizer.encode(text) for text in texts]
    texts = list(texts)
    found: list[list[int]] = many(texts) if texts else []
    return found


@dataclass(frozen=True, slots=True)
class Rows:
    """The ids of N texts one after the other, and the R windows cut from them."""

    ids: NDArray[np.int32]
    ends: Places
    """``(N + 1,)``: text i has the ids from entry i to entry i + 1."""
    codes: Places
    """``(N,)``: the class of each text, -1 for none."""
    length: int
    """L."""
    starts: Places
    """``(R,)``: where each row begins in `ids`."""
    sizes: Places
    """``(R,)``: its ids, 1 to L."""
    owner: Places
    """``(R,)``: the text that it is of."""

    @classmethod
    def cut(cls, texts: list[list[int]], codes: Places, length: int) -> Rows:
        """Cut each text into consecutive windows; a text without ids has none."""
        counts = np.array([len(ids) for ids in texts], dtype=np.int64)
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        windows = -(-counts // length)
        owner = np.repeat(np.arange(len(texts), dtype=np.int64), windows)
        before = np.concatenate([[0], np.cumsum(windows)])[:-1]
        offset = (np.arange(len(owner)) - before[owner]) * length
        starts = ends[:-1][owner] + offset
        flat = np.fromiter(chain.from_iterable(texts), np.int32, int(ends[-1]))
        sizes = np.minimum(length, ends[1:][owner] - starts)
        return cls(flat, ends, codes, length, starts, sizes, owner)

    def __len__(self) -> int:
        """R."""
        return len(self.starts)

    @property
    def texts(self) -> int:
        """N."""
        return len(self.codes)

    def labels(self, rows: Places) -> Places:
        """Return the class of each of `rows`."""
        return self.codes[self.owner[rows]]

    def fill(self, tokens: Tensor, pad: Tensor, rows: Places, at: int) -> None:
        """Write `rows` into a batch ``(B, L)``, beginning with its row `at`."""
        for place, row in enumerate(rows.tolist(), start=at):
            start, size = self.starts[row], int(self.sizes[row])
            found = self.ids[start : start + size].astype(np.int64)
            tokens[place, :size] = torch.from_numpy(found)
            pad[place, :size] = False

    def counts(self, classes: int, vocab_size: int) -> NDArray[np.float64]:
        """Return ``(C + 1, V)``: how often each id stands in each class, and in all."""
        found = np.zeros((classes + 1, vocab_size))
        owner = np.repeat(self.codes, np.diff(self.ends))
        for code in range(classes):
            found[code] = np.bincount(self.ids[owner == code], minlength=vocab_size)
        found[classes] = np.bincount(self.ids, minlength=vocab_size)
        return found

    def document(self, text: int, mask_id: int) -> Document:
        """Return the text `text` as it is scored."""
        ids = self.ids[self.ends[text] : self.ends[text + 1]].tolist()
        return of_ids(ids, length=self.length, mask_id=mask_id)


def by_length(sizes: Places, size: int) -> list[Places]:
    """Cut places into batches of `size` with rows of about the same length.

    The places are sorted inside pools of `POOL` batches; what does not fill a batch
    is left out. Equal lengths keep their order.

    Args:
        sizes: the length of each place, in the order of an epoch.
        size: rows of a batch.
    """
    batches: list[Places] = []
    whole = len(sizes) // size * size
    for first in range(0, whole, POOL * size):
        pool = np.arange(first, min(first + POOL * size, whole), dtype=np.int64)
        pool = pool[np.argsort(sizes[pool], kind="stable")]
        batches += np.split(pool, len(pool) // size)
    return batches
