"""What programs that predict structures take.

All of them want the query first, each row in one line, no letter outside of their
alphabet, and a first row that is the very sequence they predict. So rows are written in
canonical letters, the query without gaps and without insertions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mdlm_core.errors import ConfigError, DataError
from mdlm_msa.alignment import Alignment

from .joining import letters_of
from .writing import csv_text, fasta_text, free, not_read, put

TARGETS = ("colabfold", "af3", "boltz", "af2", "protenix")
"""Programs, by the names of commands."""


def prepared(alignment: Alignment) -> Alignment:
    """Return the alignment with what every program takes; `notes` count the changes.

    Raises:
        DataError: if the query has a gap, since then its sequence is not known.
    """
    found = alignment.canonical()
    if found.is_gap[0].any():
        column = int(found.is_gap[0].argmax()) + 1
        raise DataError(
            f"the query of '{found.name}' has a gap in column {column}, so its first "
            "row is not the sequence of a protein; choose a query without gaps "
            "(--query), or read it as aligned FASTA, where such columns are insertions"
        )
    letters = list(letters_of(found))
    letters[0] = found.query.encode()
    headers = tuple(" ".join(header.split()) for header in found.headers)
    return replace(found, letters=tuple(letters), headers=headers, comments=())


def colabfold_text(alignment: Alignment, *, counts: bool = False) -> bytes:
    """Return the a3m for ColabFold: one line per row, no tab in a header.

    Args:
        alignment: the query first.
        counts: whether to begin with ``#L<TAB>1`` and call the query 101, as the
            server does.
    """
    found = prepared(alignment)
    if not counts:
        return fasta_text(found.headers, letters_of(found))
    text = fasta_text(("101", *found.headers[1:]), letters_of(found))
    return f"#{found.length}\t1\n".encode() + text


def af3_text(alignment: Alignment, *, chain: str = "A", seed: int = 1) -> bytes:
    """Return an input of AlphaFold 3: one protein, its rows, no templates.

    The unpaired rows, the paired ones and the templates are set together: AlphaFold 3
    searches for whatever is left out.
    """
    found = prepared(alignment)
    text = fasta_text(found.headers, letters_of(found)).decode()
    protein = {
        "id": chain,
        "sequence": found.query,
        "unpairedMsa": text,
        "pairedMsa": "",
        "templates": [],
    }
    document = {
        "name": found.name or "query",
        "modelSeeds": [seed],
        "sequences": [{"protein": protein}],
        "dialect": "alphafold3",
        "version": 1,
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def boltz_text(alignment: Alignment) -> bytes:
    """Return Boltz's table ``key,sequence``; no row is paired, so keys are empty."""
    return csv_text(prepared(alignment))


def _single_stockholm(alignment: Alignment) -> bytes:
    """Return the query alone in Stockholm format."""
    return f"# STOCKHOLM 1.0\n\nquery {alignment.query}\n//\n".encode()


def af2_files(alignment: Alignment) -> dict[str, bytes]:
    """Return the folder that AlphaFold 2 reads with ``--use_precomputed_msas``.

    All rows are in the results for BFD; those of the other databases hold the query
    alone, so that no search is run for them.
    """
    found = prepared(alignment)
    alone = _single_stockholm(found)
    text = fasta_text(found.headers, letters_of(found))
    return {
        "msas/bfd_uniref_hits.a3m": text,
        "msas/uniref90_hits.sto": alone,
        "msas/mgnify_hits.sto": alone,
    }


def protenix_files(alignment: Alignment) -> dict[str, bytes]:
    """Return the folder of rows that Protenix reads."""
    found = prepared(alignment)
    rows = letters_of(found)
    return {
        "non_pairing.a3m": fasta_text(found.headers, rows),
        "pairing.a3m": fasta_text(found.headers[:1], rows[:1]),
    }


def hand_off(
    alignment: Alignment,
    path: Path | str,
    target: str,
    *,
    counts: bool = False,
    force: bool = False,
    read: Sequence[Path] = (),
) -> list[Path]:
    """Write what a program takes, and return the files.

    Args:
        alignment: the query first.
        path: a file for colabfold, af3 and boltz, a folder for af2 and protenix.
        target: one of `TARGETS`.
        counts: see `colabfold_text`.
        force: whether what is there is replaced.
        read: files that are never replaced: those the alignment is from.

    Raises:
        ConfigError: if the program is not known.
        DataError: if the query has a gap.
        UsageError: if there is something already.
    """
    path = Path(path)
    folders: dict[str, Callable[[Alignment], dict[str, bytes]]] = {
        "af2": af2_files,
        "protenix": protenix_files,
    }
    texts: dict[str, Callable[[Alignment], bytes]] = {
        "colabfold": lambda found: colabfold_text(found, counts=counts),
        "af3": af3_text,
        "boltz": boltz_text,
    }
    if target in folders:
        files = folders[target](alignment)
        places = {path / name: data for name, data in files.items()}
    elif target in texts:
        places = {path: texts[target](alignment)}
    else:
        raise ConfigError(
            f"the program '{target}' is not known; there are {', '.join(TARGETS)}"
        )
    for place in places:
        not_read(place, read)
        free(place, force)
    for place, data in places.items():
        put(place, data)
    return list(places)


def file_name(name: str) -> str:
    """Return a name that can be one of a file."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "alignment"
