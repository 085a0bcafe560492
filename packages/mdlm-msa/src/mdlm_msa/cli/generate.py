"""``mdlm msa generate``: new rows for queries, from a trained model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from mdlm_core.cli.options import Device, Imports, Json, Sets
from mdlm_core.errors import MdlmError, UsageError
from mdlm_msa.config import GenerationConfig
from mdlm_msa.config.data import Selection

from . import writing_options as options
from .writing_options import at_least, band_of, one_of, say

if TYPE_CHECKING:
    from mdlm_msa.alignment import Alignment
    from mdlm_msa.generation.generate import Generated

_GAPS = ("free", "none", "template")
_ENDINGS = {"auto": ".a3m", "stockholm": ".sto", "msagpt": ".txt"}


def generate(
    query: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...",
            help="FASTA files of queries, alignments whose first row is the query and "
            "whose other rows are shown to the model, folders of them, or sequences.",
        ),
    ],
    model: options.Model,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The file to write; for several queries, a folder.",
        ),
    ],
    rows: Annotated[int, typer.Option(metavar="N", help="New rows of a query.")] = 16,
    msa_prompt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An alignment to the query, to be shown to the model."
        ),
    ] = None,
    keep_input: Annotated[
        bool,
        typer.Option(
            "--keep-input", help="Write the rows of the input too, before the new ones."
        ),
    ] = False,
    prompt: options.Prompt = 16,
    select: options.Select = None,
    min_coverage: options.MinCoverage = None,
    support: options.Support = None,
    cluster: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Show the model one subfamily at a time, the N largest, each with a "
            "file of its own: for proteins of several folds.",
        ),
    ] = 0,
    together: options.Together = 0,
    length: options.Length = 0,
    window: Annotated[
        int,
        typer.Option(
            metavar="W", help="Write a query that is too long in windows of columns."
        ),
    ] = 0,
    gaps: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="free: as the model says; none; template: of a row that is shown.",
        ),
    ] = "free",
    no_gap: Annotated[
        bool, typer.Option("--no-gap", help="The same as --gaps none.")
    ] = False,
    allow_x: options.AllowX = False,
    freeze: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS", help="Keep the query's residues there: 10-25,40."
        ),
    ] = "",
    allowed: options.Allowed = "",
    identity: Annotated[
        str,
        typer.Option(
            metavar="LOW-HIGH", help="Accept rows this identical to the query: 0.4-0.6."
        ),
    ] = "",
    max_similar: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Accept rows at most this identical to any input row."
        ),
    ] = 1.0,
    tries: Annotated[
        int, typer.Option(metavar="N", help="Rows written for each accepted, at most.")
    ] = 8,
    choose: Annotated[
        int,
        typer.Option(
            metavar="K",
            help="Keep K of the new rows: diverse ones that the model finds likely.",
        ),
    ] = 0,
    sampler: options.SamplerName = None,
    steps: options.Steps = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    draws: options.Draws = 8,
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
    """Write new rows below queries, and say in numbers what they add.

    The file has the query, then the new rows; their headers begin with `mdlm|`. The
    record FILE.json holds the model, the settings, and which rows were shown. Identity
    is over columns where both rows have a residue.
    """
    if select is not None:
        one_of("--select", select, get_args(Selection))
    one_of("--gaps", gaps, _GAPS)
    if no_gap and gaps == "template":
        raise UsageError("--no-gap and --gaps template contradict; take one away")
    at_least(1, rows=rows, tries=tries, batch=batch)
    at_least(0, choose=choose, cluster=cluster, prompt=prompt, draws=draws)
    at_least(0, together=together, length=length, window=window)
    if choose > rows:
        raise UsageError(f"--choose is {choose}; it must be at most --rows ({rows})")
    if choose and not draws:
        raise UsageError("--choose needs likelihoods; set --draws to 1 or more")

    from mdlm_msa.formats.detect import FORMATS
    from mdlm_msa.generation.demands import demands, parse_allowed

    one_of("--format", format, ("auto", *FORMATS))
    settings: dict[str, Any] = {
        "rows": rows,
        "together": together,
        "length": length,
        "seed": seed,
        "batch": batch,
        "prompt": prompt,
        "select": select,
        "min_coverage": min_coverage,
        "support": support,
        "gaps": "none" if no_gap else gaps,
        "allow_x": allow_x,
        "freeze": freeze,
        "allowed": parse_allowed(allowed),
        "identity": band_of(identity) if identity else (0.0, 1.0),
        "max_similar": max_similar,
        "tries": tries,
        "window": window,
        "draws": draws,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    asked = GenerationConfig(**given)
    jobs = _jobs(query, msa_prompt, cluster, out, format, force)
    if len(jobs) == 1:
        demands(jobs[0][1].canonical().rows[0], asked)
    opened = options.open_model(
        model,
        settings,
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
    from mdlm_msa.generation.generate import BudgetError
    from mdlm_msa.generation.generate import generate as write
    from mdlm_msa.generation.provenance import Model
    from mdlm_msa.generation.stream import CanvasView

    card = Model.of(opened.loaded)
    records, failures = [], []
    for path, alignment in jobs:
        short: MdlmError | None = None
        try:
            with CanvasView() if live else nullcontext() as view:
                found = write(
                    opened.loaded.backbone,
                    alignment,
                    opened.config,
                    schedule=opened.loaded.schedule,
                    length=opened.loaded.source.length,
                    sampler=opened.sampler,
                    max_rows=opened.max_rows,
                    callback=view,
                )
        except BudgetError as error:
            found, short = error.generated, error
        except MdlmError as error:
            if len(jobs) == 1:
                raise
            failures.append(f"{alignment.name}: {error}")
            continue
        if found.rows:
            records.append(
                _deliver(
                    found,
                    path,
                    card,
                    opened.sampler_card,
                    choose,
                    keep_input,
                    format,
                    force,
                    as_json,
                )
            )
        if short is not None:
            failures.append(f"{alignment.name}: {short}")
    if as_json:
        print(json.dumps(records if len(jobs) > 1 else records[0] if records else {}))
    if failures:
        raise MdlmError("\n".join(failures))


def _jobs(
    places: list[str],
    prompt: Path | None,
    cluster: int,
    out: Path,
    format: str,
    force: bool,
) -> list[tuple[Path, Alignment]]:
    """Return each query with the file that its rows go to; nothing is written yet."""
    from mdlm_msa.formats.handoff import file_name
    from mdlm_msa.formats.reading import read_alignment
    from mdlm_msa.formats.writing import free, not_read
    from mdlm_msa.generation.queries import (
        equal_lengths,
        input_files,
        read_queries,
        with_prompt,
    )
    from mdlm_msa.generation.recorded import sidecar

    queries = list(read_queries(places, keep_letters=True))
    if len(queries) > 1:
        say(
            f"note: {len(queries)} queries read, each for a file of its own"
            + (
                "; if they are the rows of one alignment, give their first with "
                "--msa-prompt, or call the file .a3m"
                if equal_lengths(queries, places)
                else ""
            )
        )
    if prompt is not None:
        if len(queries) > 1:
            raise UsageError(
                f"--msa-prompt is for one query, and there are {len(queries)}; give "
                f"alignments instead, each with its query as the first row"
            )
        rows = read_alignment(prompt, keep_letters=True)
        queries = [with_prompt(queries[0], rows, path=str(prompt))]
    if out.is_dir() or len(queries) > 1:
        if out.is_file():
            raise UsageError(
                f"--out '{out}' is a file, and there are {len(queries)} queries; name "
                f"a folder"
            )
        end = _ENDINGS.get(format, f".{format}")
        jobs = [(out / f"{file_name(query.name)}{end}", query) for query in queries]
    else:
        jobs = [(out, queries[0])]
    if cluster:
        jobs = [part for job in jobs for part in _parts(*job, cluster, format)]
    jobs = _apart(jobs)
    inputs = [*input_files(places), *([] if prompt is None else [prompt])]
    for path, _ in jobs:
        for place in (path, sidecar(path)):
            not_read(place, inputs)
            free(place, force)
    return jobs


def _parts(
    path: Path, query: Alignment, count: int, format: str
) -> list[tuple[Path, Alignment]]:
    """Return the subfamilies of a query, each with a file; say if there are fewer."""
    from mdlm_msa.formats.opening import family_name
    from mdlm_msa.generation.subfamilies import subfamilies

    parts = list(subfamilies(query, count))
    if len(parts) < count:
        say(
            f"note: '{query.name}' has {len(parts)} subfamilies, and --cluster is "
            f"{count}; {len(parts)} files are written"
        )
    stem = family_name(path)
    end = path.name[len(stem) :] or _ENDINGS.get(format, f".{format}")
    return [
        (path.with_name(f"{stem}.{number}{end}"), part)
        for number, part in enumerate(parts, start=1)
    ]


def _apart(jobs: list[tuple[Path, Alignment]]) -> list[tuple[Path, Alignment]]:
    """Return the jobs with a file for each, where names would be the same."""
    from mdlm_msa.generation.recorded import sidecar

    taken: set[str] = set()
    found = []
    for path, query in jobs:
        place, again = path, 1
        while {str(place).lower(), str(sidecar(place)).lower()} & taken:
            again += 1
            place = path.with_name(f"{path.stem}_{again}{path.suffix}")
        taken |= {str(place).lower(), str(sidecar(place)).lower()}
        found.append((place, query))
    return found


def _deliver(
    found: Generated,
    path: Path,
    card: Any,
    sampler: dict[str, Any],
    count: int,
    keep_input: bool,
    format: str,
    force: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Write the rows and their record, say what they add, and return the record."""
    from mdlm_msa.formats.writing import write_alignment
    from mdlm_msa.generation.choose import chosen
    from mdlm_msa.generation.provenance import marked, record, write_record
    from mdlm_msa.generation.summary import describe, measure

    if count:
        found = chosen(found, count)
    numbers = measure(found)
    rows = marked(found, model=card.name, keep_input=keep_input)
    write_alignment(rows, path, format=format, force=force)
    kept = record(found, card, file=path.name, sampler=sampler, measured=numbers)
    place = write_record(path, kept)
    if not quiet:
        print(f"{path}: {len(found.rows)} new rows of {found.source.length} columns")
        for line in describe(numbers):
            print(f"  {line}")
    shown, together = found.plan.shown, found.plan.together
    say(
        f"{path}: {found.drawn} rows written"
        + (f", up to {together} on a canvas" if together > 1 else "")
        + ", where the model saw the query "
        + (f"and {shown} rows of the input" if shown else "alone")
        + f"; {found.acceptance:.0%} accepted; record in {place}"
    )
    for note in found.notes:
        say(f"note: {note}")
    return kept
