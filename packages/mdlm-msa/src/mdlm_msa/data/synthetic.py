"""Families evolved along random trees: alignments whose truth is known.

They are for tests and for a first run without data, and say nothing about real
proteins. A root is drawn from the background of BLOSUM62 and evolves along a Yule tree.
Each column has a rate; a change draws a residue b in place of a with chance

    p(b | a) 2^(s S_rb / 2),  normalised,

where p is BLOSUM62's conditional law, S its scores, r the residue of the root in this
column, and s how strongly the column keeps its kind. Some columns are coupled in pairs:
they change together, and the second then mostly gets a residue that suits the first:
opposite charges, a small one beside a large one. Stretches are lost on the way, some
rows are fragments, and some have insertions. Letters: R rows, L columns, N nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdlm_core.config.schema import require
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import GAP, ID_OF_STATE, RESIDUES, Ids, decode
from mdlm_msa.substitution import background, blosum62, conditional

from .family import Family

_KINDS = ("KRH", "DE", "LIVMFYW", "AGSTCP", "NQ")
_SUITS = (1, 0, 3, 2, 4)
"""Which kind a residue of each kind wants as its partner."""
_KEEP = 0.6  # s
_FAITH = 0.9  # share of changes in which a partner gets a residue that suits
_LOSS = 0.15  # lost stretches in the time from the root to a leaf, per ten columns
_RUN = 4.0  # their mean length
_FRAGMENTS = 0.1
_INSERTIONS = 0.15

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def synthetic_families(
    count: int,
    noise: Noise,
    *,
    rows: tuple[int, int] = (60, 200),
    columns: tuple[int, int] = (30, 60),
) -> list[Family]:
    """Return families that depend on `noise` alone.

    Family i is the same whatever `count` is. Nothing of them is held out, and their
    `contacts` are the coupled pairs.

    Args:
        count: how many.
        noise: decides them.
        rows: the smallest and the largest depth R, the query included.
        columns: the smallest and the largest L.

    Raises:
        ConfigError: if a family would have fewer than 2 rows or 8 columns.
    """
    for what, (low, high), least in (("rows", rows, 2), ("columns", columns, 8)):
        require(
            least <= low <= high,
            f"synthetic families cannot have {low} to {high} {what}; the numbers must "
            f"rise, from {least} on",
        )
    return [
        _family(f"synthetic-{i:03}", noise.child("family", i), rows, columns)
        for i in range(count)
    ]


def _family(
    name: str, noise: Noise, depth: tuple[int, int], width: tuple[int, int]
) -> Family:
    rng = np.random.default_rng(noise.integer())
    count = int(rng.integers(depth[0], depth[1] + 1))
    length = int(rng.integers(width[0], width[1] + 1))
    query = int(rng.integers(count))
    pairs = _pairs(length, rng)
    states, gone = _Evolution.begin(length, pairs, rng).leaves(count, query)
    others = rng.permutation(np.delete(np.arange(count), query))
    order = np.concatenate([[query], others])
    states, gone = states[order], gone[order]
    gone[1:] |= _fragments(count - 1, length, rng)
    gone[1:][gone[1:].all(1)] = False  # nobody is lost altogether
    ids = ID_OF_STATE[states]
    ids[gone] = GAP
    alignment = Alignment(
        rows=ids,
        headers=(name, *(f"{name}/{r}" for r in range(1, count))),
        letters=_letters(ids, rng),
        name=name,
    )
    return Family.of(alignment, contacts=pairs)


def _pairs(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return about L / 6 pairs ``(P, 2)`` of columns that are 4 or more apart."""
    columns = rng.permutation(length)
    pairs = np.sort(columns[: length // 2 * 2].reshape(-1, 2), axis=1)
    apart = pairs[pairs[:, 1] - pairs[:, 0] >= 4][: max(1, length // 6)]
    return apart[np.argsort(apart[:, 0])]


def _draw(laws: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw from laws ``(..., 20)`` that need not be normalised."""
    total = np.cumsum(laws, axis=-1)
    u = rng.random(laws.shape[:-1]) * total[..., -1]
    below: NDArray[np.int64] = np.sum(u[..., None] >= total, axis=-1)
    chosen: NDArray[np.int64] = np.minimum(below, laws.shape[-1] - 1)
    return chosen


def _suits() -> Bools:
    """Return ``(20, 20)``: whether a residue (second) suits its partner (first)."""
    kind = np.array([next(k for k, s in enumerate(_KINDS) if a in s) for a in RESIDUES])
    suits: Bools = np.array(_SUITS)[kind][:, None] == kind[None]
    return suits


def _tree(
    count: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Floats]]:
    """Yield a Yule tree of `count` leaves level by level, from the root's children.

    Of each node: its parent's place in the level before, its first leaf, how many
    leaves it has, and the length of its branch. A node with n leaves has the age
    log n / log count.
    """
    sizes, first = np.array([count]), np.array([0])
    while len(sizes):
        inner = (sizes > 1).nonzero()[0]
        left = 1 + (rng.random(len(inner)) * (sizes[inner] - 1)).astype(np.int64)
        child = np.stack([left, sizes[inner] - left], 1).ravel()
        parent = np.repeat(inner, 2)
        starts = np.stack([first[inner], first[inner] + left], 1).ravel()
        age = (np.log(sizes[parent]) - np.log(child)) / np.log(count)
        if len(child):
            yield parent, starts, child, age * rng.gamma(4.0, 0.25, len(child))
        sizes, first = child, starts


def _fragments(count: int, length: int, rng: np.random.Generator) -> Bools:
    """Return ``(count, L)``: what is missing in the rows that are fragments."""
    share = np.where(rng.random(count) < _FRAGMENTS, rng.uniform(0.3, 0.9, count), 1.0)
    size = np.ceil(share * length)[:, None]
    start = np.floor(rng.random((count, 1)) * (length - size + 1))
    column = np.arange(length)
    missing: Bools = (column < start) | (column >= start + size)
    return missing


def _letters(ids: Ids, rng: np.random.Generator) -> tuple[bytes, ...]:
    """Return the rows as a3m writes them; some homologues have an insertion."""
    count, length = ids.shape
    rows = [decode(row).encode() for row in ids]
    has = np.flatnonzero(rng.random(count) < _INSERTIONS)
    after = rng.integers(1, length, (count,)).tolist()
    size = 1 + rng.poisson(2.0, (count,))
    for r in has.tolist():
        if r:
            new = rng.choice(20, int(size[r]), p=background())
            text = "".join(RESIDUES[a] for a in new).lower().encode()
            rows[r] = rows[r][: after[r]] + text + rows[r][after[r] :]
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class _Evolution:
    """What decides the changes of one family."""

    root: NDArray[np.int64]
    rates: Floats
    laws: Floats
    """``(L, 20, 20)``: of what stands in a column after a change, by what stood."""
    pairs: NDArray[np.int64]
    rng: np.random.Generator

    @classmethod
    def begin(
        cls, length: int, pairs: NDArray[np.int64], rng: np.random.Generator
    ) -> _Evolution:
        """Draw a root, the rates of its columns, and their laws."""
        root = rng.choice(20, length, p=background())
        partner = background() * _suits()[root[pairs[:, 0]]]
        root[pairs[:, 1]] = _draw(partner, rng)
        rates = rng.uniform(1.0, 3.0) * np.maximum(rng.gamma(1.0, 1.0, length), 0.05)
        rates[pairs] = np.maximum(rates[pairs].mean(1, keepdims=True), 0.7)
        keep = 2.0 ** (_KEEP * blosum62()[root] / 2)
        return cls(root, rates, conditional()[None] * keep[:, None], pairs, rng)

    def leaves(self, count: int, query: int) -> tuple[NDArray[np.int64], Bools]:
        """Return residues and losses ``(R, L)`` of the leaves; `query` has no loss."""
        length = len(self.root)
        states = self.root[None]
        gone = np.zeros((1, length), bool)
        done, lost = (
            np.empty((count, length), np.int64),
            np.empty((count, length), bool),
        )
        for parent, first, size, time in _tree(count, self.rng):
            states = self._change(states[parent], time)
            spared = (first <= query) & (query < first + size)
            gone = gone[parent] | self._lose(time, spared)
            done[first], lost[first] = states, gone  # a node's leaves come later
        return done, lost

    def _change(self, states: NDArray[np.int64], time: Floats) -> NDArray[np.int64]:
        """Return residues ``(N, L)`` after branches of length `time` ``(N,)``."""
        first, second = self.pairs.T
        rng = self.rng
        change = rng.random(states.shape) < -np.expm1(-time[:, None] * self.rates)
        change[:, second] = change[:, first]
        laws = self.laws[np.arange(states.shape[1]), states]
        new = np.where(change, _draw(laws, rng), states)
        faithful = rng.random((len(states), len(first))) < _FAITH
        suits = _suits()[new[:, first]] | ~faithful[..., None]
        partner = _draw(laws[:, second] * suits, rng)
        new[:, second] = np.where(change[:, second], partner, states[:, second])
        return new

    def _lose(self, time: Floats, spared: Bools) -> Bools:
        """Return ``(N, L)``: the stretches that are lost on branches."""
        count, length = len(time), len(self.root)
        chance = -np.expm1(-time * _LOSS * length / 10)
        loses = (self.rng.random(count) < chance) & ~spared
        start = self.rng.integers(0, length, count)[:, None]
        size = self.rng.geometric(1 / _RUN, count)[:, None]
        column = np.arange(length)
        lost: Bools = loses[:, None] & (column >= start) & (column < start + size)
        return lost
