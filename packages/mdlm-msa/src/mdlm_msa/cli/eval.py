"""``mdlm msa eval``: whether generated rows are worth anything, without folding."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mdlm_core.cli.options import Device, Imports, Json
from mdlm_core.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mdlm_msa.alignment import Alignment
    from mdlm_msa.data.family import Family
    from mdlm_msa.evaluation.evaluating import Method
    from mdlm_msa.evaluation.held_out import HeldOutTable

_METHODS = ("mean-field", "pseudo-likelihood")


def evaluate(
    generated: Annotated[
        Path,
        typer.Argument(
            metavar="GENERATED",
            help="An alignment with new rows: those whose header begins with mdlm|, or "
            "all but the query.",
        ),
    ],
    reference: Annotated[
        Path,
        typer.Option(
            "--reference", metavar="FILE", help="Natural rows of the same query."
        ),
    ],
    prompt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows that the model was shown; they are taken out of the reference. "
            "Default: those of the record GENERATED.json.",
        ),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Rows that it learned from, to find copies of them."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Also measure this model's bits per residue on rows of the reference.",
        ),
    ] = None,
    structure: Annotated[
        Path | None,
        typer.Option(
            metavar="TSV",
            help="C-beta places of the query, for the precision of contacts: column "
            "from 1, residue, x, y, z.",
        ),
    ] = None,
    couplings: Annotated[
        str,
        typer.Option(
            metavar="HOW", help="mean-field (seconds), or pseudo-likelihood (minutes)."
        ),
    ] = "mean-field",
    min_coverage: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Of the columns, that a row of reference must have."
        ),
    ] = 0.5,
    rows: Annotated[
        int, typer.Option(metavar="N", help="Rows of each kind compared, at most.")
    ] = 200,
    model_rows: Annotated[
        int, typer.Option(metavar="N", help="Rows that --model is measured on.")
    ] = 32,
    draws: Annotated[
        int, typer.Option(metavar="N", help="Masks for each of these rows.")
    ] = 8,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where a report goes, as JSON and as a page."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the report in --out.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides every draw.")] = 0,
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Compare generated rows with natural ones, beside rows that need no model.

    One half of the reference measures. The baselines are made from the other half: that
    half itself, samples of its profile, mutated queries, copies of the query. Numbers
    are in the order of the table; the last lines say what they come to and why.
    """
    _check(couplings, min_coverage, rows, model_rows, draws, out, force)
    from mdlm_core.kernels.noise import Noise
    from mdlm_msa.evaluation import report
    from mdlm_msa.evaluation.contacts_mf import read_structure
    from mdlm_msa.evaluation.evaluating import evaluate as measure
    from mdlm_msa.formats.reading import read_alignment
    from mdlm_msa.generation.recorded import sidecar

    new = read_alignment(generated).canonical()
    recorded = _recorded(generated, prompt)
    if recorded is None and prompt is None:
        _say(
            f"warning: there is no record {sidecar(generated).name} of the rows that "
            f"the model was shown, and no --prompt; if rows of the reference were "
            f"shown and are not in '{generated}', the numbers are too good"
        )
    noise = Noise(seed).child("eval")
    held_out = None
    if model is not None:
        held_out = _model(model, imports, device, draws, model_rows, noise)
    found = measure(
        new,
        read_alignment(reference).canonical(),
        noise=noise,
        prompt=None if prompt is None else read_alignment(prompt).canonical(),
        recorded=recorded,
        known=None if known is None else read_alignment(known).canonical(),
        structure=None if structure is None else read_structure(structure, new.query),
        method=cast("Method", couplings),
        min_coverage=min_coverage,
        most=rows,
        held_out=held_out,
        facts=_facts(generated, reference, model, structure, seed)
        | ({} if recorded is None else {"record": str(sidecar(generated))}),
    )
    if as_json:
        print(json.dumps(found.card(), indent=2, ensure_ascii=False))
    else:
        print(report.text(found))
    if out is not None:
        page, note = report.write(found, out, title=f"Evaluation of {generated.name}")
        _say(f"report: {page}")
        if note:
            _say(note)


def _recorded(generated: Path, prompt: Path | None) -> Alignment | None:
    """Return the rows shown by the record; with --prompt one may be unreadable."""
    from mdlm_msa.generation.recorded import recorded_prompt

    try:
        return recorded_prompt(generated)
    except DataError as error:
        if prompt is None:
            raise
        _say(f"note: {error}, as is done here; the record is not used")
        return None


def _facts(
    generated: Path,
    reference: Path,
    model: Path | None,
    structure: Path | None,
    seed: int,
) -> dict[str, Any]:
    facts: dict[str, Any] = {"generated": str(generated), "reference": str(reference)}
    if model is not None:
        facts["model"] = str(model)
    if structure is not None:
        facts["structure"] = str(structure)
    return {**facts, "seed": seed}


def _model(
    run: Path,
    imports: list[str] | None,
    device: str | None,
    draws: int,
    rows: int,
    noise: Any,
) -> Callable[[Family], HeldOutTable]:
    """Return what measures a model on the family of the reference."""
    from dataclasses import replace

    import numpy as np
    from tqdm import tqdm

    from mdlm_core.catalog import load_catalog
    from mdlm_core.train import load_run
    from mdlm_msa.evaluation.held_out import evaluate_model

    loaded = load_run(
        run, device=device or "auto", catalog=load_catalog(*(imports or ())), say=_say
    )
    _say(
        "note: bits per residue are of rows of the reference; if the model learned "
        "from them, they are too good"
    )

    def measured(family: Family) -> HeldOutTable:
        none = np.zeros(0, np.int64)
        whole = replace(family, train_rows=none)  # divided, so that some can be shown
        with tqdm(unit="rows", disable=not sys.stderr.isatty(), leave=False) as bar:

            def done(count: int, total: int) -> None:
                bar.total = total
                bar.update(count - bar.n)

            return evaluate_model(
                loaded.backbone,
                {family.name or "reference": whole},
                draws=draws,
                rows=rows,
                noise=noise.child("model"),
                schedule=loaded.schedule,
                longest=loaded.source.length,
                progress=done,
            )

    return measured


def _check(
    couplings: str,
    min_coverage: float,
    rows: int,
    model_rows: int,
    draws: int,
    out: Path | None,
    force: bool,
) -> None:
    if couplings not in _METHODS:
        raise UsageError(
            f"--couplings is '{couplings}'; it must be one of {', '.join(_METHODS)}"
        )
    if not 0 <= min_coverage <= 1:
        raise UsageError(f"--min-coverage is {min_coverage}; it must be in [0, 1]")
    counts = {"--rows": rows, "--model-rows": model_rows, "--draws": draws}
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be at least 1")
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; name a folder")
    if (out / "evaluation.html").exists() and not force:
        raise UsageError(
            f"--out '{out}' has a report already; choose another folder, or add --force"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr)
