"""``mdlm msa choose``: keep some rows, by scores of your own or by diversity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdlm_core.errors import UsageError

from . import writing_options as options


def choose(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="New rows below their query."),
    ],
    rows: Annotated[
        int, typer.Option(metavar="K", help="Rows to keep, the best first.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="To be written.")],
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A table (CSV, TSV) with a score of each row, the higher the better, "
            "such as the pLDDT of your folding run.",
        ),
    ] = None,
    row_column: Annotated[
        str,
        typer.Option(metavar="NAME", help="Where headers are; default: the first."),
    ] = "",
    column: Annotated[
        str,
        typer.Option(metavar="NAME", help="Where scores are; default: the second."),
    ] = "",
    likely: Annotated[
        float,
        typer.Option(
            metavar="W", help="Without a table: weight of likelihood beside diversity."
        ),
    ] = 0.5,
    format: Annotated[
        str,
        typer.Option(metavar="NAME", help="a3m, fasta, stockholm, ...; by the name."),
    ] = "auto",
    force: options.Force = False,
) -> None:
    """Keep some of the rows below a query, in the order of choice.

    Without --scores: each as far as can be from those before it, and likely by the nll
    in its header; the likeliest is the first.
    """
    if rows < 1:
        raise UsageError(f"--rows is {rows}; it must be at least 1")
    if likely < 0:
        raise UsageError(f"--likely is {likely:g}; it must not be negative")
    import numpy as np

    from mdlm_msa.formats.reading import read_alignment
    from mdlm_msa.formats.writing import free, not_read, write_alignment
    from mdlm_msa.generation.choose import best, diverse, read_scores
    from mdlm_msa.generation.provenance import cost_of

    not_read(out, [file, *([scores] if scores else [])])
    free(out, force)
    found = read_alignment(file, keep_letters=True)
    headers = found.headers[1:]
    if scores is not None:
        table = read_scores(scores, headers, row_column=row_column, column=column)
        if missing := int(np.isnan(table).sum()):
            options.say(f"note: {missing} of {len(headers)} rows have no score")
        places = best(table, rows)
    else:
        cost = np.array([cost_of(header) for header in headers])
        if not np.isfinite(cost).any():
            raise UsageError(
                f"no row of '{file}' has an nll in its header, as mdlm msa generate "
                f"writes it; give --scores"
            )
        places = diverse(found.states[1:], cost, rows, weight=likely)
    kept = found.select(np.concatenate([[0], places + 1]))
    write_alignment(kept, out, format=format, force=force)
    print(f"{out}: {len(places)} of {len(headers)} rows, the best first")
