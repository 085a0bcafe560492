"""``mdlm msa check``: will a program that predicts structures take the file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mdlm_core.cli.options import Json

from .writing_options import one_of


def check(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="a3m; af3's JSON; Boltz's table; a folder of af2."
        ),
    ],
    target: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="PROGRAM",
            help="colabfold, af3, boltz, af2 or protenix.",
        ),
    ] = "colabfold",
    query: Annotated[
        Path | None,
        typer.Option(
            metavar="FASTA", help="The sequence that is predicted; the first row of it."
        ),
    ] = None,
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="Name every row that a model generated."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a program would not take, or would take otherwise than meant.

    Leaves with 1 if there is an error, with 0 if there are warnings and notes alone.
    Generated rows are known by their headers, which begin with ``mdlm|``.
    """
    from mdlm_msa.formats.checking import check as check_file
    from mdlm_msa.formats.handoff import TARGETS
    from mdlm_msa.formats.reading import read_alignment

    one_of("--for", target, TARGETS)
    sequence = None
    if query is not None:
        sequence = read_alignment(query, query_insertions="keep").query.replace("-", "")
    found = check_file(file, target, query=sequence)
    errors = sum(finding.level == "error" for finding in found)
    if as_json:
        findings = [asdict(finding) for finding in found]
        good = not errors
        print(json.dumps({"for": target, "good": good, "findings": findings}, indent=2))
    else:
        for finding in found:
            print(f"{finding.level}: {finding.message} [{finding.rule}]")
            if synthetic and finding.rule == "synthetic":
                print("  rows " + " ".join(map(str, finding.rows)))
        if synthetic and not any(finding.rule == "synthetic" for finding in found):
            print("note: no header says that its row was generated [synthetic]")
        verdict = f"{errors} errors" if errors else "takes it"
        print(f"{target}: {verdict}")
    if errors:
        raise typer.Exit(1)
