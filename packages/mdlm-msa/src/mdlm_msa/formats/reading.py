"""Read alignments of any format that is known."""

from __future__ import annotations

from pathlib import Path

from mdlm_msa.alignment import Alignment

from .a3m import join, read_blocks


def read_alignment(
    path: Path | str,
    *,
    format: str = "auto",
    query: str | None = None,
    keep_letters: bool = False,
    max_rows: int = 0,
    seed: int = 0,
) -> Alignment:
    """Return the alignment in the file `path`, the query first."""
    blocks = read_blocks(
        Path(path), query=query, keep_letters=keep_letters, max_rows=max_rows, seed=seed
    )
    return join(list(blocks))
