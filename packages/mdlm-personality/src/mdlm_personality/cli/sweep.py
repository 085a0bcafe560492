"""``mdlm personality sweep``: texts over a grid of one or two traits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out, Sets
from mdlm_core.errors import UsageError
from mdlm_personality.traits import TRAITS

from . import given as options
from . import results
from .opening import open_model
from .results import clean, say

if TYPE_CHECKING:
    from mdlm_personality.generation.sweep import Sweep
    from mdlm_personality.metrics.judges import Judge
    from mdlm_personality.saved import Trained


def sweep(
    run: options.Run,
    axes: Annotated[
        list[str],
        typer.Option(
            "--axis",
            metavar="NAME[=V,V,...]",
            help="What is set to each of the values, a trait from 0 to 1 if there are "
            "none; once or twice.",
        ),
    ],
    traits: options.Traits = None,
    labels: options.Labels = None,
    points: Annotated[
        int, typer.Option("--points", metavar="N", help="Values of an axis.")
    ] = 5,
    num: Annotated[
        int, typer.Option("--num", metavar="N", help="Texts of a cell.")
    ] = 4,
    length: options.Length = None,
    prompt: options.Prompt = "",
    judge: Annotated[
        Literal["auto", "lexicon", "texts", "none"],
        typer.Option(
            "--judge",
            help="What reads the traits: the planted law of the invented persons, or a "
            "model fitted to the training texts; auto goes by the data.",
        ),
    ] = "auto",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="A picture: .svg, .png or .pdf."),
    ] = None,
    guidance: options.Guide = 1.0,
    guidance_schedule: options.Schedule = "constant",
    guidance_interval: options.Interval = "0,0.6",
    trait_guidance: options.TraitGuide = None,
    negative: options.Negative = None,
    regressor: options.Regressor = None,
    regressor_guidance: options.RegressorGuide = 1.0,
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    seed: options.Seed = 0,
    out: Out = None,
    force: options.Force = False,
    sets: Sets = None,
    checkpoint: options.Checkpoint = "best",
    weights: options.Weights = "ema",
    precision: options.Precision = "fp32",
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write texts over a grid of one or two traits, all from the same noise.

    With a judge the table says how the texts of each cell read, with standard errors;
    without one it shows the first text of each.
    """
    results.check_out(out, force)
    results.check_out(plot, force, "--plot")
    if plot is not None and judge == "none":
        raise UsageError("--plot shows what a judge reads; leave out --judge none")
    person = options.person_of(traits, labels)
    grid = _grid(axes, points)
    guide = options.guidance_of(
        guidance, guidance_schedule, guidance_interval, trait_guidance, negative
    )
    if plot is not None:
        from mdlm_core.reports import check_picture

        check_picture(plot, package="mdlm-personality")
    opened = open_model(
        run,
        sets=sets,
        imports=imports,
        device=device,
        checkpoint=checkpoint,
        weights=weights,
        precision=precision,
        regressor=regressor,
        regressor_guidance=regressor_guidance,
        name=sampler,
        steps=steps,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
    )
    opened.note_far(person.items())
    for name, values in grid.items():
        opened.note_far((name, value) for value in values)

    from mdlm_personality.generation.sweep import sweep as swept

    found = swept(
        opened.trained,
        person,
        grid,
        num=num,
        length=length,
        prompt=prompt,
        seed=seed,
        guidance=guide,
        manner=opened.manner,
        judge=_judge(judge, opened.trained),
    )
    nfe = [value for cell in found.cells for value in cell.nfe]
    say(
        f"{len(found.cells)} cells of {num} texts, "
        f"{sum(nfe) / len(nfe):.1f} forward passes a text"
        + (f", read by {found.judge}" if found.judge else "")
    )
    if plot is not None:
        from mdlm_personality.generation.sweep_figure import draw

        draw(found, plot)
        say(f"{plot}: the picture")
    if as_json:
        facts = {**opened.facts(), "traits": person, "seed": seed, "prompt": prompt}
        facts["guidance"] = asdict(guide)
        body = json.dumps(facts | _plain(found), ensure_ascii=False)
    else:
        body = _lines(found)
    results.deliver(body, out)


def _grid(axes: Sequence[str], points: int) -> dict[str, tuple[float, ...]]:
    """Return the values of each axis.

    Raises:
        UsageError: if an axis has the wrong form.
    """
    if points < 2:
        raise UsageError(f"--points is {points}; an axis has at least 2")
    grid: dict[str, tuple[float, ...]] = {}
    for text in axes:
        name, sign, values = text.partition("=")
        name = options.full_name(name.strip())
        if name in grid:
            raise UsageError(f"--axis {name} is given twice; give it once")
        if not sign:
            grid[name] = tuple(i / (points - 1) for i in range(points))
            continue
        try:
            grid[name] = tuple(float(part) for part in values.split(","))
        except ValueError:
            raise UsageError(
                f"--axis {text}: the values of an axis are numbers, such as "
                f"extraversion=0,0.5,1"
            ) from None
    return grid


def _judge(name: str, trained: Trained) -> Judge | None:
    """Return what reads the texts of a run.

    Raises:
        UsageError: if the judge does not go with the data.
    """
    from mdlm_personality.metrics.judges import LexiconJudge, TextJudge

    data = trained.run.config.data
    if name == "none":
        return None
    if name == "lexicon" or (name == "auto" and data.name == "persona-corpus"):
        if data.name != "persona-corpus":
            raise UsageError(
                f"--judge lexicon knows the words of the invented persons, and this "
                f"run learned from {data.name}; give --judge texts"
            )
        return LexiconJudge(data.config.effect)
    source: Any = trained.run.source
    return TextJudge().fit(source.texts("train"))


def _plain(found: Sweep) -> dict[str, Any]:
    """Return a sweep for JSON, where what is not known is null."""
    return {
        "axes": {name: list(values) for name, values in found.axes.items()},
        "judge": found.judge,
        "cells": [
            {
                "do": cell.do,
                "mean": {t: _number(cell.mean(k)) for k, t in enumerate(TRAITS)},
                "error": {t: _number(cell.error(k)) for k, t in enumerate(TRAITS)},
                "texts": cell.texts,
                "nfe": cell.nfe,
            }
            for cell in found.cells
        ],
        "slopes": {
            axis: {t: _number(found.slope(axis, k)) for k, t in enumerate(TRAITS)}
            for axis in found.axes
        },
    }


def _number(value: float) -> float | None:
    return value if value == value else None


def _lines(found: Sweep) -> str:
    """Return the table for people, and the slopes."""
    from mdlm_personality.generation.sweep import table

    if not found.judge:
        blocks = []
        for cell in found.cells:
            at = ", ".join(f"{name} {value:g}" for name, value in cell.do.items())
            blocks += [f"--- {at} ---", clean(cell.texts[0])]
        return "\n".join(blocks)
    rows = [[clean(part) for part in row] for row in table(found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    count = len(found.axes)
    room = sum(widths[:count]) + 2 * (count - 1)
    lines += ["", "change of what is read for one unit of"]
    for axis in found.axes:
        slopes = [_signed(found.slope(axis, k)) for k in range(len(TRAITS))]
        lines.append(_line([axis, *slopes], [room, *widths[count:]]))
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(row, widths, strict=True)
    return "  ".join(part.ljust(width) for part, width in pairs).rstrip()


def _signed(value: float) -> str:
    return "-" if value != value else f"{value:+.2f}"
