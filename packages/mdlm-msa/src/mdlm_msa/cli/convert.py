"""``mdlm msa convert``: from one format to another, and to what programs take."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from mdlm_core.errors import UnknownNameError, UsageError
from mdlm_msa.formats.options import Columns, QueryInsertions

from .writing_options import one_of

if TYPE_CHECKING:
    from mdlm_msa.alignment import Alignment

_FOLDERS = ("af2", "protenix")
_ENDINGS = {
    "stockholm": ".sto",
    "msagpt": ".txt",
    "af3": ".json",
    "boltz": ".csv",
    "colabfold": ".a3m",
}


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A file, a folder, a glob, or several with commas; .gz is read too.",
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="A file; or a folder, for several alignments, af2 and protenix.",
        ),
    ],
    from_format: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="FORMAT",
            help="a3m, a2m, fasta, stockholm, msagpt, jsonl, csv, openproteinset; auto "
            "goes by the name, then by the content.",
        ),
    ] = "auto",
    to_format: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="a3m, a2m, fasta, stockholm, msagpt, jsonl, csv; or for a program: "
            "colabfold, af3, boltz, af2, protenix; auto goes by the name.",
        ),
    ] = "auto",
    query: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The query: name of a row, or its number from 1.",
        ),
    ] = None,
    query_insertions: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Lower case in an a3m query: in no column, in columns of its own, "
            "or refused: drop, keep or error.",
        ),
    ] = "drop",
    columns: Annotated[
        str,
        typer.Option(
            metavar="OF",
            help="Columns of Stockholm: those of the query, or, with reference, of "
            "#=GC RF.",
        ),
    ] = "query",
    insertions: Annotated[
        bool,
        typer.Option(
            "--insertions/--no-insertions", help="Whether insertions are written."
        ),
    ] = True,
    canonical: Annotated[
        bool,
        typer.Option(
            "--canonical", help="Write U as C, O as K, B and Z as X, '.' as a gap."
        ),
    ] = False,
    max_rows: Annotated[
        int,
        typer.Option(
            metavar="N", help="Rows besides the query, drawn at random; 0: all."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides which.")] = 0,
    wrap: Annotated[
        int, typer.Option(metavar="N", help="Letters per line; 0: one line.")
    ] = 0,
    counts: Annotated[
        bool,
        typer.Option(
            "--counts", help="For colabfold: begin with '#length<TAB>1', as its server."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there already.")
    ] = False,
) -> None:
    """Convert alignments, and say what was met on the way.

    No row is lost and the query comes first. What a program takes is written in
    canonical letters, in lines that are not wrapped.
    """
    from mdlm_msa.formats.detect import FORMATS
    from mdlm_msa.formats.folders import families
    from mdlm_msa.formats.handoff import TARGETS, hand_off
    from mdlm_msa.formats.reading import read_alignments
    from mdlm_msa.formats.writing import MANY, asked_format, not_read, write_alignments

    one_of("--query-insertions", query_insertions, get_args(QueryInsertions))
    one_of("--columns", columns, get_args(Columns))
    for option, number in (("--wrap", wrap), ("--max-rows", max_rows)):
        if number < 0:
            raise UsageError(f"{option} is {number}; it must be 0 or more")
    _known("--from", from_format, (*FORMATS, "openproteinset"))
    _known("--to", to_format, (*FORMATS, *TARGETS))
    if counts and to_format != "colabfold":
        raise UsageError(f"--counts is for --to colabfold, not for --to {to_format}")
    if wrap and to_format in TARGETS:
        raise UsageError(f"--wrap {wrap} cannot be: {to_format} needs rows in one line")
    place = Path(out)
    several = place.is_dir() or out.endswith("/")
    if several and to_format == "auto":
        to_format = "a3m"
    elif to_format not in TARGETS:
        to_format = asked_format(place, to_format)
    searches = from_format == "openproteinset"
    sources = list(families(source, searches_only=searches))
    read = [path for family in sources for path in family.paths]
    found = _told(
        read_alignments(
            source,
            format=from_format,
            query=query,
            keep_letters=insertions,
            max_rows=max_rows,
            seed=seed,
            query_insertions=cast("Any", query_insertions),
            columns=cast("Any", columns),
        ),
        canonical,
        to_format,
    )
    if not several and to_format not in MANY:
        # two are read before one is written
        begin = list(islice(found, 2))
        found = chain(begin, found)
        several = len(begin) > 1
        if several and (place.suffix or place.is_file()):
            raise UsageError(
                f"'{source}' holds several alignments, and '{out}' is a file for one; "
                f"name a folder that exists, or end its name with '/'"
            )
    if to_format in TARGETS:
        for alignment, goal in _places(found, place, to_format, several):
            hand_off(alignment, goal, to_format, counts=counts, force=force, read=read)
            print(goal)
    elif several:
        for alignment, goal in _places(found, place, to_format, several):
            not_read(goal, read)
            write_alignments(
                [alignment], goal, format=to_format, wrap=wrap, force=force
            )
            print(goal)
    else:
        not_read(place, read)
        write_alignments(found, place, format=to_format, wrap=wrap, force=force)
        print(place)


def _known(option: str, name: str, names: Sequence[str]) -> None:
    """Refuse a format that is not known, with those that are like it."""
    if name == "auto" or name in names:
        return
    near = get_close_matches(name, names)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UnknownNameError(
        f"{option} is '{name}'; there are auto, {', '.join(names)}{hint}"
    )


def _told(
    found: Iterator[Alignment], canonical: bool, format: str
) -> Iterator[Alignment]:
    """Print what was met in each alignment, and what is not written, as it goes by."""
    from mdlm_msa.formats.writing import left_out

    for alignment in found:
        shown = alignment.canonical() if canonical else alignment
        line = f"{shown.name}: {shown.depth} rows x {shown.length} columns"
        print(line, file=sys.stderr)
        for note, count in {**shown.notes, **left_out(shown, format)}.items():
            print(f"  {note}: {count}", file=sys.stderr)
        yield shown


def _places(
    found: Iterator[Alignment], out: Path, format: str, several: bool
) -> Iterator[tuple[Alignment, Path]]:
    """Yield each alignment with the file or folder that it goes to.

    No two of them get the same, even where case does not count.
    """
    from mdlm_msa.formats.handoff import file_name

    ending = "" if format in _FOLDERS else _ENDINGS.get(format, f".{format}")
    used: set[str] = set()
    for alignment in found:
        stem = name = file_name(alignment.name)
        again = 2
        while name.casefold() in used:
            name, again = f"{stem}_{again}", again + 1
        used.add(name.casefold())
        yield alignment, out / f"{name}{ending}" if several else out
