"""Which rows the model is shown when it scores others.

Letters: L columns, k rows of the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_msa import layout
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import Ids, decode
from mdlm_msa.config import GenerationConfig
from mdlm_msa.config.data import Selection
from mdlm_msa.generation.prompts import Prompts

from .rows import Target


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The query and homologues of it."""

    query: Ids
    """``(L,)``."""
    prompt: Ids
    """``(k, L)``."""
    max_similar: float = 1.0
    """A row is scored without those of the prompt that are as like it as this, or
    more, as a share of equal symbols over all columns; 1 leaves out repetitions."""
    usable: int = 0
    """Rows that the prompt was chosen from."""
    note: str = ""
    """Which rows are never shown, in words; empty if all may be."""
    support: Ids | None = None
    """``(M, L)`` further rows, which the profile alone sees."""

    def target(self, row: Ids, *, is_query: bool = False) -> Target:
        """Return a row with what is shown before it.

        The query is not shown to itself: homologues alone are, if there are any.
        """
        others = self._unlike(self.prompt, row)
        if not is_query:
            others = np.concatenate([self.query[None], others])
        more = None if self.support is None else self._unlike(self.support, row)
        return Target(row, others, more)

    def _unlike(self, rows: Ids, row: Ids) -> Ids:
        found: Ids = rows[(rows == row).mean(1) < self.max_similar]
        return found


def show(
    alignment: Alignment,
    prompt: Alignment | None,
    *,
    count: int,
    select: Selection,
    max_similar: float = 1.0,
    min_coverage: float = 0.0,
    support: int = 0,
    length: int,
    noise: Noise,
) -> Shown:
    """Choose what is shown beside the query of an alignment.

    Rows that `Prompts` leaves out are never shown, as in generation.

    Args:
        alignment: its first row is the query.
        prompt: of the same query; None shows no homologue.
        count: homologues, at most.
        select: which of them.
        max_similar: see `Shown`.
        min_coverage: share of the columns in which a row that is shown has a residue,
            at least.
        support: further rows for the profile alone, at most.
        length: tokens of a canvas, at most.
        noise: decides where chance does.

    Raises:
        DataError: if the prompt has another query.
        UsageError: if the query and one row do not fit on a canvas.
    """
    query = alignment.rows[0]
    fitting = layout.capacity(length, len(query))
    if fitting < 2:
        raise UsageError(
            f"the query has {len(query)} residues, so that it and one row take "
            f"{layout.size(2, len(query))} tokens, and a canvas has {length}; take a "
            f"model that was trained with longer canvases, or allow it with --length "
            f"{layout.size(2, len(query))} (beyond what the model has seen)"
        )
    none = np.zeros((0, len(query)), np.uint8)
    if prompt is None or not count:
        return Shown(query, none, max_similar)
    _check_query(alignment, prompt)
    if prompt.depth == 1:
        return Shown(query, none, max_similar)
    config = GenerationConfig(select=select, min_coverage=min_coverage, support=support)
    prompts = Prompts(prompt, config)
    chosen = prompts.choose(min(count, fitting - 2), noise)
    rows = prompt.rows[chosen]
    further = prompts.further(chosen, noise.child("support"))
    more = prompt.rows[further] if len(further) else None
    return Shown(query, rows, max_similar, len(prompts), prompts.note, more)


def _check_query(alignment: Alignment, prompt: Alignment) -> None:
    ours, theirs = alignment.rows[0], prompt.rows[0]
    names = f"'{alignment.name or 'the file'}'", f"'{prompt.name or 'the prompt'}'"
    if len(ours) != len(theirs):
        raise DataError(
            f"the query of the prompt {names[1]} has {len(theirs)} residues, and that "
            f"of {names[0]} {len(ours)}; a prompt is an alignment to the same query"
        )
    differs = np.flatnonzero(ours != theirs)
    if len(differs):
        place = int(differs[0])
        raise DataError(
            f"the query of the prompt {names[1]} has {decode(theirs[[place]])} in "
            f"column {place + 1}, and that of {names[0]} {decode(ours[[place]])}; a "
            f"prompt is an alignment to the same query"
        )
