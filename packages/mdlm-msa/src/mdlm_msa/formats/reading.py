"""Read alignments of any format that is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from mdlm_core.errors import DataError
from mdlm_msa.alignment import Alignment

from .a3m import read_blocks
from .aligned import read_fasta
from .csv_rows import read_csv
from .detect import format_of
from .folders import Family, families
from .joining import join
from .json_lines import read_json_lines
from .opening import family_name
from .options import Columns, QueryInsertions, Reading
from .stockholm import read_stockholm
from .text import read_text

_NULS = "blocks joined, with NUL bytes between them"


def read_alignment(
    path: Path | str,
    *,
    format: str = "auto",
    query: str | None = None,
    keep_letters: bool = False,
    max_rows: int = 0,
    seed: int = 0,
    query_insertions: QueryInsertions = "drop",
    columns: Columns = "query",
) -> Alignment:
    """Return the alignment in a file, the query first.

    No row is left out but by `max_rows`, repeated headers and rows included; and rows
    of secondary structure, which hh-suite adds and which are no proteins; and, where
    searches or blocks are joined, the query of each but the first. What was
    met on the way is counted in `Alignment.notes`. A file of 10^6 rows is read as a
    stream: besides the rows that are kept only some megabytes are in memory.

    Args:
        path: the file, compressed with gzip or not; or the folder of the searches for
            one chain.
        format: a3m, a2m, fasta, stockholm, msagpt, jsonl or csv; auto goes by the name
            and then by the content.
        query: the row that becomes the query: its header, the first word of it, or its
            number from 1. Columns where it has a gap become insertions.
        keep_letters: whether insertions are kept, in `Alignment.letters`.
        max_rows: rows besides the query, at most: a random choice; 0 means all.
        seed: decides the choice.
        query_insertions: what becomes of lower case in the query of an a3m file: drop
            leaves it in no column, keep gives it columns, error refuses it.
        columns: of a Stockholm file: those of the query, or those of ``#=GC RF``.

    Raises:
        DataError: if it cannot be read, is empty, breaks a rule, or holds several
            alignments; with file, row, header and rule.
        MissingExtraError: if it is a Stockholm file and pyhmmer is not installed.
        UnknownNameError: if no row is called `query`.
    """
    reading = Reading(
        query=query,
        keep_letters=keep_letters,
        max_rows=max_rows,
        seed=seed,
        query_insertions=query_insertions,
        columns=columns,
    )
    found = list(_two(_read(path, format, reading)))
    if len(found) > 1:
        raise DataError(
            f"'{path}' holds more than one alignment ('{found[0].name}', "
            f"'{found[1].name}', ...), where one is read; take one of them out, for "
            "example with mdlm msa convert to a folder"
        )
    return found[0]


def read_alignments(
    path: Path | str,
    *,
    format: str = "auto",
    query: str | None = None,
    keep_letters: bool = False,
    max_rows: int = 0,
    seed: int = 0,
    query_insertions: QueryInsertions = "drop",
    columns: Columns = "query",
) -> Iterator[Alignment]:
    """Yield every alignment of a file, a folder, a glob, or several with commas.

    Names are unique: a second family of one name is called ``name_2``. The arguments
    are those of `read_alignment`; in a format with several alignments per file, rows
    are chosen in each.

    Raises:
        DataError: if nothing is found, or as in `read_alignment`.
    """
    reading = Reading(
        query=query,
        keep_letters=keep_letters,
        max_rows=max_rows,
        seed=seed,
        query_insertions=query_insertions,
        columns=columns,
    )
    used: Counter[str] = Counter()
    for found in _read(path, format, reading):
        yield replace(found, name=_unique(found.name, used))


def _unique(name: str, used: Counter[str]) -> str:
    used[name] += 1
    return name if used[name] == 1 else _unique(f"{name}_{used[name]}", used)


def _two(found: Iterator[Alignment]) -> Iterator[Alignment]:
    for _, alignment in zip(range(2), found, strict=False):
        yield alignment


def _read(path: Path | str, format: str, reading: Reading) -> Iterator[Alignment]:
    for family in families(path, searches_only=format == "openproteinset"):
        notes = {
            f"{name} passed over (pairs of chains, or templates)": 1
            for name in family.passed
        }
        for found in _family(family, format, reading):
            yield replace(found, notes={**found.notes, **notes}) if notes else found
            notes = {}


def _family(family: Family, format: str, reading: Reading) -> Iterator[Alignment]:
    """Yield the alignments of one file, or the one of several searches."""
    if len(family.paths) == 1:
        path = family.paths[0]
        for found in _file(path, format_of(path, format), reading):
            whole = found.name == family_name(path)
            yield replace(found, name=family.name) if whole else found
        return
    parts = [
        part
        for path in family.paths
        for part in _file(path, format_of(path, format), reading)
    ]
    yield replace(join(parts, "searches joined"), name=family.name)


def _file(path: Path, format: str, reading: Reading) -> Iterable[Alignment]:
    if format in ("a3m", "a2m"):
        return _blocks(path, reading)
    if format == "fasta":
        return iter([read_fasta(path, reading)])
    readers = {
        "stockholm": read_stockholm,
        "msagpt": read_text,
        "jsonl": read_json_lines,
        "csv": read_csv,
    }
    return readers[format](path, reading)


def _blocks(path: Path, reading: Reading) -> Iterator[Alignment]:
    """Yield the alignments of an a3m file; blocks of one query in a row are one."""
    groups = (
        join(list(group), _NULS)
        for _, group in groupby(read_blocks(path, reading), lambda a: a.query)
    )
    first = next(groups)
    second = next(groups, None)
    if second is None:
        yield first
        return
    for found in (first, second, *groups):
        word = (found.headers[0].split(None, 1) or ["query"])[0]
        yield replace(found, name=f"{found.name}_{word}")
