"""A family: its alignment, and which of its rows are for what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import Ids

Rows = NDArray[np.int64]
"""Numbers of rows of an alignment."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Family:
    """An alignment of one family. The query, row 0, is always given."""

    name: str
    alignment: Alignment
    """The query first."""
    train_rows: Rows
    """Numbers of the homologues to learn from; none if the family is held out whole."""
    held_out_rows: Rows
    """Numbers of the homologues to measure on; all if the family is held out whole."""
    contacts: Rows | None = None
    """``(P, 2)`` pairs of columns i < j, from 0, that are known to touch."""

    @classmethod
    def of(cls, alignment: Alignment, *, contacts: Rows | None = None) -> Family:
        """Return a family of which nothing is held out."""
        return cls(
            name=alignment.name,
            alignment=alignment,
            train_rows=np.arange(1, alignment.depth),
            held_out_rows=np.zeros(0, np.int64),
            contacts=contacts,
        )

    @property
    def train(self) -> Ids:
        """Ids ``(T, L)`` of the homologues to learn from."""
        return self.alignment.rows[self.train_rows]

    @property
    def held_out(self) -> Ids:
        """Ids ``(H, L)`` of the homologues to measure on."""
        return self.alignment.rows[self.held_out_rows]

    @property
    def whole(self) -> bool:
        """Whether the family is held out whole."""
        return not len(self.train_rows)
