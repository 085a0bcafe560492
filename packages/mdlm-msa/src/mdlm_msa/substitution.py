"""BLOSUM62: how likely one residue takes the place of another.

Henikoff and Henikoff, 1992, "Amino acid substitution matrices from protein blocks".
Residues are in the order of `alphabet.RESIDUES`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .alphabet import RESIDUES

# fmt: off
_SCORES = (  # columns: L A G V S E R T I D P K Q N F Y M H W C
    (4, -1, -4, 1, -2, -3, -2, -1, 2, -4, -3, -2, -2, -3, 0, -1, 2, -3, -2, -1),  # L
    (-1, 4, 0, 0, 1, -1, -1, 0, -1, -2, -1, -1, -1, -2, -2, -2, -1, -2, -3, 0),  # A
    (-4, 0, 6, -3, 0, -2, -2, -2, -4, -1, -2, -2, -2, 0, -3, -3, -3, -2, -2, -3),  # G
    (1, 0, -3, 4, -2, -2, -3, 0, 3, -3, -2, -2, -2, -3, -1, -1, 1, -3, -3, -1),  # V
    (-2, 1, 0, -2, 4, 0, -1, 1, -2, 0, -1, 0, 0, 1, -2, -2, -1, -1, -3, -1),  # S
    (-3, -1, -2, -2, 0, 5, 0, -1, -3, 2, -1, 1, 2, 0, -3, -2, -2, 0, -3, -4),  # E
    (-2, -1, -2, -3, -1, 0, 5, -1, -3, -2, -2, 2, 1, 0, -3, -2, -1, 0, -3, -3),  # R
    (-1, 0, -2, 0, 1, -1, -1, 5, -1, -1, -1, -1, -1, 0, -2, -2, -1, -2, -2, -1),  # T
    (2, -1, -4, 3, -2, -3, -3, -1, 4, -3, -3, -3, -3, -3, 0, -1, 1, -3, -3, -1),  # I
    (-4, -2, -1, -3, 0, 2, -2, -1, -3, 6, -1, -1, 0, 1, -3, -3, -3, -1, -4, -3),  # D
    (-3, -1, -2, -2, -1, -1, -2, -1, -3, -1, 7, -1, -1, -2, -4, -3, -2, -2, -4, -3),
    (-2, -1, -2, -2, 0, 1, 2, -1, -3, -1, -1, 5, 1, 0, -3, -2, -1, -1, -3, -3),  # K
    (-2, -1, -2, -2, 0, 2, 1, -1, -3, 0, -1, 1, 5, 0, -3, -1, 0, 0, -2, -3),  # Q
    (-3, -2, 0, -3, 1, 0, 0, 0, -3, 1, -2, 0, 0, 6, -3, -2, -2, 1, -4, -3),  # N
    (0, -2, -3, -1, -2, -3, -3, -2, 0, -3, -4, -3, -3, -3, 6, 3, 0, -1, 1, -2),  # F
    (-1, -2, -3, -1, -2, -2, -2, -2, -1, -3, -3, -2, -1, -2, 3, 7, -1, 2, 2, -2),  # Y
    (2, -1, -3, 1, -1, -2, -1, -1, 1, -3, -2, -1, 0, -2, 0, -1, 5, -2, -1, -1),  # M
    (-3, -2, -2, -3, -1, 0, 0, -2, -3, -1, -2, -1, 0, 1, -1, 2, -2, 8, -2, -3),  # H
    (-2, -3, -2, -3, -3, -3, -3, -2, -3, -4, -4, -3, -2, -4, 1, 2, -1, -2, 11, -2),  # W
    (-1, 0, -3, -1, -1, -4, -3, -1, -1, -3, -3, -3, -3, -3, -2, -2, -1, -3, -2, 9),  # C
)
_FREQUENCIES = {
    "A": 0.074, "R": 0.052, "N": 0.045, "D": 0.054, "C": 0.025, "Q": 0.034, "E": 0.054,
    "G": 0.074, "H": 0.026, "I": 0.068, "L": 0.099, "K": 0.058, "M": 0.025, "F": 0.047,
    "P": 0.039, "S": 0.057, "T": 0.051, "W": 0.013, "Y": 0.032, "V": 0.073,
}
# fmt: on


@cache
def blosum62() -> NDArray[np.int64]:
    """Return ``(20, 20)`` scores S in half bits; symmetric."""
    table = np.array(_SCORES, np.int64)
    table.flags.writeable = False
    return table


@cache
def background() -> NDArray[np.float64]:
    """Return ``(20,)``: the frequencies p of the residues behind BLOSUM62."""
    p = np.array([_FREQUENCIES[letter] for letter in RESIDUES])
    p /= p.sum()
    p.flags.writeable = False
    return p


@cache
def conditional() -> NDArray[np.float64]:
    """Return ``(20, 20)``: p(b | a), the law of what stands where `a` stood.

    ``p(b | a) = p_b 2^(S_ab / 2) / Z_a``, since ``S = 2 log2(q_ab / (p_a p_b))``.
    """
    law = background() * 2.0 ** (blosum62() / 2)
    law /= law.sum(1, keepdims=True)
    law.flags.writeable = False
    return law
