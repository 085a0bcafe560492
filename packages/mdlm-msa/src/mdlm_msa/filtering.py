"""Which homologues of a family are kept: coverage, gaps, identity, redundancy.

The query is always kept. A column counts as covered by one of the twenty residues, as
for ``hhfilter -cov``; an X is neither that nor a gap. Letters: R rows, L columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .alignment import Alignment
from .alphabet import Ids
from .config import RowFilter
from .gaps import coverage, gap_rate
from .identity import Planes, alike, identity_pair

_BLOCK = 512
_STEP = 0.02
_SLACK = 1e-9  # shares such as 0.9 are not exact in binary

Places = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FilterReport:
    """What a filter did."""

    homologues: int
    """Rows before it, without the query."""
    kept: int
    """Rows after it, without the query."""
    dropped: Mapping[str, int]
    """How many each rule dropped; a row counts for the first rule that it breaks."""

    def then(self, other: FilterReport) -> FilterReport:
        """Return the report of this filter and another one after it."""
        return FilterReport(
            self.homologues, other.kept, {**self.dropped, **other.dropped}
        )

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        return [
            f"{self.kept} of {self.homologues} homologues kept",
            *(f"{count} dropped: {rule}" for rule, count in self.dropped.items()),
        ]


def filter_rows(
    alignment: Alignment, rules: RowFilter
) -> tuple[Alignment, FilterReport]:
    """Return the rows that the rules keep, in the order of the alignment.

    Rows go in the order: no residue at all, coverage, gaps, identity to the query
    (id_pair), redundancy (id_L, see `non_redundant`).

    Args:
        alignment: the query first.
        rules: see `RowFilter`; what it says about whole families is for
            `unfit_family`.
    """
    states = alignment.states
    covered, gaps = coverage(states), gap_rate(states)
    checks: dict[str, Bools] = {
        "no residue": np.logical_not(alignment.is_residue.any(1)),
        f"coverage below {rules.min_coverage:g}": covered < rules.min_coverage - _SLACK,
        f"gaps above {rules.max_gaps:g}": gaps > rules.max_gaps + _SLACK,
    }
    if rules.min_identity > 0:
        to_query = identity_pair(states[:1], states)[0]
        checks[f"identity to the query below {rules.min_identity:g}"] = (
            to_query < rules.min_identity - 1e-6
        )
    keep = np.ones(alignment.depth, bool)
    dropped: dict[str, int] = {}

    def drop(rule: str, which: Bools) -> None:
        places = (which & keep).nonzero()[0]
        places = places[places > 0]
        if len(places):
            dropped[rule] = len(places)
            keep[places] = False

    for rule, which in checks.items():
        drop(rule, which)
    places = keep.nonzero()[0]
    unlike = np.zeros(alignment.depth, bool)
    unlike[places[non_redundant(states[places], rules.max_identity)]] = True
    drop(
        f"identity to a kept row above {rules.max_identity:g}"
        if rules.max_identity < 1
        else "the same as a kept row",
        ~unlike,
    )
    kept = alignment.select(keep)
    return kept, FilterReport(alignment.depth - 1, kept.depth - 1, dropped)


def unfit_family(alignment: Alignment, rules: RowFilter) -> str:
    """Return why a filtered family is left out, or nothing if it is not."""
    if alignment.depth - 1 < rules.min_rows:
        return (
            f"{alignment.depth - 1} homologues, and the filter asks for "
            f"{rules.min_rows}"
        )
    if alignment.length < rules.min_length:
        return f"{alignment.length} columns, fewer than {rules.min_length}"
    if rules.max_length and alignment.length > rules.max_length:
        return f"{alignment.length} columns, more than {rules.max_length}"
    return ""


def non_redundant(states: Ids, max_identity: float = 0.9) -> Places:
    """Return rows of which no two have an id_L above `max_identity`, in their order.

    Greedy, as ``hhfilter -id``: the query first, then by falling coverage, rows of the
    same coverage in their order; a row is kept unless it is too much like one that is
    kept. Identical rows are never both kept. It depends on nothing but the rows.

    Args:
        states: ``(R, L)``, the query first.
        max_identity: share of equal columns, at most.
    """
    order = _by_coverage(states)
    kept = _extend(Planes.sorted(states[order]), np.zeros(0, np.int64), max_identity)
    return np.sort(order[kept])


def diverse(states: Ids, count: int, max_identity: float = 0.9) -> Places:
    """Return about the most diverse `count` homologues and the query, in their order.

    As ``hhfilter -diff``, but over whole rows: the identity that two kept rows may have
    rises in steps of 0.02 until `count` homologues are kept or it is `max_identity`.
    What is kept at one step stays kept, and a step ends when there are enough.

    Args:
        states: ``(R, L)``, the query first.
        count: homologues wanted, without the query; there may be fewer.
        max_identity: identity of two kept rows, at most.
    """
    order = _by_coverage(states)
    planes = Planes.sorted(states[order])
    kept = np.zeros(0, np.int64)
    steps = np.arange(_STEP, max_identity, _STEP).tolist()
    for limit in (*steps, max_identity):
        kept = _extend(planes, kept, limit)
        if len(kept) > count:
            break
    return np.sort(order[kept[: count + 1]])


def keep_diverse(
    alignment: Alignment, count: int, max_identity: float = 0.9
) -> tuple[Alignment, FilterReport]:
    """Return the alignment of the rows that `diverse` keeps."""
    kept = alignment.select(diverse(alignment.states, count, max_identity))
    lost = alignment.depth - kept.depth
    dropped = {f"less diverse than {count} others": lost} if lost else {}
    return kept, FilterReport(alignment.depth - 1, kept.depth - 1, dropped)


def _by_coverage(states: Ids) -> Places:
    """Return the query, then rows by falling coverage."""
    covered = coverage(states)
    covered[:1] = 2.0
    order: Places = np.argsort(-covered, kind="stable")
    return order


def _extend(planes: Planes, kept: Places, max_identity: float) -> Places:
    """Return `kept` and further rows, in order, that are unlike all rows before them.

    The identity of a row to a kept one is at most `max_identity`, and below 1.
    """
    most = min(int(max_identity * planes.length + 1e-6), planes.length - 1)
    fresh = np.setdiff1d(np.arange(len(planes)), kept)
    for top in range(0, len(fresh), _BLOCK):
        block = fresh[top : top + _BLOCK]
        for left in range(0, len(kept), _BLOCK):
            there = planes.select(kept[left : left + _BLOCK])
            like = alike(planes.select(block), there, most + 1)
            block = block[~like.any(1)]
        part = planes.select(block)
        like = alike(part, part, most + 1)
        free = np.ones(len(block), bool)
        for i in range(len(block)):
            if free[i]:
                free[i + 1 :] &= ~like[i, i + 1 :]
        kept = np.concatenate([kept, block[free]])
    return kept
