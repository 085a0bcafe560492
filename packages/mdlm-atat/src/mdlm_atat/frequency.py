"""How rare a token is: its rank by frequency, counted in the training split.

Letters: B batch, L length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import DataError
from mdlm_core.protocols import DataSource

HIDDEN = 0.5
"""The rank of a masked position: the mean over the corpus, known to nobody."""
_ROWS = 256


class FrequencyPrior(nn.Module):
    """Rank tokens by how much of the corpus is more frequent than they are.

        f(v) = share of the corpus in tokens more frequent than v
             + half the share in tokens as frequent as v

    so that frequent tokens are near 0, rare ones near 1, those that were never met are
    1, and f is uniform over the corpus, with mean 1/2, whatever the vocabulary is.

    Tokens are counted by `prepare`, or when the ranks are first asked for. A checkpoint
    holds the ranks, and with them nothing is counted again. Every process counts the
    same rows.
    """

    rank: Tensor
    """``(V,)`` float32 in [0, 1]."""
    counted: Tensor
    """Scalar bool: whether `rank` is known."""

    def __init__(self, source: DataSource, *, tokens: int) -> None:
        """Set up; nothing is read yet.

        Args:
            source: where to count.
            tokens: how many free tokens to count at most; one epoch at most anyway.
        """
        super().__init__()
        self._source = source
        self._known = False
        self._tokens = tokens
        self.mask_id = source.tokenizer.mask_id
        self.register_buffer("rank", torch.zeros(source.tokenizer.vocab_size))
        self.register_buffer("counted", torch.tensor(False))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the rank of each of `tokens`, any shape, float32 in [0, 1].

        The mask token stands for a token that cannot be seen: its rank is `HIDDEN`.

        Raises:
            DataError: if the training split has no free token to count.
        """
        self.prepare()
        return self.rank[tokens]

    def prepare(self) -> None:
        """Count, unless the ranks are known.

        Raises:
            DataError: if the training split has no free token to count.
        """
        if not self._known:
            if not self.counted:
                self._count()
            self._known = True  # and not asked of the device again

    @torch.no_grad()
    def _count(self) -> None:
        """Fill the buffers from the training split."""
        vocab_size, left = len(self.rank), self._tokens
        counts = torch.zeros(vocab_size, dtype=torch.int64)
        for batch in one_epoch(self._source, tokens=self._tokens):
            found = batch.tokens[batch.free][:left]
            counts += torch.bincount(found, minlength=vocab_size)
            left -= len(found)
            if left <= 0:
                break
        if not counts.any():
            raise DataError(
                "the training split has no free token to rank by frequency; set "
                "masking.importance.frequency=0, or give other data"
            )
        rank = mid_rank(-counts, counts.double())
        rank[self.mask_id] = HIDDEN
        self.rank.copy_(rank)
        self.counted.fill_(True)


def one_epoch(source: DataSource, *, tokens: int) -> Iterator[Batch]:
    """Yield rows of the training split until an epoch is over.

    All of them but for a remainder smaller than the number of batches.

    Args:
        source: the data; read as by one process, with seed 0.
        tokens: how many are wanted; fewer rows are read at a time for fewer.
    """
    size = min(_ROWS, ceil(tokens / source.length))
    rows = source.size("train")
    if rows is not None:
        size = max(1, rows // ceil(rows / size))
    first = None
    for batch in source.batches("train", size=size, seed=0):
        first = batch.epoch if first is None else first
        if batch.epoch != first:
            return
        yield batch


def mid_rank(values: Tensor, weights: Tensor) -> Tensor:
    """Return each item's weighted rank, ``(n,)`` float64 in [0, 1].

    It is the share of the weight at smaller values, plus half of that at the same
    value. Its weighted mean is 1/2.

    Args:
        values: ``(n,)``, what is ranked.
        weights: ``(n,)`` float64, not negative and not all zero.
    """
    levels, level = torch.unique(values, return_inverse=True)
    mass = weights.new_zeros(len(levels)).index_add_(0, level, weights)
    mass = mass / mass.sum()
    return (mass.cumsum(0) - mass / 2)[level].clamp(0, 1)
