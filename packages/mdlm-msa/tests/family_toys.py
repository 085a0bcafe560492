"""Small alignments, made by hand or at random."""

from pathlib import Path

import numpy as np

from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import ID_OF_STATE, encode

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "msa"
"""Real families, beside the checkout; not everybody has them."""


def aligned(*texts: str, name: str = "toy") -> Alignment:
    """Return the rows as an alignment, the first of them the query."""
    rows = np.stack([encode(text) for text in texts])
    return Alignment(rows=rows, headers=tuple(map(str, range(len(texts)))), name=name)


def relatives(
    rows: int, columns: int, seed: int = 0, change: float = 0.5, name: str = "toy"
) -> Alignment:
    """Return rows that differ from a query in a share of the columns, some gaps."""
    rng = np.random.default_rng(seed)
    query = rng.integers(20, size=columns)
    states = np.where(
        rng.random((rows, columns)) < change,
        rng.integers(21, size=(rows, columns)),
        query,
    )
    states[0] = query
    headers = tuple(f"{name}/{r}" for r in range(rows))
    return Alignment(rows=ID_OF_STATE[states], headers=headers, name=name)
