"""Texts, and what is known about their authors. Letters: N texts, K columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError

Values = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PersonaTexts:
    """N texts, who wrote each, and what is known of the author."""

    texts: tuple[str, ...]
    """Empty texts are people of whom only the values are known."""
    authors: tuple[str, ...]
    """For each text; all texts of an author are in one split."""
    values: Values
    """``(N, K)``: the five traits in [0, 1], then the labels; NaN is not known."""
    columns: tuple[str, ...]
    """The names of the K columns."""
    tiers: Mapping[str, str] = field(default_factory=dict)
    """The tier of each column that is no trait."""

    def __post_init__(self) -> None:
        n, shape = len(self.texts), (len(self.texts), len(self.columns))
        if len(self.authors) != n or self.values.shape != shape:
            raise DataError(
                f"there are {n} texts, {len(self.authors)} authors and a table of "
                f"values of the shape {self.values.shape}; it must be {shape}"
            )

    def __len__(self) -> int:
        """N."""
        return len(self.texts)

    def select(self, rows: Sequence[int] | Places) -> PersonaTexts:
        """Return the texts at `rows`, in that order."""
        where = np.asarray(rows, dtype=np.int64)
        return PersonaTexts(
            tuple(self.texts[row] for row in where.tolist()),
            tuple(self.authors[row] for row in where.tolist()),
            self.values[where],
            self.columns,
            self.tiers,
        )

    def persons(self) -> tuple[tuple[str, ...], Places, Values]:
        """Return who there is, in the order of their first text, and what is of each.

        An author whose texts have different values, as where each text was judged on
        its own, is one person for each set of values.

        Returns:
            The author of each of the M persons; for each text the place of its person
            ``(N,)``; and the values of each person ``(M, K)``.
        """
        places: dict[tuple[str, bytes], int] = {}
        keys = zip(self.authors, map(bytes, self.values + 0.0), strict=True)
        owner = np.array(
            [places.setdefault(key, len(places)) for key in keys], dtype=np.int64
        )
        first = np.unique(owner, return_index=True)[1]
        return tuple(author for author, _ in places), owner, self.values[first]
