"""Texts that stand twice, apart from case, blanks and punctuation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_REST = re.compile(r"[\W_]+")  # all but letters and digits


def signature(text: str) -> bytes:
    """Return 16 bytes that texts share if their letters and digits are the same.

    A text without letters and digits counts with its marks, without blanks.
    """
    words = _REST.sub("", text)
    rest = words.casefold() if words else "\0" + "".join(text.split())
    return blake2b(rest.encode(errors="replace"), digest_size=16).digest()


EMPTY = signature("")


def signatures(texts: Iterable[str]) -> list[bytes]:
    """Return the signature of each text."""
    return [signature(text) for text in texts]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What was found twice."""

    fresh: NDArray[np.int64]
    """The texts that remain: the first of its kind each, and none of the others'."""
    held_out: int
    """Texts that are among the held-out ones too."""
    repeated: int
    """Texts that stood before among the same texts."""
    contradictory: int
    """Of the repeated ones, those whose label differs from that of the first."""

    def card(self) -> dict[str, int]:
        """Return the numbers, for the card of the data."""
        return {
            "also_held_out": self.held_out,
            "repeated": self.repeated,
            "contradictory": self.contradictory,
        }


def overlap(
    texts: Sequence[bytes], labels: Sequence[object] | None, held_out: Iterable[bytes]
) -> Overlap:
    """Compare texts with held-out ones and with each other; empty ones all remain.

    Args:
        texts: the signature of each text.
        labels: the label of each; None for texts without.
        held_out: signatures that must not stand among the texts.
    """
    outside = set(held_out)
    first: dict[bytes, int] = {}
    fresh: list[int] = []
    also, repeated, contradictory = 0, 0, 0
    for i, key in enumerate(texts):
        if key == EMPTY:
            fresh.append(i)
        elif key in outside:
            also += 1
        elif key in first:
            repeated += 1
            contradictory += labels is not None and labels[first[key]] != labels[i]
        else:
            first[key] = i
            fresh.append(i)
    return Overlap(np.array(fresh, dtype=np.int64), also, repeated, contradictory)
