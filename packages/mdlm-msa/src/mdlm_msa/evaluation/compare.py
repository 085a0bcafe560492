"""Generated rows against natural ones, beside rows that no model was needed for.

The reference is divided: one half measures, the other half is what the baselines are
made of. Letters: R rows, n new rows, L columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import Ids
from mdlm_msa.gaps import coverage, gap_rate, gap_runs
from mdlm_msa.identity import identity_pair, nearest_identity
from mdlm_msa.laws import Array
from mdlm_msa.origin import COPY
from mdlm_msa.weights import neff, sequence_weights

from . import generators
from .pairs import pair_correlation
from .profile import ProfileDifference, compare, jensen_shannon, same_columns

GENERATED = "generated"
LEAST = 20
"""Rows of reference from which on there is a comparison with baselines."""
PROFILES = 8
"""Draws from the profile that the pair statistics are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One set of rows in numbers; shares and identities are in [0, 1]."""

    rows: int
    js: float
    """Mean over columns, in bits, to the reference; see `profile.compare`."""
    js_90: float
    kl: float
    rho: float
    """Rank correlation of the conservation of columns."""
    pair_r: float
    """Correlation of pair statistics; see `pairs.pair_correlation`."""
    residue_r: float
    """The same with the gaps set aside."""
    neff: float
    """Effective rows at 80 % identity over all columns."""
    neff_share: float
    """`neff` for each row."""
    identity: tuple[float, float, float]
    """To the query, over columns where both have a residue: the three quartiles."""
    identity_mean: float
    coverage: tuple[float, float, float]
    """Share of columns with a residue: the three quartiles."""
    gap_error: float
    """Share of gaps, less that of the reference."""
    gap_runs_js: float
    """Jensen-Shannon divergence of the lengths of runs of gaps, in bits; nan if one of
    the two has no gap."""
    nearest: float
    """Identity to the nearest row of reference, the mean over rows."""
    repeated: float
    """Share of rows above `COPY` to a row of reference."""
    nearest_query: float
    """Share of rows above `COPY` to the query."""
    nearest_known: float | None
    """Share of rows above `COPY` to a row that the model knew; None if not known."""
    duplicates: float
    """Share of rows that repeat an earlier one, or the query."""
    neff_gain: float | None = None
    """Effective rows that they add to the rows that the model was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Generated rows and the baselines, all measured alike."""

    lines: Mapping[str, Measured]
    """By name; the baselines are missing if the reference is too shallow."""
    pssm_r: tuple[float, ...]
    """`residue_r` of `PROFILES` draws from the profile."""
    count: int
    """Rows of each kind whose pair statistics were compared."""
    reference: int
    """Rows that measured."""
    notes: tuple[str, ...] = ()
    profile: ProfileDifference | None = field(default=None, repr=False)
    """Of the generated rows, column by column."""


def measure(
    rows: Ids,
    reference: Ids,
    query: Ids,
    *,
    known: Ids | None = None,
    shown: Ids | None = None,
) -> tuple[Measured, ProfileDifference]:
    """Measure rows against a reference.

    Args:
        rows: states ``(n, L)``, without the query.
        reference: ``(R, L)``, without the query.
        query: ``(L,)``.
        known: rows that the model learned from or was shown, for novelty.
        shown: rows that the model was shown, the query included, for the gain in Neff.

    Raises:
        DataError: if the columns differ, or one of the two has no rows.
    """
    same_columns(rows, reference)
    weights = sequence_weights(rows), sequence_weights(reference)
    difference = compare(rows, reference, weights)
    identity = identity_pair(rows, query[None])[:, 0].astype(np.float64)
    runs = gap_runs(rows), gap_runs(reference)
    empty = min(run.sum() for run in runs) == 0
    novel: float | None = None
    if known is not None and len(known):
        novel = float((nearest_identity(rows, known) > COPY).mean())
    gain: float | None = None
    if shown is not None:
        gain = neff(np.vstack([shown, rows])) - neff(shown)
    effective = float(weights[0].sum())
    near = nearest_identity(rows, reference)
    seen = np.unique(np.vstack([query[None], rows]), axis=0)
    return (
        Measured(
            rows=len(rows),
            js=difference.js,
            js_90=difference.js_90,
            kl=difference.kl,
            rho=difference.rho,
            pair_r=pair_correlation(rows, reference, weights),
            residue_r=pair_correlation(rows, reference, weights, gaps=False),
            neff=effective,
            neff_share=effective / len(rows),
            identity=_quartiles(identity),
            identity_mean=float(identity.mean()),
            coverage=_quartiles(coverage(rows)),
            gap_error=float(gap_rate(rows).mean() - gap_rate(reference).mean()),
            gap_runs_js=float("nan")
            if empty
            else float(jensen_shannon(*(run / run.sum() for run in runs))),
            nearest=float(near.mean()),
            repeated=float((near > COPY).mean()),
            nearest_query=float((identity > COPY).mean()),
            nearest_known=novel,
            duplicates=float((len(rows) + 1 - len(seen)) / len(rows)),
            neff_gain=gain,
        ),
        difference,
    )


def beside_baselines(
    rows: Ids,
    reference: Ids,
    query: Ids,
    noise: Noise,
    *,
    known: Ids | None = None,
    shown: Ids | None = None,
    most: int = 200,
) -> Comparison:
    """Measure generated rows and all baselines against one half of the reference.

    The other half is the natural split, and what profile, identity and gaps of the
    baselines are taken from. All sets have as many rows, a random choice, because pair
    statistics and effective numbers of rows grow with them.

    Args:
        rows: generated states ``(n, L)``, without the query.
        reference: natural rows ``(R, L)``, without the query, that the model was not
            shown.
        query: ``(L,)``.
        noise: decides the halves and every draw.
        known: rows that the model learned from or was shown.
        shown: rows that the model was shown, the query included.
        most: rows of each set, at most.

    Raises:
        DataError: if the columns differ, or one of the two has no rows.
    """
    same_columns(rows, reference)
    rng = np.random.default_rng(noise.integer())
    if len(reference) < LEAST:
        line, profile = measure(rows, reference, query, known=known, shown=shown)
        note = (
            f"the reference has {len(reference)} homologues; a comparison with "
            f"baselines needs {LEAST}"
        )
        return Comparison(
            lines={GENERATED: line},
            pssm_r=(),
            count=len(rows),
            reference=len(reference),
            notes=(note,),
            profile=profile,
        )
    order = rng.permutation(len(reference))
    measuring = reference[order[: (len(order) + 1) // 2]]
    other = reference[order[(len(order) + 1) // 2 :]]
    count = min(len(rows), len(other), most)
    chosen = rows[np.sort(rng.choice(len(rows), count, replace=False))]
    notes = []
    if count < len(rows):
        notes.append(
            f"{count} of the {len(rows)} generated rows were measured, as many as each "
            f"baseline has"
        )
    line, profile = measure(chosen, measuring, query, known=known, shown=shown)
    lines = {GENERATED: line}
    made = generators.all_of(query, other, other, count, noise.child("baselines"))
    for name, found in made.items():
        lines[name] = measure(found, measuring, query, known=None, shown=shown)[0]
    weights = sequence_weights(measuring)
    draws = [lines[generators.PSSM].residue_r]
    for index in range(1, PROFILES):
        sampled = generators.sample_pssm(other, count, noise.child("again", index))
        mass = sequence_weights(sampled)
        both = mass, weights
        draws.append(pair_correlation(sampled, measuring, both, gaps=False))
    return Comparison(
        lines=lines,
        pssm_r=tuple(draws),
        count=count,
        reference=len(measuring),
        notes=tuple(notes),
        profile=profile,
    )


def require_query(query: str, other: str, where: str) -> None:
    """Refuse an alignment to another query.

    Raises:
        DataError: if the letters differ, with the first place where they do.
    """
    if query == other:
        return
    if len(query) != len(other):
        raise DataError(
            f"the query of '{where}' has {len(other)} columns, and that of the "
            f"generated rows {len(query)}; both must be aligned to one query"
        )
    place = next(i for i, (a, b) in enumerate(zip(query, other, strict=True)) if a != b)
    raise DataError(
        f"the query of '{where}' has {other[place]} in column {place + 1}, and that of "
        f"the generated rows {query[place]}; both must be aligned to one query"
    )


def _quartiles(values: Array) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float(low), float(middle), float(high)


def plain(measured: Measured) -> dict[str, Any]:
    """Return the numbers for JSON, nan as None."""
    from dataclasses import asdict

    def value(found: Any) -> Any:
        if isinstance(found, float) and not np.isfinite(found):
            return None
        return list(found) if isinstance(found, tuple) else found

    return {name: value(found) for name, found in asdict(measured).items()}
