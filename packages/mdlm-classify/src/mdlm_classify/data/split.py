"""Parts of a set of texts that have the same share of each class.

Each text has a number that the seed decides, and a part takes the smallest ones of
each class: so a smaller part lies within a larger one. Letters: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

Rows = NDArray[np.int64]


def subset(labels: Sequence[str] | Rows, rows: int, seed: int) -> Rows:
    """Return `rows` places of `labels`, in order; all of them if there are fewer.

    Each class has the share of `rows` that it has of `labels`, rounded to the nearest
    of the two whole numbers by the largest remainders, and at least one.
    """
    codes = _codes(labels)
    if rows >= len(codes):
        return np.arange(len(codes), dtype=np.int64)
    sizes = np.bincount(codes)
    return _smallest(codes, _shares(sizes, rows), seed, "subset")


def holdout(labels: Sequence[str] | Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Return the places that are learned from, and those held out, each in order.

    Of each class `share` is held out, rounded, but at least one text, and one at least
    is learned from: the only text of a class is never held out.

    Raises:
        DataError: if no class has two texts.
    """
    codes = _codes(labels)
    sizes = np.bincount(codes) if len(codes) else np.zeros(0, dtype=np.int64)
    taken = np.clip(np.rint(sizes * share).astype(np.int64), 1, None)
    taken = np.minimum(taken, np.maximum(sizes - 1, 0))
    if not taken.sum():
        raise DataError(
            f"none of the {len(codes)} texts can be held out, because no class has "
            "two; give more texts, or name held-out ones with data.validation"
        )
    held = _smallest(codes, taken, seed, "holdout")
    return np.setdiff1d(np.arange(len(codes), dtype=np.int64), held), held


def places(total: int, count: int) -> list[int]:
    """Return `count` of `total` places, spread evenly; all if `count` is 0 or more."""
    if not 0 < count < total:
        return list(range(total))
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def _codes(labels: Sequence[str] | Rows) -> Rows:
    _, codes = np.unique(np.asarray(labels), return_inverse=True)
    return np.asarray(codes, dtype=np.int64)


def _shares(sizes: Rows, rows: int) -> Rows:
    """Return how many of each class make `rows` together, by largest remainders."""
    exact = sizes * rows / sizes.sum()
    taken = np.maximum(np.floor(exact).astype(np.int64), 1)
    while taken.sum() > rows and taken.max() > 1:  # the ones lifted to 1
        taken[np.argmax(taken)] -= 1
    missing = max(0, rows - int(taken.sum()))
    order = np.argsort(-(exact - taken), kind="stable")
    taken[order[:missing]] += 1
    return np.asarray(taken, dtype=np.int64)


def _smallest(codes: Rows, taken: Rows, seed: int, what: str) -> Rows:
    noise = Noise(seed).child("classify", what)
    keys = noise.uniform(torch.arange(len(codes)), 1)[:, 0].numpy()
    order = np.lexsort((keys, codes))  # by class, then by key
    first = np.concatenate([[0], np.cumsum(np.bincount(codes))[:-1]])
    chosen = [order[a : a + n] for a, n in zip(first, taken, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
