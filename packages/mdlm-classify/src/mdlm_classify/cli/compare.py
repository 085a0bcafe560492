"""``mdlm classify compare``: several classifiers on one split, paired by text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_classify.candidates import (
    CANDIDATES,
    Wanted,
    check,
    choose,
    make,
    split_sets,
)
from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, DryRun, Imports, Json, Tiny
from mdlm_core.errors import UsageError

from .options import LabelColumn, say

if TYPE_CHECKING:
    from mdlm_classify.comparison import Comparison
    from mdlm_classify.data.texts import LabelledTexts
    from mdlm_classify.division import Division

RUNS, PREDICTIONS = "runs", "predictions"
TABLE, CARD = "comparison.md", "comparison.json"


def compare(
    data: Annotated[str, typer.Option(metavar="F", help="Texts to learn from.")],
    test: Annotated[
        str | None,
        typer.Option(metavar="F", help="Texts to test on; default: a fifth of --data."),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="F",
            help="Texts to choose a checkpoint by; default: a tenth of --data.",
        ),
    ] = None,
    unlabelled: Annotated[
        str | None, typer.Option(metavar="F", help="Texts without labels.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(metavar="A,B", help=f"Some of {', '.join(CANDIDATES)}."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="A", help="What others are tested against; default: the first."
        ),
    ] = None,
    text: Annotated[
        str,
        typer.Option(
            "--text",
            "--text-column",
            metavar="COL",
            help="The column of texts; + joins several, such as title+text.",
        ),
    ] = "text",
    label: LabelColumn = None,
    clean: Annotated[str, typer.Option(help="none, or html to take out tags.")] = (
        "none"
    ),
    rows: Annotated[
        int,
        typer.Option(
            metavar="N", help="Learn from N texts, the same share of a class."
        ),
    ] = 0,
    test_rows: Annotated[
        int, typer.Option(metavar="N", help="Test on N texts only.")
    ] = 0,
    duplicates: Annotated[
        str, typer.Option(help="drop or keep training texts that are tested on.")
    ] = "drop",
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[NAME:]PATH=VALUE",
            help="One setting of the models that are trained by steps, or of one of "
            "them; may be repeated.",
        ),
    ] = None,
    tiny: Tiny = False,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Of splits, learning and intervals.")
    ] = 0,
    device: Device = None,
    imports: Imports = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where runs, predictions and tables go."),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Learn from the same texts with several models, and test all on the same texts.

    Each model is tested against the reference, by McNemar's exact test and a bootstrap
    interval that is paired by text. With --out the same command goes on where it
    stopped, and the models that are trained by steps leave their run folders in
    DIR/runs.
    """
    every, of = split_sets(sets or ())
    names = choose(_listed(models))
    if reference is not None and reference not in names:
        raise UsageError(
            f"--reference {reference} is not compared; there are {', '.join(names)}"
        )
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; name a folder")
    catalog = load_catalog(*(imports or ()))
    wanted = Wanted(
        settings=every, of=of, tiny=tiny, device=device or "auto", seed=seed
    )
    made = {name: make(name, wanted, out=_free(out, name)) for name in names}
    for name, model in made.items():
        check(name, model, catalog)
    from mdlm_classify.division import divide

    columns = {"text": text, "label": label or "label", "clean": clean}
    division = divide(
        _texts(data, columns),
        None if test is None else _texts(test, columns),
        validation=None if validation is None else _texts(validation, columns),
        unlabelled=()
        if unlabelled is None
        else _texts(unlabelled, columns, labelled=False).texts,
        rows=rows,
        test_rows=test_rows,
        duplicates=duplicates,  # type: ignore[arg-type]  # checked there
        seed=seed,
    )
    _describe(division)
    if dry_run:
        for name in names:
            say(f"{name}: {CANDIDATES[name].summary}")
        return
    from mdlm_classify.side_by_side import compare as run

    comparison = run(
        made,
        division.train,
        division.test,
        validation=division.validation,
        unlabelled=division.unlabelled,
        reference=reference,
        summaries={name: CANDIDATES[name].summary for name in names},
        folder=None if out is None else out / PREDICTIONS,
        seed=seed,
        tell=say,
    )
    _report(comparison, division, out, as_json)


def _listed(text: str | None) -> list[str]:
    """Return the names in ``A,B``."""
    if text is None:
        return []
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError("--models names none; leave it out for all")
    return names


def _free(out: Path | None, name: str) -> str | None:
    """Return the run folder of a model: the first that no run was begun in.

    A run whose predictions are kept is not made again, so that the folder is for one
    that is new, or that was stopped.
    """
    if out is None:
        return None
    number, folder = 1, out / RUNS / name
    while folder.exists():
        number += 1
        folder = out / RUNS / f"{name}-{number}"
    return str(folder)


def _texts(
    path: str, columns: Mapping[str, Any], *, labelled: bool = True
) -> LabelledTexts:
    from mdlm_classify.data.texts import read_texts

    return read_texts(path, labelled=labelled, **columns)


def _describe(division: Division) -> None:
    """Say how many texts there are, and what stood twice."""
    found = division.card["train"]
    held = (
        ""
        if division.validation is None
        else (f", {len(division.validation)} to choose by")
    )
    more = f", {len(division.unlabelled)} without labels" if division.unlabelled else ""
    say(
        f"{len(division.train)} texts to learn from, {len(division.test)} to test on"
        f"{held}{more}"
    )
    if found["also_held_out"] or found["repeated"]:
        done = "left out" if division.card["duplicates"] == "drop" else "kept"
        say(
            f"{found['also_held_out']} training texts are tested on too and "
            f"{found['repeated']} stand twice; they are {done}"
        )


def _report(
    comparison: Comparison, division: Division, out: Path | None, as_json: bool
) -> None:
    """Print the table, or JSON, and write both."""
    card = {**comparison.to_dict(), "division": division.card}
    plain = json.dumps(card, indent=2, allow_nan=False)
    if out is not None:
        from mdlm_core.cache import write_atomic

        write_atomic(out / CARD, plain.encode())
        write_atomic(out / TABLE, f"{comparison.to_markdown()}\n".encode())
    print(plain if as_json else comparison.to_text())
    if out is not None:
        say(f"written to {out / TABLE} and {out / CARD}")
