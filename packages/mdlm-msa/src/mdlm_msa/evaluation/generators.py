"""Rows that need no model: what generated rows must be better than.

Each returns states ``(n, L)`` of the 21 symbols. Letters: R rows, n new rows, L
columns, S = 21 symbols.
"""

from __future__ import annotations

import numpy as np

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import GAP_STATE, Ids
from mdlm_msa.laws import Array, gap_law, pssm, substitution_law
from mdlm_msa.substitution import conditional
from mdlm_msa.weights import sequence_weights

NATURAL = "another natural split"
PSSM = "PSSM sampling"
MUTATION = "BLOSUM62 mutation"
COPIES = "copies of the query"


def draw(law: Array, count: int, rng: np.random.Generator) -> Ids:
    """Draw `count` rows of columns that are independent, from laws ``(L, A)``."""
    mass = law.cumsum(1)
    u = rng.random((count, len(law))) * mass[:, -1]
    found: Ids = np.empty((count, len(law)), np.uint8)
    for column, edges in enumerate(mass):
        found[:, column] = np.searchsorted(edges, u[:, column], side="right")
    found = np.minimum(found, np.uint8(law.shape[1] - 1))
    return found


def sample_pssm(states: Ids, count: int, noise: Noise) -> Ids:
    """Draw rows from the profile of others: residues and gaps, column by column.

    Args:
        states: ``(R, L)`` rows behind the profile, which are weighted.
        count: n.
        noise: decides every draw.
    """
    weights = sequence_weights(states)
    gaps = gap_law(states, weights)[:, None]
    law = np.concatenate([(1 - gaps) * pssm(states, weights), gaps], 1)
    return draw(law, count, np.random.default_rng(noise.integer()))


def mutate(query: Ids, states: Ids, count: int, noise: Noise) -> Ids:
    """Mutate the query by BLOSUM62, with the gaps of natural rows.

    A position keeps its residue with the chance that brings the expected identity to
    the query up to the mean of the natural rows, where the law of substitution alone
    has less. It is drawn from that law otherwise.

    Args:
        query: states ``(L,)``.
        states: ``(R, L)`` natural rows, whose identity and gaps are followed.
        count: n.
        noise: decides every draw.
    """
    rng = np.random.default_rng(noise.integer())
    known = query < GAP_STATE
    residue = (states < GAP_STATE) & known
    same = ((states == query) & residue).sum() / max(1, residue.sum())
    stay = conditional().diagonal()[query[known]].mean() if known.any() else 1.0
    keep = max(0.0, (same - stay) / (1 - stay)) if stay < 1 else 0.0
    found = draw(substitution_law(query), count, rng)
    kept = (rng.random(found.shape) < keep) & known
    found = np.where(kept, query, found).astype(np.uint8)
    pattern = states[rng.integers(0, len(states), count)] == GAP_STATE
    found[pattern] = GAP_STATE
    return found


def copies(query: Ids, count: int) -> Ids:
    """Return the query again and again."""
    return np.tile(query, (count, 1))


def all_of(
    query: Ids, states: Ids, natural: Ids, count: int, noise: Noise
) -> dict[str, Ids]:
    """Return `count` rows of each kind, by name; fewer natural ones if there are fewer.

    Args:
        query: states ``(L,)``.
        states: ``(R, L)`` rows that profile, identity and gaps are taken from.
        natural: rows of the family, of which a random choice is given back as it is.
        count: n.
        noise: decides every draw.
    """
    rng = np.random.default_rng(noise.child("natural").integer())
    chosen = rng.choice(len(natural), min(count, len(natural)), replace=False)
    return {
        NATURAL: natural[np.sort(chosen)],
        PSSM: sample_pssm(states, count, noise.child("pssm")),
        MUTATION: mutate(query, states, count, noise.child("mutate")),
        COPIES: copies(query, count),
    }
