"""Which new rows are accepted: how near they are to the query and to the input.

Identity is that of `identity.identity_pair`: over columns where both rows have a
residue. Letters: n new rows, R rows of the input, L columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdlm_msa.alphabet import STATE_OF, Ids
from mdlm_msa.config import GenerationConfig
from mdlm_msa.identity import identity_pair, nearest_identity

EMPTY = "no residue"
FAR = "too far from the query"
NEAR = "too near to the query"
COPY = "too near to a row of the input"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of each new row."""

    identity: NDArray[np.float32]
    """``(n,)``: to the query."""
    nearest: NDArray[np.float32]
    """``(n,)``: to the most alike row of the input, the query included."""
    reason: tuple[str, ...]
    """Why a row is not accepted; empty if it is."""


def judge(rows: Ids, source: Ids, config: GenerationConfig) -> Verdict:
    """Judge new rows by the band of the settings; a row without a residue is out.

    Args:
        rows: ``(n, L)`` ids.
        source: ``(R, L)`` ids of the input, the query first.
        config: `identity` and `max_similar` are read.
    """
    states, known = STATE_OF[rows], STATE_OF[source]
    identity = identity_pair(states, known[:1])[:, 0]
    nearest = nearest_identity(states, known)
    low, high = config.identity
    reasons = [
        (~(states < 20).any(1), EMPTY),
        (identity < low, FAR),
        (identity > high, NEAR),
        (nearest > config.max_similar, COPY),
    ]
    reason = np.select([test for test, _ in reasons], [why for _, why in reasons], "")
    return Verdict(identity, nearest, tuple(map(str, reason)))
