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
    """For each text; texts with the same author are never divided."""
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

    def by_author(self) -> tuple[tuple[str, ...], Places, Values]:
        """Return the authors in the order of their first text, and what is of each.

        Returns:
            The M authors; for each text the place of its author ``(N,)``; and the
            values of each author ``(M, K)``, a value that one of the texts has.

        Raises:
            DataError: if two texts of an author have different values of a column.
        """
        place: dict[str, int] = {}
        owner = np.array(
            [place.setdefault(author, len(place)) for author in self.authors],
            dtype=np.int64,
        )
        values = np.full((len(place), len(self.columns)), np.nan)
        for column, name in enumerate(self.columns):
            known = np.flatnonzero(~np.isnan(self.values[:, column]))
            found = self.values[known, column]
            values[owner[known], column] = found
            wrong = known[values[owner[known], column] != found]
            if len(wrong):
                author = self.authors[wrong[0]]
                one = self.values[wrong[0], column]
                raise DataError(
                    f"the author '{author}' has two values of {name}: "
                    f"{one:g} and {values[owner[wrong[0]], column]:g}; a person has one"
                )
        return tuple(place), owner, values
