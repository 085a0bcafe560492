"""What an alignment is worth, against homologues of the query that it does not hold.

A reward is a measure of how much an alignment is like held-out homologues, less the
share of its rows that repeat the query or a row above, less the difference of its
share of gaps from theirs, and less what its rows are nearer to the query and to each
other than homologues are (see `nearness`):

    measure - repeats * share repeated - gaps * |gap rate - gap rate held out|
            - nearness * excess

A row repeats another if they are identical in more than 95 % of the columns where both
have a residue. Without that a score may be won by copies of the query, which agree with
every column a little; and by rows that differ from it a little more than that, if
nearness did not count. Letters: N rows, H held-out rows, L columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from mdlm_core.errors import DataError, UnknownNameError
from mdlm_msa.alphabet import Ids
from mdlm_msa.evaluation.pairs import pair_correlation
from mdlm_msa.evaluation.profile import compare
from mdlm_msa.gaps import gap_rate
from mdlm_msa.identity import identity_pair
from mdlm_msa.laws import Array, bits, pssm
from mdlm_msa.origin import COPY
from mdlm_msa.weights import sequence_weights

from .nearness import Nearness


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What an alignment is worth, and why."""

    reward: float
    """The measure less the penalties."""
    measure: float
    repeated: float
    """Share of the rows that repeat the query or a row above."""
    gap_error: float
    """The absolute difference of the gap rates."""
    excess: float
    """By how much rows are nearer than homologues."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Judge:
    """Scores alignments of one query by one reward."""

    query: Ids
    """States ``(L,)``."""
    held_out: Ids
    """States ``(H, L)`` of homologues that no scored alignment holds."""
    reward: str = "profile"
    """One of `REWARDS`."""
    repeats: float = 1.0
    """Weight of the share of rows that repeat."""
    gaps: float = 1.0
    """Weight of the difference of the gap rates."""
    nearness: float = 2.0
    """Weight of what rows are too near."""
    weights: Array = field(init=False)
    """``(H,)`` of the held-out homologues; see `weights.sequence_weights`."""
    near: Nearness = field(init=False)
    """How near the held-out homologues are."""

    def __post_init__(self) -> None:
        find(self.reward)
        if not len(self.held_out):
            raise DataError(
                "there is no held-out homologue to compare with; a reward needs one "
                "at least"
            )
        object.__setattr__(self, "weights", sequence_weights(self.held_out))
        object.__setattr__(self, "near", Nearness.of(self.query, self.held_out))

    def __call__(self, rows: Ids) -> Score:
        """Return what an alignment is worth.

        Args:
            rows: states ``(N, L)``, without the query.

        Raises:
            DataError: if there is no row, or not the query's columns.
        """
        if not len(rows):
            raise DataError("the alignment has no row besides the query to score")
        measured = find(self.reward).measure(rows, self)
        measure = measured if math.isfinite(measured) else 0.0
        repeated = repeated_share(rows, self.query)
        gap_error = abs(float(gap_rate(rows).mean() - gap_rate(self.held_out).mean()))
        excess = self.near.excess(rows, self.query)
        penalties = self.repeats * repeated + self.gaps * gap_error
        return Score(
            reward=measure - penalties - self.nearness * excess,
            measure=measure,
            repeated=repeated,
            gap_error=gap_error,
            excess=excess,
        )


def repeated_share(rows: Ids, query: Ids) -> float:
    """Return the share of rows ``(N, L)`` that repeat the query or a row above."""
    everything = np.concatenate([query[None], rows])
    alike = np.tril(identity_pair(everything), -1) > COPY
    return float(np.any(alike, axis=1)[1:].mean())


def _profile(rows: Ids, judge: Judge) -> float:
    """Return minus the mean Jensen-Shannon divergence of the columns, in bits."""
    return -compare(rows, judge.held_out, _weights(rows, judge)).js


def _conservation(rows: Ids, judge: Judge) -> float:
    """Return Spearman's correlation of how conserved the columns are."""
    return compare(rows, judge.held_out, _weights(rows, judge)).rho


def _pairs(rows: Ids, judge: Judge) -> float:
    """Return Pearson's correlation of the connected pair frequencies."""
    return pair_correlation(rows, judge.held_out, _weights(rows, judge))


def _pssm(rows: Ids, judge: Judge) -> float:
    """Return minus the bits per held-out residue, given a PSSM of query and rows."""
    known = np.concatenate([judge.query[None], rows])
    return -bits(pssm(known, sequence_weights(known)), judge.held_out)


def _weights(rows: Ids, judge: Judge) -> tuple[Array, Array]:
    return sequence_weights(rows), judge.weights


@dataclass(frozen=True, slots=True)
class Reward:
    """A way to measure likeness to held-out homologues."""

    measure: Callable[[Ids, Judge], float]
    """Of states ``(N, L)``, and what they are compared with; not finite if it says
    nothing, which counts as 0."""
    summary: str


REWARDS: dict[str, Reward] = {
    "profile": Reward(
        _profile, "minus the Jensen-Shannon divergence of the columns, in bits"
    ),
    "pairs": Reward(_pairs, "correlation of the statistics of pairs of columns"),
    "conservation": Reward(
        _conservation, "rank correlation of how conserved the columns are"
    ),
    "pssm": Reward(_pssm, "minus the bits of held-out residues under a PSSM"),
}
"""The rewards by name."""


def find(name: str) -> Reward:
    """Return a reward by its name.

    Raises:
        UnknownNameError: if there is none of it.
    """
    if name in REWARDS:
        return REWARDS[name]
    near = get_close_matches(name, REWARDS, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise UnknownNameError(
        f"there is no reward '{name}'{hint}; there are {', '.join(REWARDS)}"
    )
