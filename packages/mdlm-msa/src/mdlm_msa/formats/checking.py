"""Whether a program that predicts structures will take a file as it is meant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mdlm_core.errors import ConfigError, DataError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import BYTE_OF_ID, GAP, X
from mdlm_msa.origin import by_model

from .a3m import parse_rows
from .detect import format_of
from .handoff import TARGETS
from .joining import letters_of
from .opening import BYTE_ORDER_MARK, opened
from .options import Reading
from .reading import read_alignment
from .text_checks import check_text
from .writing import a3m_text


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    level: Literal["error", "warning", "note"]
    """error: it will fail, or silently do something else; warning: it may; note: worth
    knowing."""
    rule: str
    """A short name, such as ``wrapped``."""
    message: str
    """What, where, and the way out."""
    rows: tuple[int, ...] = ()
    """Numbers of the rows it is about, from 1; the first thousand."""


def check(
    source: Alignment | Path | str, target: str, *, query: str | None = None
) -> list[Finding]:
    """Return what a program would not take, or would take otherwise than meant.

    Args:
        source: an alignment; or a file as the program gets it: a3m, AlphaFold 3's JSON,
            Boltz's table, or the folder of AlphaFold 2 or Protenix.
        target: colabfold, af3, boltz, af2 or protenix.
        query: the sequence that is predicted, if it is known.

    Raises:
        ConfigError: if the program is not known.
    """
    if target not in TARGETS:
        raise ConfigError(
            f"the program '{target}' is not known; there are {', '.join(TARGETS)}"
        )
    if isinstance(source, Alignment):
        text = check_text(a3m_text(source), target)
        found = [Finding(*entry) for entry in text]
        return [*found, *_content(source, target, query)]
    try:
        return list(_file(Path(source), target, query))
    except DataError as error:
        return [Finding("error", "unreadable", str(error))]


def _file(path: Path, target: str, query: str | None) -> Iterator[Finding]:
    if path.is_dir():
        yield from _folder(path, target, query)
        return
    with opened(path) as stream:
        data = stream.read()
    if path.read_bytes().startswith(BYTE_ORDER_MARK):
        yield Finding(
            "error",
            "byte order mark",
            f"it begins with a byte order mark, which {target} takes for a part of the "
            "first line; mdlm msa convert writes none",
        )
    if target == "af3" and data.lstrip().startswith(b"{"):
        yield from _af3(data, path, query)
        return
    if format_of(path) == "csv":
        if target != "boltz":
            yield Finding(
                "error", "format", f"'{path}' is a table, which only Boltz reads"
            )
            return
    else:
        for entry in check_text(data, target):
            yield Finding(*entry)
    alignment = read_alignment(path, keep_letters=True)
    yield from _content(alignment, target, query)


def _folder(path: Path, target: str, query: str | None) -> Iterator[Finding]:
    wanted = {
        "af2": ("bfd_uniref_hits.a3m", "uniref90_hits.sto", "mgnify_hits.sto"),
        "protenix": ("non_pairing.a3m",),
    }.get(target)
    if wanted is None:
        yield Finding("error", "format", f"'{path}' is a folder; name the file in it")
        return
    place = path / "msas" if (path / "msas").is_dir() else path
    for name in wanted:
        if not (place / name).is_file():
            yield Finding(
                "warning" if target == "af2" else "error",
                "missing",
                f"'{place / name}' is missing"
                + ("; AlphaFold 2 will search for it" if target == "af2" else ""),
            )
    if (place / wanted[0]).is_file():
        yield from _file(place / wanted[0], target, query)


def _af3(data: bytes, path: Path, query: str | None) -> Iterator[Finding]:
    try:
        document = json.loads(data)
        entries = document["sequences"]
        chains = [entry["protein"] for entry in entries if "protein" in entry]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{path}' is no input of AlphaFold 3: {error!r}") from None
    if not chains:
        raise DataError(f"'{path}' has no protein among its sequences")
    for name in ("dialect", "version", "modelSeeds"):
        if name not in document:
            yield Finding("error", "keys", f"'{path}' lacks the key {name}")
    for protein in chains:
        keys = ("unpairedMsa", "pairedMsa", "templates")
        missing = [key for key in keys if key not in protein]
        if missing:
            yield Finding(
                "error",
                "keys",
                f"chain {protein.get('id')} lacks {', '.join(missing)}; AlphaFold 3 "
                "wants the three together, and searches for what is left out",
            )
        text = (protein.get("unpairedMsa") or "").encode()
        if not text:
            yield Finding("warning", "depth", f"chain {protein.get('id')} has no rows")
            continue
        for entry in check_text(text, "af3"):
            yield Finding(*entry)
        records = (b"\n" + text).split(b"\n>")[1:]
        alignment = parse_rows(
            [record.partition(b"\n")[2] for record in records],
            [record.partition(b"\n")[0] for record in records],
            name=str(protein.get("id")),
            place=f"{path}, chain {protein.get('id')}",
            reading=Reading(keep_letters=True),
        )
        yield from _content(alignment, "af3", protein.get("sequence") or query)
        if query is not None:
            yield from _same_query(protein.get("sequence", ""), query, "af3")


def _content(alignment: Alignment, target: str, query: str | None) -> Iterator[Finding]:
    rows = alignment.rows
    first = letters_of(alignment)[0].decode()
    if any(letter.islower() for letter in first):
        yield Finding(
            "error",
            "query",
            "the query has letters in lower case, which are in no column, so that its "
            "columns are not its sequence; read it with query_insertions=keep",
            (1,),
        )
    gaps = int(alignment.is_gap[0].sum())
    if gaps:
        yield Finding(
            "error",
            "query",
            f"the query has {gaps} gaps, the first in column "
            f"{int(alignment.is_gap[0].argmax()) + 1}; the first row is the sequence "
            "that is predicted",
            (1,),
        )
    odd = Counter(chr(BYTE_OF_ID[i]) for i in rows[0] if X <= i < GAP)
    if odd:
        letters = ", ".join(f"{letter} ({n})" for letter, n in sorted(odd.items()))
        yield Finding(
            "warning",
            "letters",
            f"the query has letters that are none of the 20 residues: {letters}; the "
            "sequence that is predicted must have the same in these places",
            (1,),
        )
    if query is not None:
        yield from _same_query(alignment.query, query, target)
    if alignment.depth == 1:
        yield Finding("warning", "depth", "there is no row besides the query")
    empty = (rows == GAP).all(axis=1)
    if empty.any():
        yield _of_rows("warning", "gaps", "rows of gaps alone", empty.nonzero()[0])
    names = Counter(alignment.headers)
    if len(names) < alignment.depth:
        twice = [i for i, header in enumerate(alignment.headers) if names[header] > 1]
        yield _of_rows("note", "headers", "rows share their header with another", twice)
    seen = Counter(row.tobytes() for row in rows)
    if len(seen) < alignment.depth:
        twice = [i for i, row in enumerate(rows) if seen[row.tobytes()] > 1]
        yield _of_rows("note", "duplicates", "rows equal another in all columns", twice)
    yield from synthetic(alignment)


def synthetic(alignment: Alignment) -> Iterator[Finding]:
    """Yield one finding that names the rows that a model generated, if there are any.

    Only headers tell: those that begin with ``mdlm|``.
    """
    rows = [i for i, header in enumerate(alignment.headers) if by_model(header)]
    if rows:
        yield _of_rows("note", "synthetic", "rows were generated by a model", rows)


def _of_rows(
    level: Literal["error", "warning", "note"],
    rule: str,
    what: str,
    rows: Iterable[int],
) -> Finding:
    numbers = [int(row) + 1 for row in rows]
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    message = f"{len(numbers)} {what}: row {shown}"
    return Finding(level, rule, message, tuple(numbers[:1000]))


def _same_query(first: str, query: str, target: str) -> Iterator[Finding]:
    """Compare the first row with the sequence that is predicted."""
    wanted = "".join(query.split()).upper()
    if first == wanted:
        return
    does = {
        "boltz": "Boltz would go on with no alignment at all",
        "af3": "AlphaFold 3 refuses it",
        "colabfold": "ColabFold predicts the first row, not your sequence",
    }.get(target, "the rows would be those of another protein")
    if len(first) != len(wanted):
        what = f"has {len(first)} columns, the sequence {len(wanted)} residues"
    else:
        place = next(i for i, letter in enumerate(wanted) if first[i] != letter)
        what = f"has {first[place]} in column {place + 1}, the sequence {wanted[place]}"
    yield Finding("error", "query", f"the first row {what}; {does}", (1,))
