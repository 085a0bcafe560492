"""Folders of alignments: which files are of one family, and what it is called."""

from __future__ import annotations

from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from mdlm_core.errors import DataError

from .opening import family_name, plain_name

_SEARCHES = (
    "uniref90_hits",
    "bfd_uniclust_hits",
    "bfd_uniref_hits",
    "small_bfd_hits",
    "bfd_hits",
    "mgnify_hits",
    "uniclust30",
)
"""Results of searches for one chain, in the order in which they are joined: those of
AlphaFold, OpenFold and OpenProteinSet."""
_PAIRED = ("pairing", "uniprot_hits", "pdb_hits", "hmm_output", "pdb70_hits")
"""Rows that are paired with those of other chains, and templates: not read."""
_ENDINGS = (".a3m", ".a2m", ".sto", ".stk", ".stockholm", ".fasta", ".fa", ".afa")
_LINES = (".jsonl",)
_INNER = frozenset({"a3m", "msas", "msa", "alignments"})
"""Folders that hold the files of the family after which their parent is called."""


class Family(NamedTuple):
    """The files of one family."""

    name: str
    paths: tuple[Path, ...]
    passed: tuple[str, ...] = ()
    """Names of files beside them that are not read: pairs and templates."""


def families(path: Path | str, *, searches_only: bool = False) -> Iterator[Family]:
    """Yield the families of a file, a folder, a glob, or several with commas.

    A folder is searched to its depths. The results of several searches for one chain
    in one folder (``bfd_uniclust_hits.a3m``, ``uniref90_hits.sto``, ...) are one
    family, called after the folder; so is ``non_pairing.a3m``. Any other file is a
    family by itself, but for rows that are paired with those of other chains and
    templates (``pairing.a3m``, ``uniprot_hits.sto``, ...): the first family of their
    folder says that they were passed over.

    Args:
        path: what the user named.
        searches_only: pass over all but results of searches, as in OpenProteinSet.

    Raises:
        DataError: if nothing is found.
    """
    count = 0
    for place in _places(str(path)):
        found = (
            _in_folder(place, searches_only)
            if place.is_dir()
            else iter([Family(family_name(place), (place,))])
        )
        for family in found:
            count += 1
            yield family
    if not count:
        raise DataError(
            f"'{path}' holds no alignment; files end with {', '.join(_ENDINGS)} or "
            ".jsonl, with or without .gz"
            + (", and are called as OpenProteinSet does" if searches_only else "")
        )


def _places(text: str) -> Iterator[Path]:
    """Yield the files and folders that `text` names."""
    whole = Path(text).expanduser()
    parts = [text] if whole.exists() else [part.strip() for part in text.split(",")]
    for part in parts:
        place = Path(part).expanduser()
        if place.exists():
            yield place
        elif has_magic(part):
            found = sorted(glob(str(place), recursive=True))
            if not found:
                raise DataError(f"no file is like '{part}'")
            yield from map(Path, found)
        elif part:
            raise DataError(f"there is no file '{part}'")


def _in_folder(folder: Path, searches_only: bool) -> Iterator[Family]:
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    files = [
        entry
        for entry in entries
        if entry.is_file()
        and not entry.name.startswith(".")
        and plain_name(entry).endswith(_ENDINGS + _LINES)
    ]
    rank = {name: i for i, name in enumerate(_SEARCHES)}
    searches = sorted(
        (file for file in files if family_name(file) in rank),
        key=lambda file: (rank[family_name(file)], file.name),
    )
    alone = [file for file in files if family_name(file) == "non_pairing"]
    passed = tuple(file.name for file in files if family_name(file) in _PAIRED)
    if searches or alone:
        yield Family(_called(folder), (*searches, *alone), passed)
        passed = ()
    if not searches_only:
        taken = {*searches, *alone}
        for file in files:
            if file not in taken and family_name(file) not in _PAIRED:
                yield Family(family_name(file), (file,), passed)
                passed = ()
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _in_folder(entry, searches_only)


def _called(folder: Path) -> str:
    folder = folder.absolute()
    return folder.parent.name if folder.name in _INNER else folder.name
