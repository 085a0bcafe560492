"""Laws of residues that any model must beat, and the bits that they need for a row.

A law is ``(L, 20)``: a probability of each residue in each column, given that there is
a residue. With a gap pattern ``(L,)`` beside it, it is a law of all 21 symbols. Every
column is by itself. Letters: R rows, L columns, A = 20 residues, S = 21 symbols.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .alphabet import GAP_STATE, STATES, Ids
from .substitution import background, conditional

Array = NDArray[np.float64]
PSEUDOCOUNT = 10.0
"""Rows that the prior of a PSSM counts for."""
GAP_PSEUDOCOUNT = 1.0
"""Rows that the mean share of gaps counts for in a column's share of gaps."""


def counts(states: Ids, weights: Array | None = None) -> Array:
    """Return the weighted counts ``(L, S)`` of symbols in each column.

    Args:
        states: ``(R, L)``; what is no symbol, such as 255, is not counted.
        weights: ``(R,)`` of the rows; each counts once if not given.
    """
    rows, columns = states.shape
    known = states < STATES
    flat = np.where(known, states, 0).astype(np.int64)
    flat += STATES * np.arange(columns)
    mass = np.ones(rows) if weights is None else np.asarray(weights, np.float64)
    mass = np.where(known, mass[:, None], 0.0)
    total = np.bincount(flat.ravel(), mass.ravel(), minlength=columns * STATES)
    return total.reshape(columns, STATES).astype(np.float64)


def uniform(columns: int) -> Array:
    """Return the law that knows nothing: log2 20 = 4.32 bits per residue."""
    return np.full((columns, GAP_STATE), 1 / GAP_STATE)


def background_law(columns: int) -> Array:
    """Return the frequencies of residues in all proteins, in each column."""
    return np.tile(background(), (columns, 1))


def substitution_law(query: Ids) -> Array:
    """Return BLOSUM62 given the query: ``p(b | a) = p_b 2^(S_ab / 2) / Z_a``.

    Args:
        query: states ``(L,)``; where it has no residue, the background is the law.
    """
    known = query < GAP_STATE
    law = conditional()[np.where(known, query, 0)]
    return np.where(known[:, None], law, background())


def copy_law(query: Ids, keep: float = 0.9) -> Array:
    """Return the law that repeats the query's residue with the chance `keep`.

    Args:
        query: states ``(L,)``; where it has no residue, the law is uniform.
        keep: the rest is shared by the 19 others.
    """
    law = uniform(len(query))
    known = query < GAP_STATE
    law[known] = (1 - keep) / (GAP_STATE - 1)
    law[known, query[known]] = keep
    return law


def pssm(
    states: Ids, weights: Array | None = None, *, pseudocount: float = PSEUDOCOUNT
) -> Array:
    """Return the profile of rows with data-dependent pseudocounts.

    ``(n f_b + beta sum_a f_a p(b | a)) / (n + beta)`` in each column, with n the
    (weighted) residues there, f their shares and p(b | a) of BLOSUM62 (Altschul et
    al., 1997, "Gapped BLAST and PSI-BLAST", eq. 5). A column without residues has the
    background.

    Args:
        states: ``(R, L)``; no row at all gives the background everywhere.
        weights: ``(R,)``.
        pseudocount: beta, in rows.
    """
    found = counts(states, weights)[:, :GAP_STATE]
    n = found.sum(1, keepdims=True)
    share = np.divide(found, n, out=np.zeros_like(found), where=n > 0)
    prior = np.where(n > 0, share @ conditional(), background())
    law: Array = (found + pseudocount * prior) / (n + pseudocount)
    return law


def gap_law(
    states: Ids, weights: Array | None = None, *, pseudocount: float = GAP_PSEUDOCOUNT
) -> Array:
    """Return the share of gaps in each column ``(L,)``, drawn to the mean of all.

    Args:
        states: ``(R, L)``; no row at all gives one half everywhere.
        weights: ``(R,)``.
        pseudocount: rows that the mean counts for; it has one row of 1/2 itself.
    """
    found = counts(states, weights)
    gaps, total = found[:, GAP_STATE], found.sum(1)
    mean = (gaps.sum() + 0.5) / (total.sum() + 1)
    law: Array = (gaps + pseudocount * mean) / (total + pseudocount)
    return law


def nats(law: Array, states: Ids, gaps: Array | None = None) -> tuple[Array, Array]:
    """Return what a law needs for each row, and for how many symbols.

    Without `gaps`: -log p of the residues given where the gaps are, ``(R,)`` float64,
    and the number of residues. With `gaps`: -log p of residues and gaps, and the number
    of both. Unknown residues are left out.

    Args:
        law: ``(L, A)``.
        states: ``(R, L)``.
        gaps: ``(L,)`` the chance of a gap.
    """
    table = np.zeros((len(law), GAP_STATE + 1))
    with np.errstate(divide="ignore"):
        table[:, :GAP_STATE] = -np.log(law)
        if gaps is not None:
            table[:, :GAP_STATE] -= np.log1p(-gaps)[:, None]
            table[:, GAP_STATE] = -np.log(gaps)
    counted = states < (GAP_STATE if gaps is None else GAP_STATE + 1)
    place = np.where(counted, states, 0)
    values = np.take_along_axis(table[None], place[..., None].astype(np.int64), 2)
    found = np.where(counted, values[..., 0], 0.0).sum(1)
    return found, counted.sum(1).astype(np.float64)


def bits(law: Array, states: Ids, gaps: Array | None = None) -> float:
    """Return the bits per residue of all rows together, or per symbol with `gaps`."""
    total, symbols = nats(law, states, gaps)
    return float(total.sum() / symbols.sum() / np.log(2))
