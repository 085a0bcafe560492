"""An n-gram model that judges samples: interpolated Kneser-Ney, in numpy.

Kneser and Ney, 1995, in the interpolated form of Chen and Goodman, 1999, with one
discount for each order. Letters: R rows, L length, V vocabulary, n the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError, UsageError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DISCOUNTS = (0.1, 0.9)
"""Bounds of a discount, where counts of one and two say little."""


@dataclass(frozen=True, slots=True)
class _Order:
    """What is known about n-grams of one length n = m + 1."""

    contexts: Ints
    """``(C,)`` sorted codes of the contexts of m tokens."""
    grams: Ints
    """``(G,)`` sorted codes, context * B + token."""
    counts: Floats
    """``(G,)``."""
    total: Floats
    """``(C,)`` the counts of a context's n-grams together."""
    kinds: Floats
    """``(C,)`` how many there are."""
    discount: float


class NGramJudge:
    """p(token | the n - 1 tokens before it in the row), smoothed.

    With a the count of an n-gram, and c its context,

        p(w | c) = (max(a(cw) - D, 0) + D kinds(c) p(w | c')) / a(c),

    where c' is c without its first token, and p(w | c) = p(w | c') for a context that
    was never met. The counts of the longest n-grams are how often they occur; of the
    others, in how many different tokens' wake. D = n1 / (n1 + 2 n2) from the numbers
    of n-grams counted once and twice, held within `DISCOUNTS`. Below all is 1 / V'
    for the V' tokens that are no mask. In front of a row stand tokens of a kind of
    their own, and n-grams that begin there keep their plain counts.
    """

    def __init__(self, orders: list[_Order], *, vocab_size: int, mask_id: int) -> None:
        """See `train`."""
        self._orders = orders
        self.vocab_size = vocab_size
        self.mask_id = mask_id

    @property
    def order(self) -> int:
        """N of the longest n-grams."""
        return len(self._orders)

    @classmethod
    def train(
        cls,
        rows: Ints,
        *,
        vocab_size: int,
        mask_id: int,
        order: int = 5,
        keep: NDArray[np.bool_] | None = None,
    ) -> NGramJudge:
        """Count the n-grams of a corpus.

        Args:
            rows: ``(R, L)`` token ids.
            vocab_size: V, mask included.
            mask_id: the mask, which does not occur.
            order: n.
            keep: ``(R, L)`` which tokens are counted; those before them are their
                context in any case. All if not given.

        Raises:
            UsageError: if the order is not positive.
            DataError: if there is nothing to count, or an id is out of range or the
                mask.
        """
        if order < 1:
            raise UsageError(f"the judge's order is {order}; it must be at least 1")
        keep = np.ones(rows.shape, dtype=bool) if keep is None else keep
        if not keep.any():
            raise DataError("the corpus has no token to count for the n-gram judge")
        _check(rows[keep], vocab_size, mask_id)
        base = vocab_size + 1  # the last id stands in front of a row
        words = rows[keep]
        context = np.zeros(words.shape, dtype=np.int64)
        contexts, first = np.zeros(1, dtype=np.int64), words
        found = []
        for past in range(order):
            if past:
                first = _before(rows, past, vocab_size)[keep]
                code = first * len(contexts) + context
                contexts, context = np.unique(code, return_inverse=True)
            grams, sample, of, plain = np.unique(
                context * base + words,
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            starts = first[sample] == vocab_size if past else np.zeros(len(grams), bool)
            found.append((contexts, grams, sample, of, plain, starts))
        orders = []
        for shorter, longer in pairwise([*found, None]):
            assert shorter is not None
            contexts, grams, _, of, plain, starts = shorter
            counts = plain
            if longer is not None:
                kinds = np.bincount(of[longer[2]], minlength=len(grams))
                counts = np.where(starts, plain, kinds)
            orders.append(_order(contexts, grams, counts, base))
        return cls(orders, vocab_size=vocab_size, mask_id=mask_id)

    def nll(self, rows: Ints) -> Floats:
        """Return -log p of each token given those before it, ``(R, L)`` in nats.

        Raises:
            DataError: if an id is out of range or the mask.
        """
        _check(rows, self.vocab_size, self.mask_id)
        p = np.full(rows.shape, 1 / (self.vocab_size - 1))
        context = np.zeros(rows.shape, dtype=np.int64)
        base, size = self.vocab_size + 1, 1
        for past, known in enumerate(self._orders):
            if past:
                code = _before(rows, past, self.vocab_size) * size + context
                place = _find(known.contexts, code)
                context = np.where(context < 0, -1, place)
            size = len(known.contexts)
            gram = _find(known.grams, context * base + rows)
            count = np.where(gram < 0, 0.0, known.counts[gram])
            seen = np.maximum(count - known.discount, 0)
            spared = known.discount * known.kinds[context] * p
            p = np.where(context < 0, p, (seen + spared) / known.total[context])
        nll: Floats = -np.log(p)
        return nll


def _order(contexts: Ints, grams: Ints, counts: Ints, base: int) -> _Order:
    of, values = grams // base, counts.astype(np.float64)
    total: Floats = np.bincount(of, values, minlength=len(contexts)).astype(np.float64)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    low, high = DISCOUNTS
    discount = once / (once + 2 * twice) if once else low
    return _Order(
        contexts=contexts,
        grams=grams,
        counts=values,
        total=total,
        kinds=np.bincount(of, minlength=len(contexts)).astype(np.float64),
        discount=min(max(discount, low), high),
    )


def _before(rows: Ints, past: int, start: int) -> Ints:
    """Return the token `past` places before each one; `start` before the row."""
    shifted = np.full(rows.shape, start, dtype=np.int64)
    shifted[:, past:] = rows[:, : rows.shape[1] - past]
    return shifted


def _find(codes: Ints, wanted: Ints) -> Ints:
    """Return the place of each code in the sorted `codes`, -1 if it is not there."""
    place = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
    return np.where(codes[place] == wanted, place, -1)


def _check(tokens: Ints, vocab_size: int, mask_id: int) -> None:
    wrong = (tokens < 0) | (tokens >= vocab_size) | (tokens == mask_id)
    if wrong.any():
        raise DataError(
            f"token {int(tokens[wrong][0])} cannot be judged; ids are 0 to "
            f"{vocab_size - 1} without the mask {mask_id}"
        )
