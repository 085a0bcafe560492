"""How rows stand to the query and to other rows: identity, coverage, gaps, novelty.

Identities are `id_pair`, over the columns where both rows have a residue. Letters: R
rows, L columns.
"""

from __future__ import annotations

import numpy as np

from mdlm_msa.alphabet import GAP_STATE, Ids
from mdlm_msa.laws import Array


def coverage(states: Ids) -> Array:
    """Return the share of columns in which each row has a residue, ``(R,)``."""
    found: Array = (states < GAP_STATE).mean(1)
    return found


def gap_rate(states: Ids) -> Array:
    """Return the share of gaps in each row, ``(R,)``."""
    found: Array = (states == GAP_STATE).mean(1)
    return found


def gap_runs(states: Ids) -> Array:
    """Return how many runs of gaps have the length 1, 2, ..., L: ``(L,)``.

    A model that draws each column by itself scatters gaps; nature has runs of them.
    """
    rows, columns = states.shape
    edge = np.zeros((rows, columns + 2), np.int8)
    edge[:, 1:-1] = states == GAP_STATE
    step = np.diff(edge, axis=1)
    begin, end = np.nonzero(step == 1)[1], np.nonzero(step == -1)[1]
    return np.bincount(end - begin, minlength=columns + 1)[1:].astype(np.float64)
