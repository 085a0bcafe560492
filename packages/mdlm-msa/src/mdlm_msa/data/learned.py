"""Whether a run has learned from a family before. Light: imports nothing heavy."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdlm_msa.alignment import Alignment

NAMED = 20_000
"""Families of which a run keeps the queries, at most."""


def query_hash(alignment: Alignment) -> str:
    """Return a hash of the query's canonical letters, without gaps."""
    letters = alignment.select([0]).canonical().query.replace("-", "")
    return sha256(letters.encode()).hexdigest()[:16]


def learned_before(run: Path, alignment: Alignment) -> str | None:
    """Return a line on whether a run learned from a family; None if it did not.

    The query is compared, and if it is another one the name of the family.

    Args:
        run: a run folder.
        alignment: the query first.
    """
    from mdlm_core.train.folder import RunFolder

    path = RunFolder(run).data
    card: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    )
    known = card.get("training_queries")
    if known is None:
        return (
            f"whether '{run}' has learned from this family is not known: it does not "
            f"say which families it learned from; if it has, held-out rows are not new "
            f"to it"
        )
    wanted = query_hash(alignment)
    name = next((n for n, value in known.items() if value == wanted), None)
    if name is None and alignment.name not in known:
        return None
    what = (
        f"from the family '{name}', which has the same query"
        if name is not None
        else f"from a family called '{alignment.name}', with another query"
    )
    return (
        f"'{run}' has learned {what}: rows that are held out now may not be new to it, "
        f"and numbers on them be too good; to measure, begin with a run that held the "
        f"family out (--hold-out)"
    )


def warn_if_learned(run: Path, data: str) -> None:
    """Say on stderr if a run has learned from the one alignment in a file."""
    from mdlm_msa.formats.reading import read_alignment

    alignment = read_alignment(Path(data).expanduser(), max_rows=1)
    line = learned_before(run.expanduser(), alignment)
    if line:
        print(f"note: {line}", file=sys.stderr)  # noqa: T201
