"""What is held out: decided document by document, by a hash of the text.

A document is on the same side whatever else is in the corpus and in whatever order,
so held-out text stays held out when a corpus grows, and a document that occurs twice
is never on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError

from .tokenizers import utf8

SPLITS = ("train", "validation")


def is_held_out(digest: bytes, holdout: float) -> bool:
    """Return whether the document with SHA-256 `digest` is in the validation split.

    The first 8 bytes, as a number in [0, 1), are below `holdout`.
    """
    return int.from_bytes(digest[:8], "big") < holdout * 2**64


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """What a split holds before it is cut into tokens."""

    documents: int
    bytes: int
    """In UTF-8."""
    sha256: str
    """Of the SHA-256 hashes of its documents, in order."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Which side each document is on; empty documents are on none."""

    sides: NDArray[np.int8]
    """0 train, 1 validation, -1 empty; one for each document."""
    facts: dict[str, SplitFacts]

    @property
    def empty(self) -> int:
        """How many documents hold no text; they are left out."""
        return int((self.sides < 0).sum())

    def select(self, documents: Iterable[str], split: str) -> Iterable[str]:
        """Return the documents of `split` in their order, to be read repeatedly.

        Raises:
            DataError: while they are read, if `documents` are not what they were.
        """
        return _Side(documents, self.sides, SPLITS.index(split))


@dataclass(frozen=True, slots=True)
class _Side:
    documents: Iterable[str]
    sides: NDArray[np.int8]
    side: int

    def __iter__(self) -> Iterator[str]:
        for text, side in zip_longest(self.documents, self.sides.tolist()):
            if text is None or side is None:
                raise DataError(
                    f"the data changed while it was read: there were {len(self.sides)} "
                    "documents at first, and now another number; start again"
                )
            if side == self.side:
                yield text


def survey(documents: Iterable[str], holdout: float) -> Survey:
    """Divide `documents` into training and held-out text.

    Args:
        documents: texts, in the order that the splits keep.
        holdout: the expected share of documents held out, in (0, 1).

    Raises:
        DataError: if there is no text, or one side is empty.
    """
    sides: list[int] = []
    hashes = [sha256(), sha256()]
    counts, sizes = [0, 0], [0, 0]
    for text in documents:
        raw = utf8(text)
        if not raw:
            sides.append(-1)
            continue
        digest = sha256(raw).digest()
        side = int(is_held_out(digest, holdout))
        sides.append(side)
        hashes[side].update(digest)
        counts[side] += 1
        sizes[side] += len(raw)
    total = sum(counts)
    if not total:
        raise DataError(f"there is no text: {len(sides)} documents, all empty or none")
    if not all(counts):
        empty, way_out = (
            ("training", "lower data.holdout")
            if not counts[0]
            else ("validation", "raise data.holdout")
        )
        raise DataError(
            f"the {empty} split is empty: of {total} document{'s' * (total > 1)}, "
            f"data.holdout={holdout} leaves none for it; whole documents are held out, "
            f"chosen by a hash of their text; {way_out}, give more documents, or "
            "divide the text into more of them (for text files, "
            "data.split_on=blank-line or line)"
        )
    facts = {
        split: SplitFacts(counts[side], sizes[side], hashes[side].hexdigest())
        for side, split in enumerate(SPLITS)
    }
    return Survey(np.array(sides, dtype=np.int8), facts)
