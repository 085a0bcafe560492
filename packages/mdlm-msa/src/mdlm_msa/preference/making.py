"""Make pairs: several alignments of a query, scored, the better against the worse.

Half of a family's homologues are kept for the score; the other half is the pool that
prompts and natural alignments are drawn from. Letters: K candidates of a query, N rows
of each, L columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import GAP, STATE_OF, Ids
from mdlm_msa.layout import capacity

from .pairs import Pair
from .rewards import Judge

SYNTHETIC_FAMILIES = 24
FEWEST = 8
"""Homologues that a family needs."""

Write = Callable[[Alignment, int, int, Noise], list[Ids]]
"""From query and prompt, N, K and noise to K alignments ``(N, L)`` of new rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How pairs are made."""

    reward: str = "profile"
    """One of `rewards.REWARDS`."""
    rows: int = 16
    """N, at most."""
    candidates: int = 10
    """K, of natural and of generated alignments each."""
    per_query: int = 4
    """Pairs of a query, at most; there are no more than half the candidates."""
    prompt: int = 0
    """Rows of the pool that all candidates of a query are given."""
    min_difference: float = 0.0
    """Of the scores of winner and loser."""
    length: int = 0
    """Tokens of a canvas, at most; 0 means any."""
    mix: bool = False
    """Whether natural and generated alignments meet in a pair. It has been seen to
    hurt: what tells them apart is then learned, not what is better."""
    seed: int = 0
    """Decides every draw."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Candidate:
    """An alignment of a query, and what it is worth."""

    rows: Ids
    """``(N, L)`` ids, without query and prompt."""
    score: float
    name: str
    about: dict[str, float] = field(default_factory=dict)
    """What else is known, for the file."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Candidates:
    """The alignments of one query that may be in a pair."""

    given: Alignment
    """The query, and the rows of the prompt."""
    found: tuple[Candidate, ...]
    reward: str
    """What the scores are."""
    meta: dict[str, object] = field(default_factory=dict)


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
                f"'{alignment.name}' has {count} homologues, and pairs take {FEWEST}: "
                f"half of them are only compared with"
            )
        order = np.random.default_rng(noise.integer()).permutation(count) + 1
        return cls(order[: count // 2], order[count // 2 :])


def make_candidates(
    alignment: Alignment, making: Making, write: Write | None = None
) -> Candidates:
    """Return scored alignments of a query: random homologues, or written by a model.

    Args:
        alignment: the query first; letters are those of `Alignment.canonical`.
        making: how.
        write: writes alignments; None takes natural ones.

    Raises:
        DataError: if the family is too small, or no alignment fits.
    """
    if (alignment.rows[0] == GAP).any():
        raise DataError(
            f"the query of '{alignment.name}' has gaps; its columns are its residues"
        )
    noise = Noise(making.seed).child("pairs", alignment.name)
    halves = Halves.of(alignment, noise.child("halves"))
    natural = write is None or making.mix
    count = rows_that_fit(alignment, making, len(halves.pool), natural=natural)
    prompt, rest = np.split(halves.pool, [making.prompt])
    given = alignment.select(np.concatenate([[0], prompt]))
    drawn: dict[str, list[Ids]] = {}
    if natural:
        rngs = [
            np.random.default_rng(noise.child("rows", k).integer())
            for k in range(making.candidates)
        ]
        drawn["natural"] = [
            alignment.rows[rng.choice(rest, count, replace=False)] for rng in rngs
        ]
    if write is not None:
        drawn["generated"] = write(
            given, count, making.candidates, noise.child("write")
        )
    states = alignment.states
    judge = Judge(
        query=states[0], held_out=states[halves.held_out], reward=making.reward
    )
    return Candidates(
        given=given,
        found=tuple(
            scored(rows, judge, f"{source}-{k}")
            for source, every in drawn.items()
            for k, rows in enumerate(every)
        ),
        reward=making.reward,
        meta={"family": alignment.name, "source": "+".join(drawn)},
    )


def rows_that_fit(
    alignment: Alignment, making: Making, pool: int, *, natural: bool
) -> int:
    """Return N: as many rows as asked for, if they fit on a canvas.

    Natural alignments have half of the pool at most, so that they differ.

    Raises:
        DataError: if the pool is too small, or no row fits.
    """
    left = pool - making.prompt
    if left < 2 * natural:
        raise DataError(
            f"'{alignment.name}' has {pool} homologues to draw from, too few for "
            f"{making.prompt} rows of a prompt"
            + (" and two alignments" if natural else "")
        )
    most = min(making.rows, left // 2) if natural else making.rows
    if making.length:
        room = capacity(making.length, alignment.length) - 1 - making.prompt
        if room < 1:
            raise DataError(
                f"'{alignment.name}' has {alignment.length} columns: with "
                f"{making.prompt} rows of a prompt no row fits in {making.length} "
                f"tokens"
            )
        most = min(most, room)
    return most


def scored(rows: Ids, judge: Judge, name: str) -> Candidate:
    """Return a candidate with its score."""
    score = judge(STATE_OF[rows])
    about = {
        "repeated": score.repeated,
        "gap_error": score.gap_error,
        "excess": score.excess,
    }
    return Candidate(rows=rows, score=score.reward, name=name, about=about)


def paired(candidates: Candidates, making: Making) -> list[Pair]:
    """Return the best candidate against the worst, the second against the last but one.

    So each candidate is in one pair at most, and the differences are the largest. A
    pair whose scores are equal, or differ by less than asked for, is left out.
    """
    order = sorted(candidates.found, key=lambda c: (-c.score, c.name))
    given, name = candidates.given, candidates.given.name
    found = []
    for number in range(min(making.per_query, len(order) // 2)):
        winner, loser = order[number], order[-1 - number]
        difference = winner.score - loser.score
        if difference <= 0 or difference < making.min_difference:
            break
        pair = Pair(
            query=given.rows[0],
            prompt=given.rows[1:],
            winner=winner.rows,
            loser=loser.rows,
            id=f"{name}:{number}",
            score_winner=winner.score,
            score_loser=loser.score,
            score_difference=difference,
            reward=candidates.reward,
            meta={
                **candidates.meta,
                "winner": {"name": winner.name, **winner.about},
                "loser": {"name": loser.name, **loser.about},
            },
        )
        if making.length and pair.tokens > making.length:
            raise DataError(
                f"'{name}': {winner.name} and {loser.name} have up to {pair.tokens} "
                f"tokens on a canvas, and {making.length} are allowed; raise the "
                f"length, or give fewer rows"
            )
        found.append(pair)
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
            yield from paired(make_candidates(alignment, making), making)


def merged(groups: Sequence[Candidates]) -> list[Candidates]:
    """Return the candidates of groups with the same query and prompt as one group."""
    found: dict[bytes, Candidates] = {}
    for group in groups:
        key = group.given.rows.tobytes()
        before = found.get(key)
        found[key] = (
            replace(before, found=before.found + group.found) if before else group
        )
    return list(found.values())
