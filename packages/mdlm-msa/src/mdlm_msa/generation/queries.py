"""What a user names as queries: sequences, files of them, alignments, folders.

A FASTA file without a gap holds queries, one in each record. Any other file is an
alignment: its first row is the query, and its other rows may be shown to the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mdlm_core.errors import DataError, UsageError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import RESIDUES
from mdlm_msa.formats.a3m import parse_rows
from mdlm_msa.formats.folders import families
from mdlm_msa.formats.letters import BLANKS
from mdlm_msa.formats.opening import family_name, opened, plain_name
from mdlm_msa.formats.reading import read_alignment, read_alignments
from mdlm_msa.formats.records import pieces

_FASTA = (".fasta", ".fa", ".faa", ".fas", ".seq")
_LEAST = 5


def read_queries(
    places: Sequence[str], *, keep_letters: bool = False
) -> Iterator[Alignment]:
    """Yield each query with the rows that came with it; names are unique.

    Args:
        places: files, folders, globs, or sequences in upper case.
        keep_letters: whether insertions are kept.

    Raises:
        DataError: if a file cannot be read or holds nothing.
        UsageError: if something is neither a file nor a sequence.
    """
    used: Counter[str] = Counter()
    for place in places:
        for found in _read(place, keep_letters):
            name = found.name or "query"
            used[name] += 1
            again = used[name] > 1
            yield replace(found, name=f"{name}_{used[name]}" if again else name)


def _read(place: str, keep_letters: bool) -> Iterator[Alignment]:
    path = Path(place)
    if not path.exists() and _is_sequence(place):
        yield parse_rows([place.encode()], [b"query"], name="query", place=place)
        return
    if path.is_file() and plain_name(path).endswith(_FASTA):
        yield from read_fasta(path, keep_letters=keep_letters)
        return
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        fasta = [file for file in files if plain_name(file).endswith(_FASTA)]
        for file in fasta:
            yield from read_fasta(file, keep_letters=keep_letters)
        if fasta and not any(
            family.paths[0] not in fasta for family in families(place)
        ):
            return
        if fasta:
            raise UsageError(
                f"'{place}' holds FASTA files and alignments; name them separately, "
                f"such as '{place}/*.a3m'"
            )
    yield from read_alignments(place, keep_letters=keep_letters)


def read_fasta(path: Path, *, keep_letters: bool = False) -> Iterator[Alignment]:
    """Yield the queries of a FASTA file, or its one alignment if a row has a gap.

    Lower case, with which some tools mark what is of low complexity, is read as upper
    case in a file of queries; `notes` say so.

    Raises:
        DataError: if it holds no sequence, or a record is no protein.
    """
    found: list[tuple[bytes, bytes]] = []
    with opened(path) as stream:
        for piece in pieces(stream):
            if piece.before:
                raise DataError(
                    f"'{path}' does not begin with '>'; a FASTA file has '>' and a "
                    f"name, and the sequence in the next lines"
                )
            found += zip(piece.headers, piece.bodies, strict=True)
    bodies = [body.translate(None, BLANKS) for _, body in found]
    if not found:
        raise DataError(f"'{path}' holds no sequence")
    if any(b"-" in body or b"." in body for body in bodies):
        yield read_alignment(path, keep_letters=keep_letters)
        return
    for number, ((header, _), body) in enumerate(
        zip(found, bodies, strict=True), start=1
    ):
        name = header.split(None, 1)[0].decode(errors="replace") if header else ""
        one = parse_rows(
            [body.upper()],
            [header],
            name=_file_name(name) or family_name(path),
            place=f"{path}, record {number}",
        )
        lower = sum(97 <= byte <= 122 for byte in body)
        notes = {"letters of lower case read as upper case": lower} if lower else {}
        yield replace(one, notes={**one.notes, **notes})


def with_prompt(query: Alignment, prompt: Alignment, *, path: str) -> Alignment:
    """Return the rows of `prompt` below a query, which must be its first row.

    Raises:
        UsageError: if the first row is another protein.
    """
    one, other = query.canonical().query, prompt.canonical().query
    if one != other:
        place = next(
            (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
            min(len(one), len(other)),
        )
        raise UsageError(
            f"--msa-prompt '{path}' is aligned to another protein than the query "
            f"'{query.name}': they differ at place {place + 1}, and have {len(other)} "
            f"and {len(one)} residues; its first row must be the query"
        )
    letters = prompt.letters
    if letters is not None:
        first = query.query.encode() if query.letters is None else query.letters[0]
        letters = (first, *letters[1:])
    return replace(
        prompt,
        name=query.name,
        rows=np.vstack([query.rows[:1], prompt.rows[1:]]),
        headers=query.headers[:1] + prompt.headers[1:],
        letters=letters,
    )


def equal_lengths(queries: Sequence[Alignment], places: Sequence[str]) -> bool:
    """Return whether queries may be the rows of one alignment: all equally long."""
    alone = all(query.depth == 1 for query in queries)
    lengths = {query.length for query in queries}
    return alone and len(lengths) == 1 and len(places) < len(queries)


def input_files(places: Sequence[str]) -> Iterator[Path]:
    """Yield the files that places name, those of folders too; see `read_queries`."""
    for place in places:
        path = Path(place).expanduser()
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (file for file in path.rglob("*") if file.is_file())
        elif not _is_sequence(place):
            for family in families(place):
                yield from family.paths


def _is_sequence(text: str) -> bool:
    return len(text) >= _LEAST and not set(text) - set(RESIDUES + "X")


def _file_name(name: str) -> str:
    """Return a name that can be that of a file."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).strip(".")
