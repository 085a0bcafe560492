"""``mdlm msa filter`` and ``subsample``: keep some rows of an alignment."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from mdlm_core.cli.options import Json
from mdlm_core.errors import UnknownNameError, UsageError
from mdlm_msa.config.data import FILTERS, Format, RowFilter, Selection

_Share = float | None


def filter_(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="An alignment, the query first.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where to write what is kept.")
    ],
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Rules to start from: default, msagpt, none."
        ),
    ] = "default",
    min_coverage: Annotated[
        _Share,
        typer.Option(metavar="SHARE", help="Columns with a residue, at least."),
    ] = None,
    max_gaps: Annotated[
        _Share, typer.Option(metavar="SHARE", help="Columns with a gap, at most.")
    ] = None,
    min_identity: Annotated[
        _Share,
        typer.Option(
            metavar="SHARE",
            help="Identity to the query, at least, where both have a residue.",
        ),
    ] = None,
    max_identity: Annotated[
        _Share,
        typer.Option(
            metavar="SHARE",
            help="Identity of two kept rows, at most, over all columns.",
        ),
    ] = None,
    diff: Annotated[
        int,
        typer.Option(
            metavar="M", help="Keep the M most diverse rows, as hhfilter -diff."
        ),
    ] = 0,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Then choose: random, top, maxmin, weighted, cluster; needs --rows.",
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Homologues to choose; fewer if there are fewer."
        ),
    ] = None,
    hhfilter: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Let this hhfilter of hh-suite filter."),
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="FORMAT", help="Of IN, if not clear.")
    ] = "auto",
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="Of OUT, if not clear.")
    ] = "auto",
    seed: Annotated[int, typer.Option(metavar="S", help="Decides what is drawn.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace OUT if it is there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Keep the rows of an alignment that pass the rules, and perhaps choose some.

    The query always stays, insertions are kept, and rows keep their order. By default a
    row must cover half of the query, and no two kept rows may be more than 90 %
    identical.
    """
    rules = _rules(preset, min_coverage, max_gaps, min_identity, max_identity)
    _check(select, rows, diff, from_)
    import numpy as np

    from mdlm_core.kernels.noise import Noise
    from mdlm_msa.filtering import FilterReport, filter_rows, keep_diverse
    from mdlm_msa.formats.reading import read_alignment
    from mdlm_msa.formats.writing import (
        asked_format,
        free,
        left_out,
        not_read,
        write_alignment,
    )
    from mdlm_msa.inspection import counted_rows
    from mdlm_msa.selection import select_rows
    from mdlm_msa.weights import neff

    to = asked_format(target, to)
    not_read(target, [source])
    free(target, force)
    found = read_alignment(source, format=from_, keep_letters=True)
    if hhfilter is not None:
        from mdlm_msa.hhfilter import run_hhfilter

        kept, report = run_hhfilter(found, rules, hhfilter, diff=diff)
    else:
        kept, report = filter_rows(found, rules)
        if diff:
            kept, more = keep_diverse(kept, diff, rules.max_identity)
            report = report.then(more)
    if select is not None and rows is not None:
        noise = Noise(seed).child("filter")
        chosen = select_rows(kept, rows, cast("Any", select), noise)
        homologues = kept.depth - 1
        kept = kept.select(np.concatenate([[0], np.sort(chosen)]))
        lost = homologues - len(chosen)
        dropped = {f"not chosen by {select}": lost} if lost else {}
        report = report.then(FilterReport(homologues, len(chosen), dropped))
    write_alignment(kept, target, format=to, force=force)
    for note, count in left_out(kept, to).items():
        print(f"note: {note}: {count}", file=sys.stderr)
    counted, left = counted_rows(found.depth), counted_rows(kept.depth)
    before = neff(found.states[counted])
    same = kept.depth == found.depth and bool((kept.rows == found.rows).all())
    after = before if same else neff(kept.states[left])
    numbers = {
        "file": str(target),
        "columns": kept.length,
        "homologues": report.homologues,
        "kept": report.kept,
        "dropped": dict(report.dropped),
        "neff_before": round(before, 3),
        "neff_before_rows": len(counted),
        "neff": round(after, 3),
        "neff_rows": len(left),
    }
    if as_json:
        print(json.dumps(numbers))
        return
    for line in report.lines():
        print(line)
    print(f"Neff {numbers['neff_before']:g} -> {numbers['neff']:g} (at 80 % identity)")
    for name, rows_, depth in (
        ("before", counted, found.depth),
        ("after", left, kept.depth),
    ):
        if len(rows_) < depth:
            print(
                f"  {name}: counted on {len(rows_):,} of the {depth:,} rows, drawn at "
                f"random"
            )
    print(f"written to {target}")
    if not report.kept:
        print("note: only the query is left; loosen the rules", file=sys.stderr)


def _rules(
    preset: str,
    min_coverage: float | None,
    max_gaps: float | None,
    min_identity: float | None,
    max_identity: float | None,
) -> RowFilter:
    if preset not in FILTERS:
        raise UnknownNameError(
            f"there are no rules '{preset}'; there are {', '.join(FILTERS)}"
        )
    given = {
        "min_coverage": min_coverage,
        "max_gaps": max_gaps,
        "min_identity": min_identity,
        "max_identity": max_identity,
    }
    changed: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    return replace(FILTERS[preset], **changed)


def _check(select: str | None, rows: int | None, diff: int, format: str) -> None:
    if (select is None) != (rows is None):
        raise UsageError(
            "--select and --rows go together: how to choose, and how many, such as "
            "--select maxmin --rows 64"
        )
    if select is not None and select not in get_args(Selection):
        raise UnknownNameError(
            f"there is no selection '{select}'; there are "
            f"{', '.join(get_args(Selection))}"
        )
    if rows is not None and rows < 1:
        raise UsageError(f"--rows is {rows}; it must be at least 1")
    if diff < 0:
        raise UsageError(f"--diff is {diff}; it must be 0 or more")
    if format not in (*get_args(Format), "csv"):
        raise UnknownNameError(
            f"there is no format '{format}'; there are {', '.join(get_args(Format))}"
        )
