"""``mdlm classify edit``: change words until a text is of another class."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_classify.config.editing import EditSettings
from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, Imports, Json, Out, Sets
from mdlm_core.config import read_run

from .given import (
    GivenTexts,
    Rows,
    check_sources,
    given_texts,
    masked_diffusion,
    write_text,
)
from .options import (
    Checkpoint,
    Data,
    Run,
    Split,
    TextColumn,
    Weights,
    check_out,
    open_run,
    say,
)
from .progress import Progress
from .sample import sampler_sets

if TYPE_CHECKING:
    from mdlm_classify.edit import Edit


def edit(
    run: Run,
    to: Annotated[
        str, typer.Option("--to", metavar="A", help="The class that is wanted.")
    ],
    text: GivenTexts = None,
    data: Data = None,
    threshold: Annotated[
        float, typer.Option(metavar="P", help="The posterior at which it is done.")
    ] = 0.9,
    budget: Annotated[
        float, typer.Option(metavar="X", help="The share of words that may change.")
    ] = 0.3,
    step: Annotated[
        float, typer.Option(metavar="X", help="The share of words tried in a round.")
    ] = 0.1,
    candidates: Annotated[
        int, typer.Option(metavar="N", help="Texts written in a round.")
    ] = 8,
    guidance: Annotated[
        float,
        typer.Option(metavar="G", help="Away from the other class; 1 is none."),
    ] = 2.0,
    draws: Annotated[
        int, typer.Option(metavar="N", help="Masks with which candidates compare.")
    ] = 16,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="0 takes the most probable token.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Probability that is kept.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides every draw.")] = 0,
    out: Out = None,
    text_column: TextColumn = None,
    split: Split = None,
    rows: Rows = 10,
    sets: Sets = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = "ema",
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Replace the words that speak most against a class, until the text is of it.

    Prints the text before and after, and what changed; --out writes one JSON object
    for each text. Texts are --text, the first --rows of --data, or the lines of
    standard input.
    """
    check_out(out, data)
    check_sources(text, data)
    settings = EditSettings(
        threshold=threshold,
        budget=budget,
        step=step,
        candidates=candidates,
        guidance=guidance,
        draws=draws,
        seed=seed,
    )
    flags = {"temperature": temperature, "top_p": top_p}
    catalog = load_catalog(*(imports or ()))
    config = read_run(run, catalog, sets=sampler_sets(sets, flags)).sampler
    opened = open_run(
        run,
        checkpoint=checkpoint,
        weights=weights,
        device=device,
        imports=imports or (),
    )
    predictor = masked_diffusion(opened.classifier, run, "edit")
    texts = given_texts(
        text, data, opened.data, column=text_column, split=split, rows=rows
    )

    from mdlm_classify.edit import edit as edited

    found = []
    with Progress("editing") as progress:
        for done, one in enumerate(texts, 1):
            found.append(
                edited(
                    predictor,
                    one,
                    to,
                    settings=settings,
                    sampler=catalog.build("sampler", config),
                    config=config.config,
                )
            )
            progress(done, len(texts))
    if out is not None:
        lines = [json.dumps(_plain(one), ensure_ascii=False) for one in found]
        write_text(out, "".join(line + "\n" for line in lines))
        say(f"{out}: {len(found)} texts, {sum(e.reached for e in found)} of '{to}' now")
    elif as_json:
        edits = [_plain(one) for one in found]
        facts = {"run": str(run), "to": to, "edits": edits}
        print(json.dumps(facts, ensure_ascii=False, indent=1))
    else:
        print("\n\n".join(_lines(one) for one in found))


def _plain(found: Edit) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)


def _lines(found: Edit) -> str:
    """Return an edit for people."""
    changes = ", ".join(f"{c.before} -> {c.after}" for c in found.changes) or "nothing"
    goal = "" if found.reached else "; not reached: try --budget or --candidates"
    return (
        f"{found.label_before}: {found.before}\n{found.label_after}: {found.after}\n"
        f"p({found.target}) from {found.posterior_before:.1%} to "
        f"{found.posterior_after:.1%} with {len(found.changes)} of {found.words} words "
        f"changed: {changes}{goal}"
    )
