"""``mdlm classify explain``: which words speak for a class, and how much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out, Seed
from mdlm_core.errors import UsageError

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
    Draws,
    Estimator,
    Rule,
    Run,
    Split,
    TextColumn,
    Weights,
    check_out,
    open_run,
    say,
)
from .progress import Progress

if TYPE_CHECKING:
    from mdlm_classify.attribution import Attribution

_SUFFIXES = (".html", ".json", ".jsonl")


def explain(
    run: Run,
    text: GivenTexts = None,
    data: Data = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="A",
            help="Positive values speak for it; default: the most probable class.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="B",
            help="Negative values speak for it; default: the next most probable.",
        ),
    ] = None,
    gaps: Annotated[
        bool,
        typer.Option("--gaps", help="____ is a missing token, ____{12} are twelve."),
    ] = False,
    out: Out = None,
    text_column: TextColumn = None,
    split: Split = None,
    rows: Rows = 10,
    draws: Draws = None,
    rule: Rule = None,
    estimator: Estimator = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = "ema",
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Show what each word adds to log p(text | A) - log p(text | B), in nats.

    The values of all words sum to the log-ratio that the classifier goes by, because
    they are the same numbers, sorted by word. Texts are --text, the first --rows of
    --data, or the lines of standard input. --out writes a page (.html), or the numbers
    (.json, .jsonl).
    """
    check_out(out, data)
    if out is not None and out.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--out '{out}' must end with {', '.join(_SUFFIXES)}")
    check_sources(text, data)
    opened = open_run(
        run,
        checkpoint=checkpoint,
        weights=weights,
        device=device,
        imports=imports or (),
        draws=draws,
        rule=rule,
        estimator=estimator,
        seed=seed,
    )
    predictor = masked_diffusion(opened.classifier, run, "explain")
    texts = given_texts(
        text, data, opened.data, column=text_column, split=split, rows=rows
    )

    from mdlm_classify.attribution import explain as explained

    found = []
    with Progress("explaining") as progress:
        for done, one in enumerate(texts, 1):
            found.append(
                explained(predictor, one, label=label, other=against, gaps=gaps)
            )
            progress(done, len(texts))
    empty = sum(not len(one.words) for one in found)
    if empty:
        say(f"note: without a token, so that no word speaks: {empty} of {len(found)}")
    if out is not None:
        write_text(out, _body(out, run, found))
        say(f"{out}: {len(found)} texts")
    elif as_json:
        print(_document(run, found))
    else:
        _show(found)


def _body(out: Path, run: Path, found: list[Attribution]) -> str:
    from mdlm_classify.attribution_view import page, plain

    if out.suffix.lower() == ".html":
        return page(found, title="What speaks for the class")
    if out.suffix.lower() == ".jsonl":
        lines = [json.dumps(plain(one), ensure_ascii=False) for one in found]
        return "".join(line + "\n" for line in lines)
    return _document(run, found) + "\n"


def _document(run: Path, found: list[Attribution]) -> str:
    from mdlm_classify.attribution_view import plain

    texts = [plain(one) for one in found]
    return json.dumps({"run": str(run), "texts": texts}, ensure_ascii=False, indent=1)


def _show(found: list[Attribution]) -> None:
    from rich.console import Console

    from mdlm_classify.attribution_view import terminal

    console = Console(soft_wrap=True, highlight=False)
    for number, one in enumerate(found):
        if number:
            console.print()
        console.print(terminal(one))
