"""How much each row counts: rows that are alike share a weight.

w_r = 1 / |{s : id_L(r, s) >= threshold}|, the row itself included, and the effective
number of rows Neff is the sum of w (Morcos et al., 2011). Letters: R rows, L columns.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .alphabet import Ids
from .identity import Planes, alike

_ROWS = 256


def sequence_weights(states: Ids, threshold: float = 0.8) -> NDArray[np.float64]:
    """Return the weight ``(R,)`` of each row.

    Args:
        states: ``(R, L)``, see `Alignment.states`; gaps count as a symbol.
        threshold: identity over all L columns from which rows are alike.

    Returns:
        Weights in (0, 1], float64; their sum is Neff.
    """
    planes = Planes.sorted(states)
    least = math.ceil(threshold * planes.length - 1e-9)
    found = np.empty(len(planes), np.int64)
    for top in range(0, len(planes), _ROWS):
        part = slice(top, top + _ROWS)
        found[part] = alike(planes.select(part), planes, least).sum(1)
    return 1.0 / found


def neff(states: Ids, threshold: float = 0.8) -> float:
    """Return the effective number of rows of states ``(R, L)``."""
    return float(sequence_weights(states, threshold).sum())
