"""``mdlm msa inspect``: what is in an alignment."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mdlm_core.cli.options import Json


def inspect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A file, a folder, a glob, or several with commas."
        ),
    ],
    format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="auto goes by the name, then the content."),
    ] = "auto",
    query: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The query: name of a row, or its number from 1.",
        ),
    ] = None,
    max_rows: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Rows besides the query, drawn at random; 0: all."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides which.")] = 0,
    as_json: Json = False,
) -> None:
    """Print depth, length, Neff, quartiles of identity, coverage and gaps, and quirks.

    Identity to the query is over columns where both have a residue. Neff is the sum
    over rows of one over the number of rows with at least 80 % equal columns, a gap
    counting as a symbol.
    """
    from mdlm_msa.formats.reading import read_alignments
    from mdlm_msa.inspection import inspect as describe

    found: list[dict[str, Any]] = []
    for alignment in read_alignments(
        source,
        format=format,
        query=query,
        keep_letters=True,
        max_rows=max_rows,
        seed=seed,
    ):
        card = describe(alignment)
        found.append(card)
        if not as_json:
            _show(card)
    if as_json:
        print(json.dumps(found[0] if len(found) == 1 else found, indent=2))


def _show(card: dict[str, Any]) -> None:
    print(card["name"])
    print(f"  rows        {card['rows']}, of which {card['unique_rows']} differ")
    print(f"  columns     {card['columns']}")
    print(
        f"  Neff        {card['neff']:.1f} of {card['neff_rows']} rows, at 80 %; "
        f"Neff / sqrt(columns) {card['neff_per_sqrt_columns']:.1f}"
    )
    for key, what in (
        ("identity", "identity to the query"),
        ("coverage", "share of columns with a residue"),
        ("gaps", "share of gaps"),
    ):
        quartiles = card[key]
        if quartiles is not None:
            shown = " ".join(f"{value:.2f}" for value in quartiles)
            print(f"  {key:<11} {shown}  (min, quartiles, max of {what})")
    for note, count in card["notes"].items():
        print(f"  {note}: {count}")
