"""``mdlm msa score``: bits per residue of rows, and scores of variants."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out
from mdlm_core.errors import UsageError
from mdlm_msa.config.data import Selection

from .score_answers import of_rows, of_variants
from .writing_options import MinCoverage, as_trained, one_of

if TYPE_CHECKING:
    from mdlm_msa.scoring.shown import Shown
    from mdlm_msa.scoring.variants import Numbering, Variant

_METHODS = ("nelbo", "masked-marginal")
_GAPS = ("given", "scored")


def score(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="An alignment, or a query alone."),
    ],
    model: Annotated[
        Path, typer.Option("--model", metavar="RUN", help="The run folder.")
    ],
    prompt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An alignment to the same query, whose rows the model is shown; a row "
            "is never shown to itself. Default: only the query; for variants FILE.",
        ),
    ] = None,
    prompt_rows: Annotated[
        int, typer.Option(metavar="K", help="Rows of the prompt, at most.")
    ] = 16,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Which of them: random, top, maxmin, weighted or cluster; as trained.",
        ),
    ] = None,
    min_coverage: MinCoverage = None,
    max_similar: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Score a row without shown rows as like it as this, or more.",
        ),
    ] = 1.0,
    variants: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score these variants of the query instead: CSV with A24G, A24G:K30R "
            "or whole sequences, and perhaps measured values.",
        ),
    ] = None,
    variant_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where the variants are.")
    ] = None,
    score_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where measured values are.")
    ] = None,
    first: Annotated[
        int, typer.Option(metavar="N", help="Number of the query's first residue.")
    ] = 1,
    method: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of variants: nelbo, or masked-marginal."),
    ] = "nelbo",
    draws: Annotated[
        int, typer.Option(metavar="N", help="Masks for each row; more cost more.")
    ] = 16,
    gaps: Annotated[
        str,
        typer.Option(metavar="HOW", help="given: score residues; scored: gaps too."),
    ] = "given",
    per_position: Annotated[
        bool,
        typer.Option("--per-position", help="Write a line for each scored position."),
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also what each position costs given all the rest, and the entropy of "
            "its law: one evaluation for each residue.",
        ),
    ] = False,
    batch: Annotated[
        int, typer.Option(metavar="B", help="Canvases at once; changes nothing else.")
    ] = 8,
    length: Annotated[
        int,
        typer.Option(metavar="L", help="Tokens of a canvas; default: as trained."),
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides every draw.")] = 0,
    checkpoint: Annotated[
        str, typer.Option(help="best, last, or the number of a step.")
    ] = "best",
    weights: Annotated[str, typer.Option(help="ema or raw.")] = "ema",
    out: Out = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file of --out.")
    ] = False,
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Print what rows cost in bits per residue, or score variants of the query.

    A row is scored by itself, given the query and the prompt; the query, given the
    prompt. --out writes CSV. Bits per residue are upper bounds with standard errors,
    given where gaps are, and stand beside those of BLOSUM62 and of a PSSM. Rows count
    from 1, the query.
    """
    if select is not None:
        one_of("--select", select, get_args(Selection))
    one_of("--method", method, _METHODS)
    one_of("--gaps", gaps, _GAPS)
    if min_coverage is not None and not 0 <= min_coverage <= 1:
        raise UsageError(f"--min-coverage is {min_coverage}; it must be in [0, 1]")
    positions = per_position or uncertainty
    _check(variants, positions, out, force, as_json)
    for name, value, least in (
        ("--draws", draws, 1),
        ("--batch", batch, 1),
        ("--prompt-rows", prompt_rows, 0),
        ("--length", length, 0),
    ):
        if value < least:
            raise UsageError(f"{name} is {value}; it must be at least {least}")
    if not 0 < max_similar <= 1:
        raise UsageError(f"--max-similar is {max_similar}; it must be in (0, 1]")
    from mdlm_core.catalog import load_catalog
    from mdlm_core.kernels.noise import Noise
    from mdlm_core.train import load_run
    from mdlm_msa.formats.letters import NUCLEOTIDES
    from mdlm_msa.formats.reading import read_alignment
    from mdlm_msa.scoring.shown import show

    letters = variants is not None
    alignment = read_alignment(file, keep_letters=letters).canonical()
    shown_from = alignment if letters else None
    if prompt is not None:
        shown_from = read_alignment(prompt).canonical()
    asked: tuple[Numbering, list[Variant]] | None = None
    if variants is not None:
        from mdlm_msa.scoring.variant_file import read_variants
        from mdlm_msa.scoring.variants import Numbering

        query = Numbering.of(alignment, first)
        asked = (
            query,
            read_variants(
                variants, query, column=variant_column, measured=score_column
            ),
        )
    loaded = load_run(
        model,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=load_catalog(*(imports or ())),
        say=_say,
    )
    told = {"select": select, "min_coverage": min_coverage}
    choice: dict[str, Any] = {"select": "random", "min_coverage": 0.5}
    choice |= as_trained(loaded.config.data.config)
    choice["support"] = getattr(loaded.config.data.config, "support", 0)
    choice |= {key: value for key, value in told.items() if value is not None}
    noise = Noise(seed).child("score")
    shown = show(
        alignment,
        shown_from,
        count=prompt_rows,
        **choice,
        max_similar=max_similar,
        length=length or loaded.source.length,
        noise=noise.child("prompt"),
    )
    _say_shown(shown, prompt_rows, choice["select"])
    if count := alignment.notes.get(NUCLEOTIDES):
        _say(f"note: {NUCLEOTIDES}: {count}")
    facts = {"model": str(model), "step": loaded.step, "file": str(file), "seed": seed}
    common = {"draws": draws, "noise": noise, "batch": batch}
    if asked is None:
        text, table, card = of_rows(
            loaded, alignment, shown, gaps, positions, uncertainty, facts, common
        )
    else:
        facts["variants_file"] = str(variants)
        text, table, card = of_variants(loaded, shown, *asked, method, facts, common)
    if out is not None:
        from mdlm_core.cache import write_atomic

        write_atomic(out, table().encode())
        _say(f"wrote {out}")
    print(json.dumps(card(), indent=2) if as_json else text())


def _check(
    variants: Path | None, positions: bool, out: Path | None, force: bool, json: bool
) -> None:
    if variants is not None and positions:
        raise UsageError("--per-position is of rows; leave it out with --variants")
    if positions and out is None:
        raise UsageError("--per-position and --uncertainty write CSV: give --out FILE")
    if out is None:
        return
    if out.exists() and not force:
        raise UsageError(f"--out '{out}' exists; choose another file, or add --force")
    if not out.parent.is_dir():
        raise UsageError(f"--out '{out}': there is no folder '{out.parent}'")


def _say_shown(shown: Shown, count: int, select: str) -> None:
    """Say which rows are never shown, and if fewer are than were asked for."""
    if shown.note:
        _say(f"note: {shown.note}")
    wanted = min(count, shown.usable)
    if len(shown.prompt) < wanted and select != "cluster":
        _say(
            f"note: {len(shown.prompt)} of {wanted} rows of the prompt are shown, as "
            f"many as fit on a canvas beside the query and a row; --length allows more"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr)
