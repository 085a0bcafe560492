"""How much nearer rows are to the query, and to each other, than homologues are.

Rows that change a few residues of the query repeat nothing and yet agree with every
column a little. So the identity (id_pair) of rows to the query and to each other, in
the mean, is compared with that of held-out homologues:

    excess = max(0, q - q_H - s_q / sqrt(N)) + max(0, p - p_H - 2 s_p / sqrt(N)),

where q is the mean identity to the query, p that of two different rows, H stands for
the held-out homologues, and s_q and s_p are the standard deviations of a homologue's
identity to the query and of its mean identity to the others. The subtracted terms are
the standard errors that N rows drawn at random have (for pairs that of a U-statistic of
two arguments; Hoeffding, 1948, "A class of statistics with asymptotically normal
distribution"), so that homologues themselves lose little or nothing. Letters: N rows,
H held-out rows, L columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdlm_msa.alphabet import Ids
from mdlm_msa.identity import identity_pair
from mdlm_msa.laws import Array

_MOST = 500
"""Held-out rows that are compared with each other, at most, spread over all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """The identities that held-out homologues have."""

    query: float
    """q_H."""
    query_spread: float
    """s_q."""
    rows: float
    """p_H; with one homologue its identity to the query."""
    rows_spread: float
    """s_p."""

    @classmethod
    def of(cls, query: Ids, held_out: Ids) -> Nearness:
        """Measure held-out homologues.

        Args:
            query: states ``(L,)``.
            held_out: states ``(H, L)``, one row at least.
        """
        if len(held_out) > _MOST:
            held_out = held_out[np.linspace(0, len(held_out) - 1, _MOST).astype(int)]
        to_query = identity_pair(query[None], held_out)[0].astype(np.float64)
        among = _among(held_out) if len(held_out) > 1 else to_query
        return cls(
            query=float(to_query.mean()),
            query_spread=float(to_query.std()),
            rows=float(among.mean()),
            rows_spread=float(among.std()),
        )

    def excess(self, rows: Ids, query: Ids) -> float:
        """Return by how much rows ``(N, L)`` are too near; 0 if they are not."""
        root = np.sqrt(len(rows))
        to_query = float(identity_pair(query[None], rows).mean())
        found = max(0.0, to_query - self.query - self.query_spread / root)
        if len(rows) > 1:
            among = float(_among(rows).mean())
            found += max(0.0, among - self.rows - 2 * self.rows_spread / root)
        return float(found)


def _among(rows: Ids) -> Array:
    """Return the mean identity ``(N,)`` of each row to the others."""
    table = identity_pair(rows).astype(np.float64)
    found: Array = (table.sum(1) - np.diag(table)) / (len(rows) - 1)
    return found
