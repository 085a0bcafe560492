"""Evaluate generated rows against natural ones: statistics, contacts, likelihood.

Letters: R rows, n generated rows, L columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import Ids
from mdlm_msa.data.family import Family
from mdlm_msa.gaps import coverage
from mdlm_msa.laws import Array
from mdlm_msa.origin import by_model

from .compare import GENERATED, Comparison, beside_baselines, plain, require_query
from .contacts_mf import (
    Structure,
    mean_field,
    pair_scores,
    precisions,
    random_precision,
)
from .contacts_plm import fit
from .held_out import HeldOutTable
from .profile import frequencies
from .verdict import Verdict, verdict

Method = Literal["mean-field", "pseudo-likelihood"]
SHOWN, BOTH, NATURAL = "shown", "shown and generated", "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """How well couplings find the contacts of the query."""

    method: Method
    precisions: Mapping[str, Mapping[str, float]]
    """Of each set of rows; see `contacts_mf.precisions`."""
    rows: Mapping[str, int]
    """How many rows each set has, the query included."""
    random: Mapping[int, float]
    """Share of contacts among all pairs at |i - j| of at least 6 and 24."""
    scores: Mapping[str, Array]
    """``(L, L)`` of each set."""
    structure: Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was found; `report` shows it."""

    query: str
    facts: Mapping[str, Any]
    comparison: Comparison
    verdict: Verdict
    laws: Mapping[str, Array]
    """``(L, S)`` column laws of the generated rows and of the reference."""
    contacts: Contacts | None = None
    held_out: HeldOutTable | None = None

    def card(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        found: dict[str, Any] = {
            "facts": dict(self.facts),
            "verdict": {
                "better_than_pssm": self.verdict.better,
                "words": self.verdict.words,
                "reasons": list(self.verdict.reasons),
                "rule": self.verdict.rule,
            },
            "rows_compared": self.comparison.count,
            "rows_of_reference": self.comparison.reference,
            "notes": list(self.comparison.notes),
            "lines": {
                name: plain(line) for name, line in self.comparison.lines.items()
            },
            "pssm_residue_r": list(self.comparison.pssm_r),
        }
        profile = self.comparison.profile
        if profile is not None:
            found["columns"] = {
                "js": profile.columns.tolist(),
                "conservation": [
                    [None if np.isnan(x) else float(x) for x in row]
                    for row in profile.conserved
                ],
            }
        if self.contacts is not None:
            found["contacts"] = {
                "method": self.contacts.method,
                "rows": dict(self.contacts.rows),
                "random": {str(k): _number(v) for k, v in self.contacts.random.items()},
                "precision": {
                    name: {key: _number(value) for key, value in values.items()}
                    for name, values in self.contacts.precisions.items()
                },
            }
        if self.held_out is not None:
            found["held_out"] = self.held_out.as_dict()
        return found


def evaluate(
    generated: Alignment,
    reference: Alignment,
    *,
    noise: Noise,
    prompt: Alignment | None = None,
    recorded: Alignment | None = None,
    known: Alignment | None = None,
    structure: Structure | None = None,
    method: Method = "mean-field",
    min_coverage: float = 0.5,
    most: int = 200,
    held_out: Callable[[Family], HeldOutTable] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluate the rows that a model wrote.

    If headers say which rows a model wrote (they begin with ``mdlm|``), these are the
    generated ones; otherwise all rows but the query are. Rows that the model was shown
    are left out of the reference: those on record, or else the rows of `generated` that
    no model wrote, and those of `prompt` in both cases.

    Args:
        generated: the query first.
        reference: natural rows of the family, the same query first.
        noise: decides every draw.
        prompt: rows that the model was shown, the query first.
        recorded: the query and all rows that the model was shown, by its own record.
        known: rows that it learned from, the query first.
        structure: of the query, for the precision of contacts.
        method: of the couplings behind contacts.
        min_coverage: share of columns in which a row of reference has a residue.
        most: rows of each set that are compared, at most.
        held_out: measures a model's bits per residue on the family of the reference.
        facts: what else the report should say.

    Raises:
        DataError: if queries differ, or there is nothing to compare.
    """
    for other, where in (
        (reference, "reference"),
        (prompt, "prompt"),
        (recorded, "record"),
        (known, "known"),
    ):
        if other is not None:
            require_query(generated.query, other.query, other.name or where)
    written = np.array([by_model(h) for h in generated.headers])
    if not written.any():
        written[1:] = True
    rows = generated.states[written]
    if not len(rows):
        raise DataError(
            f"'{generated.name}' has no row besides the query; there is nothing to "
            f"evaluate"
        )
    shown = generated.states[~written] if recorded is None else recorded.states
    if not len(shown):
        shown = generated.states[:1]
    if prompt is not None:
        shown = np.vstack([shown, prompt.states])
    shown = shown[np.sort(np.unique(shown, axis=0, return_index=True)[1])]
    natural, left_out = _natural(reference, shown, min_coverage)
    if not len(natural):
        raise DataError(
            f"'{reference.name}' has no homologue that the model was not shown and "
            f"that has residues in {min_coverage:.0%} of the columns; give a deeper "
            f"alignment, or a lower --min-coverage"
        )
    knew = shown[1:]
    if known is not None:
        knew = np.vstack([knew, known.states[1:]])
    comparison = beside_baselines(
        rows, natural, generated.states[0], noise, known=knew, shown=shown, most=most
    )
    contacts = None
    if structure is not None:
        sets = {SHOWN: shown, BOTH: np.vstack([shown, rows])}
        sets |= {GENERATED: np.vstack([shown[:1], rows])}
        sets |= {NATURAL: np.vstack([shown[:1], natural])}
        contacts = find_contacts(sets, structure, method)
    return Evaluation(
        query=generated.query,
        facts={
            "generated": generated.name,
            "generated rows": len(rows),
            "rows shown to the model": len(shown) - 1,
            "reference": reference.name,
            "rows of reference": len(natural),
            **left_out,
            "columns": generated.length,
            **(facts or {}),
        },
        comparison=comparison,
        verdict=verdict(comparison),
        laws={
            GENERATED: frequencies(rows),
            NATURAL: frequencies(natural),
        },
        contacts=contacts,
        held_out=None if held_out is None else held_out(Family.of(reference)),
    )


def find_contacts(
    sets: Mapping[str, Ids], structure: Structure, method: Method = "mean-field"
) -> Contacts:
    """Score the couplings of sets of rows by the contacts of a structure.

    Sets of a single row are left out: nothing goes together in one row.

    Args:
        sets: states ``(R, L)`` by name.
        structure: of the query.
        method: mean-field takes seconds, pseudo-likelihood minutes.
    """
    scores, found, rows = {}, {}, {}
    for name, states in sets.items():
        if len(states) < 2:
            continue
        couplings = (
            mean_field(states) if method == "mean-field" else fit(states).couplings
        )
        scores[name] = pair_scores(couplings)
        found[name] = precisions(scores[name], structure)
        rows[name] = len(states)
    return Contacts(
        method=method,
        precisions=found,
        rows=rows,
        random={s: random_precision(structure, separation=s) for s in (6, 24)},
        scores=scores,
        structure=structure,
    )


def _natural(
    reference: Alignment, shown: Ids, min_coverage: float
) -> tuple[Ids, dict[str, int]]:
    """Return the rows of reference that measure, and how many are left out."""
    states = reference.states[1:]
    covered = coverage(states) >= max(min_coverage, 1 / max(1, states.shape[1]))
    told = {row.tobytes() for row in shown}
    new = np.array([row.tobytes() not in told for row in states], bool)
    counts = {
        "rows of reference left out for coverage": int((~covered).sum()),
        "rows of reference left out because shown": int((covered & ~new).sum()),
    }
    kept = states[covered & new] if len(states) else states
    return kept, {name: count for name, count in counts.items() if count}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
