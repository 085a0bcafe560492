"""``mdlm msa inpaint``: fill gaps, unknown residues, columns or fragments of rows."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from mdlm_core.cli.options import Device, Imports, Json, Sets
from mdlm_core.errors import UsageError
from mdlm_msa.config import GenerationConfig
from mdlm_msa.config.data import Selection

from . import writing_options as options
from .writing_options import at_least, one_of, say

if TYPE_CHECKING:
    from mdlm_msa.generation.holes import What

_WHAT = ("gaps", "x", "fragments", "columns", "unlikely")


def inpaint(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An alignment, the query first.")
    ],
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="To be written.")],
    what: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="gaps; x, unknown residues; fragments, gaps at the ends of rows; "
            "columns; unlikely, residues the model hardly believes.",
        ),
    ] = "gaps",
    columns: Annotated[
        str,
        typer.Option(metavar="COLUMNS", help="For --what columns, such as 10-25,40."),
    ] = "",
    rows: Annotated[
        str,
        typer.Option(
            metavar="ROWS",
            help="Only these rows, such as 2-5,7; the query is 1 and stays as it is.",
        ),
    ] = "",
    below: Annotated[
        float,
        typer.Option(
            metavar="P", help="For --what unlikely: less probable given all others."
        ),
    ] = 0.01,
    prompt: options.Prompt = 16,
    select: options.Select = None,
    min_coverage: options.MinCoverage = None,
    together: options.Together = 0,
    length: options.Length = 0,
    window: Annotated[
        int,
        typer.Option(metavar="W", help="Take a query that is too long in windows."),
    ] = 0,
    no_gap: Annotated[
        bool,
        typer.Option("--no-gap", help="No gap in columns or for unlikely residues."),
    ] = False,
    allowed: options.Allowed = "",
    sampler: options.SamplerName = None,
    steps: options.Steps = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    batch: options.Batch = 4,
    seed: options.Seed = 0,
    format: Annotated[
        str,
        typer.Option(metavar="NAME", help="a3m, fasta, stockholm, ...; by the name."),
    ] = "auto",
    live: options.Live = False,
    force: options.Force = False,
    checkpoint: options.Checkpoint = "best",
    weights: options.Weights = "ema",
    sets: Sets = None,
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Fill what rows of an alignment lack; all other residues stay as they are.

    Gaps and unknown residues become one of the twenty residues. A row in which
    something was written says so in its header, which then begins with `mdlm|`.
    """
    one_of("--what", what, _WHAT)
    if select is not None:
        one_of("--select", select, get_args(Selection))
    if columns and what != "columns":
        raise UsageError(f"--columns is for --what columns, and --what is {what}")
    if what == "columns" and not columns:
        raise UsageError("--what columns needs --columns, such as --columns 10-25")
    if not 0 < below < 1:
        raise UsageError(f"--below is {below:g}; it must be between 0 and 1")
    at_least(0, prompt=prompt, together=together, length=length)
    at_least(1, batch=batch)

    from mdlm_msa.formats.detect import FORMATS

    one_of("--format", format, ("auto", *FORMATS))
    from mdlm_msa.formats.reading import read_alignment
    from mdlm_msa.formats.writing import free, not_read, write_alignment
    from mdlm_msa.generation.demands import (
        demands,
        parse_allowed,
        parse_columns,
        rows_to_fill,
    )
    from mdlm_msa.generation.recorded import sidecar

    for place in (out, sidecar(out)):
        not_read(place, [file])
        free(place, force)
    alignment = read_alignment(file, keep_letters=True)
    chosen = None
    if rows:
        named = parse_columns(rows, alignment.depth, what="--rows", unit="row")
        chosen = rows_to_fill(alignment, named.nonzero()[0].tolist())
    there = parse_columns(columns, alignment.length, what="--columns")
    letters = parse_allowed(allowed)
    gaps: Literal["free", "none"] = "none"
    if what in ("columns", "unlikely") and not no_gap:
        gaps = "free"
    demands(
        alignment.canonical().rows[0],
        GenerationConfig(allowed=letters, gaps=gaps),
    )
    opened = options.open_model(
        model,
        {
            "together": together,
            "length": length,
            "seed": seed,
            "batch": batch,
            "prompt": prompt,
            "select": select,
            "min_coverage": min_coverage,
            "gaps": gaps,
            "allowed": letters,
            "window": window,
        },
        sampler={
            "name": sampler,
            "steps": steps,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
        },
        sets=sets,
        imports=imports,
        device=device,
        checkpoint=checkpoint,
        weights=weights,
    )
    from mdlm_msa.generation.inpaint import inpaint as fill
    from mdlm_msa.generation.provenance import (
        Model,
        inpainted_record,
        marked_inpainted,
        write_record,
    )
    from mdlm_msa.generation.stream import CanvasView

    with CanvasView() if live else nullcontext() as view:
        found = fill(
            opened.loaded.backbone,
            alignment,
            cast("What", what),
            opened.config,
            schedule=opened.loaded.schedule,
            length=opened.loaded.source.length,
            columns=there,
            rows=None if chosen is None else chosen.tolist(),
            below=below,
            sampler=opened.sampler,
            max_rows=opened.max_rows,
            callback=view,
        )
    card = Model.of(opened.loaded)
    write_alignment(
        marked_inpainted(found, model=card.name), out, format=format, force=force
    )
    kept = inpainted_record(
        found, card, what=what, file=out.name, sampler=opened.sampler_card
    )
    place = write_record(out, kept)
    if as_json:
        print(json.dumps(kept))
    else:
        print(
            f"{out}: {int(found.written.sum())} symbols written in {len(found.rows)} "
            f"of {alignment.depth} rows, {found.changed} of them other than before"
        )
    say(f"record in {place}")
    for note in found.notes:
        say(f"note: {note}")
