"""An alignment as a matrix of ids: rows are proteins, columns those of the query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from .alphabet import GAP, ID_OF_BYTE, RESIDUES, STATE_OF, Ids, decode


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Alignment:
    """Rows over the columns of a query, which is the first row.

    Letters: R rows, L columns.
    """

    rows: Ids
    """``(R, L)`` uint8 ids of the alphabet: residues, odd letters and gaps."""
    headers: tuple[str, ...]
    """What stands after `>` in each row, unchanged; duplicates are normal."""
    letters: tuple[bytes, ...] | None = None
    """Each row as a3m writes it, with insertions in lower case; None if none of them
    has an insertion or they were not kept."""
    name: str = ""
    """Of the family."""
    comments: tuple[str, ...] = ()
    """Lines before the first row, such as ColabFold's ``#len<TAB>copies``."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What the reader met and how often, such as ``letters J read as X``."""

    @property
    def depth(self) -> int:
        """R, the query included."""
        return int(self.rows.shape[0])

    @property
    def length(self) -> int:
        """L."""
        return int(self.rows.shape[1])

    @property
    def query(self) -> str:
        """The first row."""
        return decode(self.rows[0])

    @property
    def states(self) -> Ids:
        """``(R, L)`` symbols of statistics: 0 to 19, 20 for a gap, 255 for others."""
        return STATE_OF[self.rows]

    @property
    def is_residue(self) -> np.ndarray:
        """``(R, L)`` bool: one of the twenty amino acids."""
        return (self.rows >= 1) & (self.rows <= len(RESIDUES))

    @property
    def is_gap(self) -> np.ndarray:
        """``(R, L)`` bool."""
        gaps: np.ndarray = self.rows == GAP
        return gaps

    def canonical(self, *, rare: Literal["nearest", "x"] = "nearest") -> Alignment:
        """Return it with the residues, X and gaps alone; `notes` count the changes.

        `.` becomes a gap; B and Z, which stand for either of two residues, become X;
        U (selenocysteine) and O (pyrrolysine) become C and K, which they resemble.

        Args:
            rare: ``x`` makes X of U and O too.
        """
        changes = {"B": "X", "Z": "X", "U": "C", "O": "K", ".": "-"}
        if rare == "x":
            changes |= {"U": "X", "O": "X"}
        table = np.arange(256, dtype=np.uint8)
        for old, new in changes.items():
            table[ID_OF_BYTE[ord(old)]] = ID_OF_BYTE[ord(new)]
        count = np.bincount(self.rows.ravel(), minlength=256)
        notes = Counter(self.notes)
        for old, new in changes.items():
            times = int(count[ID_OF_BYTE[ord(old)]])
            if times:
                notes[f"letters {old} changed to {new}"] += times
        letters = self.letters
        if letters is not None:
            olds = "".join(old for old in changes if old != ".") + "J*"
            news = "".join(changes[old] for old in changes if old != ".") + "XX"
            both = bytes.maketrans(
                (olds + olds.lower() + ".").encode(),
                (news + news.lower() + "-").encode(),
            )
            letters = tuple(row.translate(both) for row in letters)
        return replace(self, rows=table[self.rows], letters=letters, notes=dict(notes))

    def select(self, indices: Sequence[int] | np.ndarray) -> Alignment:
        """Return the rows `indices`, in that order; the first should be the query."""
        chosen = np.asarray(indices)
        places = chosen.nonzero()[0] if chosen.dtype == bool else chosen
        return replace(
            self,
            rows=self.rows[places],
            headers=tuple(self.headers[i] for i in places),
            letters=None
            if self.letters is None
            else tuple(self.letters[i] for i in places),
        )
