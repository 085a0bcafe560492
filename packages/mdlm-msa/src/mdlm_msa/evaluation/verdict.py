"""What the numbers of generated rows come to, in plain words, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdlm_msa.origin import COPY

from .compare import GENERATED, Comparison
from .generators import MUTATION, NATURAL, PSSM

MARGIN = 0.05
"""What the pair statistics must be above those of a PSSM, at least."""
ERRORS = 3.0
"""Standard deviations of the PSSM's draws that they must be above it, at least."""
ROWS = 8
"""Rows below which columns and pairs of them say nothing; copies are copies."""
NEARER = 0.005
"""Bits by which columns may be further from the reference than mutated queries."""
COPIES = 0.2
"""Share of copies from which on rows count as copied."""
RULE = (
    f"pair r (gaps aside) above that of a PSSM by {MARGIN} and by {ERRORS:g} standard "
    f"deviations of its draws; columns not further from the reference (by {NEARER} "
    f"bits) than those of mutated queries; at least {ROWS} rows; fewer than "
    f"{COPIES:.0%} copies of other rows, the query, known rows or, beyond natural "
    f"rows, the reference"
)

NO_BETTER = "this augmentation looks no better than a PSSM"
UNTOLD = "as few rows as these cannot show whether they beat a PSSM"
COPIED = "these rows are copies, and tell a folding run nothing new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the rows look better than what needs no model."""

    better: bool | None
    """Than a PSSM; None if the reference is too shallow or too uncoupled to tell."""
    words: str
    reasons: tuple[str, ...]
    rule: str = RULE


def verdict(comparison: Comparison) -> Verdict:
    """Judge generated rows by the rule `RULE`.

    A PSSM has the columns of a family right and nothing else, so that columns alone
    cannot tell the two apart.
    """
    lines = comparison.lines
    rows = lines[GENERATED]
    reasons: list[str] = []
    copied = max(rows.duplicates, rows.nearest_query, rows.nearest_known or 0.0)
    if copied >= COPIES:
        reasons.append(
            f"{copied:.0%} of the rows repeat another, or are more than {COPY:.0%} "
            f"identical to the query or to a row that the model knew"
        )
    if PSSM not in lines:
        if reasons:
            return _no(reasons, COPIED)
        return Verdict(
            better=None,
            words="the reference is too shallow to say whether they are any good",
            reasons=comparison.notes,
        )
    if rows.repeated >= lines[NATURAL].repeated + COPIES:
        reasons.append(
            f"{rows.repeated:.0%} of the rows are more than {COPY:.0%} identical to a "
            f"row of the reference, and {lines[NATURAL].repeated:.0%} of natural ones: "
            f"they are remembered"
        )
    if reasons:
        return _no(reasons, COPIED)
    if comparison.count < ROWS:
        return Verdict(
            better=None,
            words=UNTOLD,
            reasons=(f"there are {comparison.count} rows, and {ROWS} are needed",),
        )
    if rows.js > lines[MUTATION].js + NEARER:
        further = (
            f"their columns are further from the reference (JS {rows.js:.3f} bits) "
            f"than those of mutated queries ({lines[MUTATION].js:.3f})"
        )
        return _no([further])
    draws = np.array(comparison.pssm_r)
    needed = draws.mean() + max(MARGIN, ERRORS * draws.std(ddof=1))
    natural = lines[NATURAL].residue_r
    stands = (
        f"pair r (gaps aside) is {rows.residue_r:.3f}; a PSSM has {draws.mean():.3f}, "
        f"natural rows {natural:.3f}, and {needed:.3f} is needed"
    )
    if not natural > needed:
        return Verdict(
            better=None,
            words=UNTOLD,
            reasons=(f"even natural rows do not: {stands}",),
        )
    if not rows.residue_r > needed:
        return _no([stands])
    words = "this augmentation has coupled columns, which a PSSM has not"
    if rows.residue_r < natural - MARGIN:
        words += ", though fewer than natural rows"
    return Verdict(better=True, words=words, reasons=(stands,))


def _no(reasons: list[str], words: str = NO_BETTER) -> Verdict:
    return Verdict(better=False, words=words, reasons=tuple(reasons))
