"""Where rows have residues and where gaps: coverage, gap rate, runs of gaps.

A column counts as covered by one of the twenty residues. Letters without a state, such
as X, cover nothing and are no gap. Letters: R rows, L columns.
"""

from __future__ import annotations

import numpy as np

from .alphabet import GAP_STATE, Ids
from .laws import Array


def coverage(states: Ids) -> Array:
    """Return the share of columns in which each row has a residue, ``(R,)``."""
    found: Array = (states < GAP_STATE).mean(1)
    return found


def gap_rate(states: Ids) -> Array:
    """Return the share of columns in which each row has a gap, ``(R,)``."""
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
