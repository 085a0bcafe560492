"""``mdlm doctor``: check the environment and a run folder, and say what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mdlm_core.catalog import load_catalog

from .options import Imports, Json

Run = Annotated[
    Path | None, typer.Argument(metavar="[RUN]", help="A run folder to look at.")
]


def doctor(run: Run = None, imports: Imports = None, as_json: Json = False) -> None:
    """Check the environment and, if given, a run folder; say what to do.

    Exits with 1 if there is a problem. A note is no problem.
    """
    from mdlm_core.train.checks import environment
    from mdlm_core.train.checks_run import run_folder

    catalog = load_catalog(*(imports or ()))
    findings = list(environment(catalog))
    if run is not None:
        findings += run_folder(run, catalog)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.level:<8} {finding.name:<12} {finding.text}")
            if finding.remedy:
                print(f"{'':<21} -> {finding.remedy}")
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)
