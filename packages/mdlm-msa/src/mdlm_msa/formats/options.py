"""How a file is read. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QueryInsertions = Literal["drop", "keep", "error"]
Columns = Literal["query", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reader does where a file leaves a choice."""

    query: str | None = None
    """The row that is the query: its header or the first word of it, or its number
    from 1; None for the first row."""
    keep_letters: bool = False
    """Whether insertions are kept, in `Alignment.letters`."""
    max_rows: int = 0
    """Rows besides the query, at most: a random choice of them; 0 means all."""
    seed: int = 0
    """Decides the choice."""
    query_insertions: QueryInsertions = "drop"
    """Letters of an a3m query in lower case: drop takes them for insertions, which are
    in no column, as a2m means them; keep gives each a column, in which other rows have
    gaps; error refuses them."""
    columns: Columns = "query"
    """Of a Stockholm alignment: those where the query has a residue, or those that the
    reference line (``#=GC RF``) names."""
