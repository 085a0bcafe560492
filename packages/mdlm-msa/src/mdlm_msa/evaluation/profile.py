"""Column statistics of an alignment, and how those of two alignments differ.

Letters: R rows, L columns, S = 21 symbols: the residues, then the gap. All information
is in bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy
from scipy.stats import spearmanr

from mdlm_core.errors import DataError
from mdlm_msa.alphabet import GAP_STATE, STATES, Ids
from mdlm_msa.laws import Array, counts


def frequencies(
    states: Ids, weights: Array | None = None, *, pseudocount: float = 1.0
) -> Array:
    """Return the law ``(L, S)`` of each column, the gap being a symbol.

    ``(sum of weights of the rows with a at i + c / S) / (Meff + c)``: c rows of which
    nothing is known are added. A column without any symbol is uniform.

    Args:
        states: ``(R, L)``.
        weights: ``(R,)``.
        pseudocount: c, in rows.
    """
    found = counts(states, weights) + pseudocount / STATES
    total = found.sum(1, keepdims=True)
    none = np.full_like(found, 1 / STATES)
    law: Array = np.divide(found, total, out=none, where=total > 0)
    return law


def entropy(law: Array) -> Array:
    """Return the entropy in bits of laws over the last axis."""
    bits: Array = -xlogy(law, law).sum(-1) / np.log(2)
    return bits


def jensen_shannon(p: Array, q: Array) -> Array:
    """Return the Jensen-Shannon divergence of laws over the last axis, 0 to 1 bit.

    ``KL(p || m) / 2 + KL(q || m) / 2`` with ``m = (p + q) / 2`` (Lin, 1991,
    "Divergence measures based on the Shannon entropy", eq. 4.1).
    """
    found = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    return np.maximum(found, 0.0)


def kullback_leibler(p: Array, q: Array) -> Array:
    """Return KL(p || q) in bits over the last axis; infinite where q forbids."""
    ratio = np.divide(p, q, out=np.full_like(p, np.inf), where=q > 0)
    bits: Array = xlogy(p, np.where(p > 0, ratio, 1.0)).sum(-1) / np.log(2)
    return bits


def conservation(law: Array) -> Array:
    """Return how conserved each column is: ``log2 20 + sum of f log2 f``, in bits.

    The gap is left out of the law ``(L, S)`` and the rest renormalised (Schneider and
    Stephens, 1990, "Sequence logos"). A column of gaps alone has nan.
    """
    residues = law[..., :GAP_STATE]
    total = residues.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        found = np.log2(GAP_STATE) - entropy(residues / total)
    return np.where(total[..., 0] > 0, found, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileDifference:
    """How far the columns of one alignment are from those of another."""

    js: float
    """Mean over columns of the Jensen-Shannon divergence, in bits."""
    js_90: float
    """Its 90th percentile."""
    kl: float
    """Mean over columns of KL(reference || generated), in bits."""
    rho: float
    """Spearman's correlation of the conservation of columns; nan if that of one of the
    two is the same in all columns."""
    columns: Array
    """``(L,)`` the divergence of each column."""
    conserved: Array
    """``(2, L)`` conservation of the generated rows and of the reference."""


def compare(
    generated: Ids,
    reference: Ids,
    weights: tuple[Array | None, Array | None] = (None, None),
    *,
    pseudocount: float = 1.0,
) -> ProfileDifference:
    """Compare the columns of generated rows with those of reference rows.

    Weights are scaled to sum to the number of rows, so that the pseudocount is as
    little for rows that are all alike, which know one row's worth but are sure of it.

    Args:
        generated: states ``(R, L)``.
        reference: states ``(R', L)`` over the same columns.
        weights: of the rows of both.
        pseudocount: see `frequencies`.

    Raises:
        DataError: if the two differ in their number of columns.
    """
    same_columns(generated, reference)
    g, h = (
        frequencies(states, _scaled(mass), pseudocount=pseudocount)
        for states, mass in zip((generated, reference), weights, strict=True)
    )
    js = jensen_shannon(g, h)
    conserved = np.stack([conservation(g), conservation(h)])
    return ProfileDifference(
        js=float(js.mean()),
        js_90=float(np.percentile(js, 90)),
        kl=float(kullback_leibler(h, g).mean()),
        rho=rank_correlation(*conserved),
        columns=js,
        conserved=conserved,
    )


def _scaled(weights: Array | None) -> Array | None:
    return None if weights is None else weights * len(weights) / weights.sum()


def rank_correlation(x: Array, y: Array) -> float:
    """Return Spearman's correlation; nan where one of the two does not vary."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 2 or np.ptp(x) <= 1e-12 or np.ptp(y) <= 1e-12:
        return float("nan")
    return float(spearmanr(x, y).statistic)


def same_columns(generated: Ids, reference: Ids) -> None:
    """Refuse two alignments that do not have the same columns, or no rows.

    Raises:
        DataError: if so.
    """
    if generated.shape[1] != reference.shape[1]:
        raise DataError(
            f"the generated rows have {generated.shape[1]} columns and the reference "
            f"has {reference.shape[1]}; both must be aligned to one query"
        )
    if not len(generated) or not len(reference):
        raise DataError(
            f"there are {len(generated)} generated rows and {len(reference)} rows of "
            f"reference, besides the query; both must have at least one"
        )
