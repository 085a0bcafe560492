"""How alike rows are, by two measures that must not be mixed up.

id_L: the columns with the same symbol over all L columns. The gap is a symbol, and so
are, together, the letters that are no residue. It is the measure of Neff and redundancy
(Morcos et al., 2011, "Direct-coupling analysis of residue coevolution").

id_pair: the columns with the same residue over those where both rows have one.

A symbol is five bits, and a row is five planes of L bits, so that 64 columns of two
rows are compared at once. Letters: R rows, L columns, W words of 64 columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .alphabet import Ids

Shares = NDArray[np.float32]
"""Identities ``(A, B)`` in [0, 1]."""
Words = NDArray[np.uint64]
Counts = NDArray[np.int32]

_PLANES = 5
_RESIDUES = 20
_CELLS = 1 << 14
"""Pairs compared at once, so that all of them stay in the cache."""


def _words(bits: NDArray[np.bool_]) -> Words:
    """Return ``(W, R)`` words of bits ``(R, L)``; what is missing is 0."""
    packed = np.packbits(bits, axis=1)
    spare = -packed.shape[1] % 8
    padded = np.ascontiguousarray(np.pad(packed, ((0, 0), (0, spare))))
    words: Words = np.ascontiguousarray(padded.view(np.uint64).T)
    return words


@dataclass(frozen=True, slots=True)
class Planes:
    """Rows of states as bits."""

    bits: Words
    """``(5, W, R)``: bit k of every symbol."""
    residues: Words
    """``(W, R)``: whether there is a residue."""
    length: int
    """L."""

    @classmethod
    def sorted(cls, states: Ids) -> Planes:
        """Pack states with the columns that vary most first, for `alike`."""
        symbols = np.minimum(np.asarray(states, np.uint8), 31)
        count = np.stack([(symbols == a).sum(0) for a in np.unique(symbols)])
        same = (count.astype(np.float64) ** 2).sum(0)  # pairs with equal symbols
        return cls.of(symbols[:, np.argsort(same, kind="stable")])

    @classmethod
    def of(cls, states: Ids) -> Planes:
        """Pack states ``(R, L)``: 0 to 19 residues, 20 the gap, 255 other letters."""
        symbols = np.minimum(np.asarray(states, np.uint8), 31)
        return cls(
            np.stack([_words((symbols >> k & 1).astype(bool)) for k in range(_PLANES)]),
            _words(symbols < _RESIDUES),
            symbols.shape[1],
        )

    def __len__(self) -> int:
        return int(self.residues.shape[1])

    def select(self, rows: NDArray[np.int64] | slice) -> Planes:
        """Return some of the rows."""
        return Planes(self.bits[:, :, rows], self.residues[:, rows], self.length)

    def words(self, which: slice) -> Planes:
        """Return some of the words of 64 columns."""
        return Planes(self.bits[:, which], self.residues[which], self.length)


def _differ(a: Planes, b: Planes) -> Iterator[Words]:
    """Yield, word by word, ``(A, B)``: in which columns rows have other symbols."""
    shape = len(a), len(b)
    found, other = np.empty(shape, np.uint64), np.empty(shape, np.uint64)
    for word in range(a.residues.shape[0]):
        np.bitwise_xor(a.bits[0, word][:, None], b.bits[0, word][None], out=found)
        for k in range(1, _PLANES):
            np.bitwise_xor(a.bits[k, word][:, None], b.bits[k, word][None], out=other)
            np.bitwise_or(found, other, out=found)
        yield found


def _tiles(a: Planes, b: Planes) -> Iterator[tuple[slice, slice]]:
    """Yield parts of a table ``(A, B)`` that are small enough to stay in the cache."""
    wide = max(1, min(len(b), _CELLS))
    high = max(1, _CELLS // wide)
    for top in range(0, len(a), high):
        for left in range(0, len(b), wide):
            yield slice(top, top + high), slice(left, left + wide)


def equal_columns(a: Planes, b: Planes) -> Counts:
    """Return ``(A, B)``: the columns in which rows have the same symbol."""
    found = np.full((len(a), len(b)), a.length, np.int32)
    for rows, others in _tiles(a, b):
        part = found[rows, others]
        for words in _differ(a.select(rows), b.select(others)):
            part -= np.bitwise_count(words)
    return found


def alike(a: Planes, b: Planes, least: int) -> NDArray[np.bool_]:
    """Return ``(A, B)``: whether rows have the same symbol in `least` columns or more.

    The same as ``equal_columns(a, b) >= least``. Pairs that differ too much in the
    first words are not looked at further, which are most if these columns vary; so use
    `Planes.sorted`.
    """
    most = a.length - least  # columns that may differ
    found = np.empty((len(a), len(b)), bool)
    enough = 1 + most // 40  # words in which unlike rows differ by more than that
    first, rest = slice(0, enough), slice(enough, None)
    for rows, others in _tiles(a, b):
        x, y = a.select(rows), b.select(others)
        differ = np.zeros((len(x), len(y)), np.int32)
        for words in _differ(x.words(first), y.words(first)):
            differ += np.bitwise_count(words)
        i, j = (differ <= most).nonzero()
        if len(i) < differ.size // 8:
            p, q = x.bits[:, rest, i], y.bits[:, rest, j]
            more = np.bitwise_or.reduce(p ^ q, axis=0)
            differ[i, j] += np.bitwise_count(more).sum(0, dtype=np.int32)
        else:
            for words in _differ(x.words(rest), y.words(rest)):
                differ += np.bitwise_count(words)
        found[rows, others] = differ <= most
    return found


def identity_all(a: Ids, b: Ids | None = None) -> Shares:
    """Return id_L ``(A, B)`` of states ``(A, L)`` and ``(B, L)``, float32.

    Args:
        a: states, see `Alignment.states`.
        b: other rows of the same columns; None compares `a` with itself.
    """
    first = Planes.of(a)
    second = first if b is None else Planes.of(b)
    return (equal_columns(first, second) / np.float32(max(1, first.length))).astype(
        np.float32
    )


def identity_pair(a: Ids, b: Ids | None = None) -> Shares:
    """Return id_pair ``(A, B)`` of states ``(A, L)`` and ``(B, L)``, float32.

    It is 0 for rows that have no column in which both have a residue.
    """
    first = Planes.of(a)
    second = first if b is None else Planes.of(b)
    found = np.empty((len(first), len(second)), np.float32)
    for rows, others in _tiles(first, second):
        x, y = first.select(rows), second.select(others)
        same = np.zeros((len(x), len(y)), np.int32)
        shared = np.zeros_like(same)
        for word, words in enumerate(_differ(x, y)):
            both = x.residues[word][:, None] & y.residues[word][None]
            shared += np.bitwise_count(both)
            same += np.bitwise_count(both & ~words)
        found[rows, others] = same / np.maximum(shared, 1)
    return found


def nearest_identity(a: Ids, b: Ids) -> Shares:
    """Return ``(A,)``: the highest id_pair of each row of `a` with the rows of `b`.

    The table of all pairs is never held at once.
    """
    found = np.zeros(len(a), np.float32)
    if len(b):
        for top in range(0, len(a), 256):
            part = slice(top, top + 256)
            found[part] = identity_pair(a[part], b).max(1)
    return found
