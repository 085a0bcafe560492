"""Make pairs: several alignments of a query, scored, the better against the worse.

Half of a family's homologues are kept for the score, the other half is the pool that
natural alignments are drawn from. Letters: K candidates of a query, N rows of each, L
columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import STATE_OF, Ids
from mdlm_msa.layout import capacity

from .pairs import Pair
from .rewards import Judge

SYNTHETIC_FAMILIES = 24
FEWEST = 8
"""Homologues that a family needs for natural pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How pairs are made."""

    reward: str = "profile"
    """One of `rewards.REWARDS`."""
    rows: int = 16
    """N, at most."""
    candidates: int = 10
    """K."""
    per_query: int = 4
    """Pairs of a query, at most; K / 2 is the most there can be."""
    prompt: int = 0
    """Rows of the pool that all candidates of a query are given."""
    min_difference: float = 0.0
    """Of the scores of winner and loser."""
    length: int = 0
    """Tokens of a canvas, at most; 0 means any."""
    seed: int = 0
    """Decides every draw."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Candidate:
    """An alignment of a query, and what it is worth."""

    rows: Ids
    """``(N, L)`` ids, without the query."""
    score: float
    name: str = ""
    meta: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """The homologues of a family, divided; numbers of rows of the alignment."""

    pool: NDArray[np.int64]
    held_out: NDArray[np.int64]

    @classmethod
    def of(cls, alignment: Alignment, noise: Noise) -> Halves:
        """Divide at random; the pool gets the smaller half.

        Raises:
            DataError: if there are too few homologues.
        """
        count = alignment.depth - 1
        if count < FEWEST:
            raise DataError(
                f"the family '{alignment.name}' has {count} homologues, and a score "
                f"takes {FEWEST}: half of them are only compared with"
            )
        order = np.random.default_rng(noise.integer()).permutation(count) + 1
        return cls(order[: count // 2], order[count // 2 :])


def rows_that_fit(making: Making, columns: int, pool: int) -> int:
    """Return N for a query of L columns and a pool of homologues.

    At most half of the pool, so that candidates differ.

    Raises:
        DataError: if no row fits, or the pool holds no two alignments.
    """
    most = min(making.rows, (pool - making.prompt) // 2)
    if making.length:
        most = min(most, capacity(making.length, columns) - 1 - making.prompt)
    if most < 1:
        raise DataError(
            f"no alignment of a query of {columns} residues, {making.prompt} prompt "
            f"rows and one row or more fits in {making.length or 'any number of'} "
            f"tokens with {pool} homologues to draw from; raise the length, or ask for "
            f"fewer prompt rows"
        )
    return most


def natural_pairs(alignment: Alignment, making: Making) -> list[Pair]:
    """Return pairs of random subsets of a family's homologues.

    Args:
        alignment: the query first; letters are those of `Alignment.canonical`.
        making: how.

    Raises:
        DataError: if the family is too small or too long.
    """
    noise = Noise(making.seed).child("pairs", alignment.name)
    halves = Halves.of(alignment, noise.child("halves"))
    count = rows_that_fit(making, alignment.length, len(halves.pool))
    prompt, rest = np.split(halves.pool, [making.prompt])
    judge = judge_of(alignment, halves, making.reward)
    found = []
    for k in range(making.candidates):
        rng = np.random.default_rng(noise.child("rows", k).integer())
        rows = alignment.rows[rng.choice(rest, count, replace=False)]
        found.append(scored(rows, judge, f"natural-{k}"))
    return paired(alignment, prompt, found, making, {"source": "natural"})


def judge_of(alignment: Alignment, halves: Halves, reward: str) -> Judge:
    """Return who scores alignments of this query."""
    states = alignment.states
    return Judge(query=states[0], held_out=states[halves.held_out], reward=reward)


def scored(rows: Ids, judge: Judge, name: str) -> Candidate:
    """Return a candidate with its score."""
    score = judge(STATE_OF[rows])
    meta = {"repeated": score.repeated, "gap_error": score.gap_error}
    return Candidate(rows=rows, score=score.reward, name=name, meta=meta)


def paired(
    alignment: Alignment,
    prompt: NDArray[np.int64],
    candidates: Sequence[Candidate],
    making: Making,
    meta: dict[str, object],
) -> list[Pair]:
    """Return the best candidate against the worst, the second against the last but one.

    So each candidate is in one pair at most, and the differences are the largest.

    Args:
        alignment: of the query.
        prompt: numbers of the rows that were given.
        candidates: K of them, in any order.
        making: how many pairs, and how different.
        meta: what to write beside the pairs.
    """
    order = sorted(candidates, key=lambda c: (-c.score, c.name))
    found = []
    for number in range(min(making.per_query, len(order) // 2)):
        winner, loser = order[number], order[-1 - number]
        difference = winner.score - loser.score
        if difference <= 0 or difference < making.min_difference:
            break
        found.append(
            Pair(
                query=alignment.rows[0],
                prompt=alignment.rows[prompt],
                winner=winner.rows,
                loser=loser.rows,
                id=f"{alignment.name}:{number}",
                score_winner=winner.score,
                score_loser=loser.score,
                score_difference=difference,
                reward=making.reward,
                meta={
                    **meta,
                    "family": alignment.name,
                    "winner": {"name": winner.name, **winner.meta},
                    "loser": {"name": loser.name, **loser.meta},
                },
            )
        )
    return found


def synthetic_pairs(length: int, seed: int) -> Iterator[Pair]:
    """Yield natural pairs of synthetic families that fit on a canvas.

    Args:
        length: tokens of a canvas.
        seed: decides families and pairs.
    """
    from mdlm_msa.data.synthetic import synthetic_families

    making = Making(length=length, seed=seed)
    noise = Noise(seed).child("preferences")
    for family in synthetic_families(SYNTHETIC_FAMILIES, noise):
        alignment = family.alignment.canonical()
        if capacity(length, alignment.length) > 1:
            yield from natural_pairs(alignment, making)
