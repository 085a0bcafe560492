"""``mdlm classify evaluate``: how good a trained classifier is on labelled texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mdlm_core.cli.options import Device, Imports, Json, Seed
from mdlm_core.errors import UsageError

from .options import (
    Checkpoint,
    Data,
    Draws,
    Estimator,
    LabelColumn,
    Prior,
    Rule,
    Run,
    Split,
    TextColumn,
    TokensAtOnce,
    Weights,
    open_run,
    say,
)
from .progress import Progress

CURVE = 100
"""Texts of the learning curve over draws, where a report is written."""


def evaluate(
    run: Run,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where a report goes, as JSON and as a page with figures.",
        ),
    ] = None,
    text_column: TextColumn = None,
    label: LabelColumn = None,
    split: Split = None,
    rows: Annotated[
        int, typer.Option(metavar="N", help="Only N texts, spread evenly; 0: all.")
    ] = 0,
    drop_known: Annotated[
        bool,
        typer.Option("--drop-known", help="Leave out texts that were learned from."),
    ] = False,
    curve: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Texts on which 2, 4, 8, ... draws are compared; {CURVE} with --out.",
        ),
    ] = None,
    prior: Prior = None,
    prior_correction: Annotated[
        bool,
        typer.Option(
            "--prior-correction", help="Estimate the prior from these texts (EM)."
        ),
    ] = False,
    draws: Draws = None,
    rule: Rule = None,
    estimator: Estimator = None,
    tokens_at_once: TokensAtOnce = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = "ema",
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Measure a classifier: accuracy with its interval, log-loss, calibration, classes.

    Without --data: on the texts that the run held out, which chose its checkpoint and
    its temperature. Texts that were also learned from are counted.
    """
    if rows < 0 or (curve or 0) < 0:
        raise UsageError(
            f"--rows is {rows} and --curve is {curve or 0}; they must be 0 or more"
        )
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; name a folder")
    opened = open_run(
        run,
        checkpoint=checkpoint,
        weights=weights,
        device=device,
        imports=imports or (),
        prior=prior,
        draws=draws,
        rule=rule,
        estimator=estimator,
        tokens_at_once=tokens_at_once,
        seed=seed,
    )
    from mdlm_classify.evaluating import evaluate as measure
    from mdlm_classify.evaluating import held_out, known_texts, spread
    from mdlm_classify.report.card import card
    from mdlm_classify.report.page import write

    from .reading import in_options, read

    settings = opened.data
    if data is None:
        found = held_out(settings, opened.classifier.trained_.data)
        fitted = " and the temperature" if "temperature" in opened.facts else ""
        say(
            f"note: these texts chose the checkpoint{fitted}, so that the numbers are "
            f"too good; give others with --data"
        )
    else:
        found = read(data, settings, text=text_column, label=label, split=split)
    found = spread(found, rows)
    known = known_texts(settings, found) if data is not None else None
    facts: dict[str, Any] = {"run": str(run), "data": data or "held out by the run"}
    facts |= {"checkpoint": checkpoint, "weights": weights}
    if known is not None:
        facts["also learned from"] = int(known.sum())
        if drop_known:
            if known.all():
                raise UsageError(
                    f"all {len(known):,} texts were learned from; nothing is left"
                )
            found = found.select((~known).nonzero()[0])
            facts["left out"] = facts.pop("also learned from")
    elif drop_known:
        raise UsageError(
            "--drop-known needs the texts that were learned from, and they are not "
            "where the run read them; leave it out"
        )
    with Progress("scoring") as progress, in_options():
        evaluation = measure(
            opened.classifier,
            found,
            facts=facts,
            moved=opened.moved,
            prior_correction=prior_correction,
            curve=CURVE if curve is None and out is not None else curve or 0,
            progress=progress,
        )
    plain = card(evaluation)
    print(json.dumps(plain, indent=2, ensure_ascii=False) if as_json else text(plain))
    if out is not None:
        page, note = write(evaluation, out, title=f"Evaluation of {run}")
        say(f"report: {page}")
        if note:
            say(note)


def text(card: dict[str, Any]) -> str:
    """Return a card as lines for people."""
    accuracy = card["accuracy"]
    facts = card["facts"]
    lines = [
        f"{'accuracy':>15}  {accuracy['value']:.4f} "
        f"({accuracy['low']:.4f} to {accuracy['high']:.4f} at 95 %)",
        f"{'macro F1':>15}  {card['macro_f1']:.4f}",
        f"{'log-loss':>15}  {_number(card['log_loss'])}",
        f"{'Brier':>15}  {card['brier']:.4f}",
        f"{'ECE':>15}  {card['ece']:.4f}",
        f"{'texts':>15}  {card['rows']:,} of {facts['data']}",
    ]
    for name in ("also learned from", "left out", "longer than a window"):
        if facts.get(name):
            lines.append(f"{name:>15}  {facts[name]:,} texts")
    if scoring := card["scoring"]:
        if scoring["empty_texts"]:
            lines.append(
                f"{'no known token':>15}  {scoring['empty_texts']:,} texts, which get "
                f"the prior"
            )
        how = (
            "exact"
            if scoring["exact"]
            else f"{scoring['draws_per_text']:.1f} draws and "
            f"{scoring['evaluations_per_text']:.1f} evaluations a text, "
            f"{scoring['flips_over_5_percent']:,} texts in doubt"
        )
        lines.append(f"{'likelihood':>15}  {how}")
    shares = zip(card["labels"], card["prior"], strict=True)
    listed = ", ".join(f"{label} {share:.3f}" for label, share in list(shares)[:8])
    lines.append(f"{'prior':>15}  {listed}{', ...' if len(card['labels']) > 8 else ''}")
    if len(card["labels"]) <= 20:
        lines += _classes(card)
    return "\n".join(lines)


def _classes(card: dict[str, Any]) -> list[str]:
    """Return a table of the classes."""
    width = max(15, *(len(label) for label in card["labels"]))
    lines = [f"{'class':>{width}}  precision  recall     F1   texts"]
    for entry in card["classes"]:
        cells = [_number(entry[name], 3) for name in ("precision", "recall", "f1")]
        lines.append(
            f"{entry['label']:>{width}}  {cells[0]:>9}  {cells[1]:>6}  {cells[2]:>5}  "
            f"{entry['rows']:>6,}"
        )
    return lines


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


__all__ = ["CURVE", "evaluate", "text"]
