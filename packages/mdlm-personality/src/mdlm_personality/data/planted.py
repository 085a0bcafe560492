"""The planted structural equations of the invented persons, and what follows from them.

    label - 0.5 = sum over parents of effect * (parent - 0.5) + NOISE * normal

Letters: K columns, the five traits, then the labels.
"""

from __future__ import annotations

import numpy as np

from .lexicon import COLUMNS
from .texts import Values

PLANTED_EFFECTS: dict[tuple[str, str], float] = {
    ("extraversion", "optimism"): 0.4,
    ("neuroticism", "optimism"): -0.6,
    ("agreeableness", "trust"): 0.7,
    ("neuroticism", "trust"): -0.3,
    ("openness", "outings"): 0.3,
    ("extraversion", "outings"): 0.5,
    ("optimism", "outings"): 0.4,
    ("conscientiousness", "exercise"): 0.6,
    ("outings", "exercise"): 0.5,
    ("agreeableness", "helping"): 0.4,
    ("trust", "helping"): 0.5,
}
"""(parent, child): the direct effect on the child of a unit change of the parent."""

NOISE = 0.1
"""The standard deviation of what the parents of a label leave open."""


def planted_adjacency() -> Values:
    """Return ``(K, K)``: entry [i, j] is the direct effect of column i on column j."""
    found = np.zeros((len(COLUMNS), len(COLUMNS)))
    for (parent, child), effect in PLANTED_EFFECTS.items():
        found[COLUMNS.index(parent), COLUMNS.index(child)] = effect
    return found


def planted_total_effects() -> Values:
    """Return ``(K, K)``: the total effects (I - A)^-1, rows causes."""
    identity = np.eye(len(COLUMNS))
    return np.asarray(np.linalg.solve(identity - planted_adjacency(), identity))
