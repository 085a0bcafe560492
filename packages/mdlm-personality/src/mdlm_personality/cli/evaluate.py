"""``mdlm personality evaluate``: all measurements of a trained model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdlm_core.cli.options import Device, Imports, Json, Seed
from mdlm_core.errors import UsageError

from .results import say

if TYPE_CHECKING:
    from mdlm_personality.data.texts import PersonaTexts
    from mdlm_personality.saved import Trained

FILES = ("evaluation.json", "evaluation.md", "evaluation.html")


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="F",
            help="Texts with traits that the model has not seen; those held out.",
        ),
    ] = None,
    gamma: Annotated[
        str, typer.Option("--gamma", metavar="G,...", help="Strengths of guidance.")
    ] = "1,2,4",
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", help="Texts of random personas.")
    ] = 128,
    personas: Annotated[
        int,
        typer.Option(
            "--personas", metavar="N", help="Personas whose traits are set; 0: none."
        ),
    ] = 48,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", help="Held-out rows; 0: all.")
    ] = 256,
    draws: Annotated[
        int, typer.Option("--draws", metavar="N", help="Draws of the bound.")
    ] = 4,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="T", help="Of the sampler.")
    ] = None,
    language_model: Annotated[
        str | None,
        typer.Option(
            "--language-model",
            metavar="PATH",
            help="A causal transformers model, for generative perplexity.",
        ),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", help="best, last, or the number of a step.")
    ] = "best",
    weights: Annotated[str, typer.Option("--weights", help="ema or raw.")] = "ema",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Where a report goes: JSON, Markdown, a page."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a report that is in --out.")
    ] = False,
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Measure a model: alignment, flips, diversity, disentanglement, bound.

    Each number stands beside what it has to be compared with: the ceiling of the judge,
    the null rate, texts by people, representations that separate nothing. The numbers
    are of a model and its texts, and no assessment of a person.
    """
    gammas = _numbers(gamma)
    if out is not None:
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out '{out}' is a file; name a folder")
        there = [name for name in FILES if (out / name).exists()]
        if there and not force:
            raise UsageError(
                f"--out '{out}' has {there[0]} already; name another folder, or give "
                f"--force"
            )

    from tqdm import tqdm

    from mdlm_core.catalog import load_catalog
    from mdlm_personality import report
    from mdlm_personality.evaluate import Plan
    from mdlm_personality.evaluate import evaluate as measure
    from mdlm_personality.saved import check_writes, load

    plan = Plan(
        gammas=gammas,
        samples=samples,
        personas=personas,
        rows=rows,
        draws=draws,
        steps=steps,
        language_model=language_model or "",
        seed=seed or 0,
    )
    trained = load(
        run,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=load_catalog(*(imports or ())),
        say=say,
    )
    check_writes(trained)
    people = None if data is None else _read(trained, data)
    with tqdm(
        total=plan.texts, desc="writing", unit="text", disable=None, leave=False
    ) as bar:
        card = measure(trained, plan, data=people, progress=bar.update)
    if data is not None:
        card["data"] = str(data)
    print(
        json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False)
        if as_json
        else report.text(card)
    )
    if out is not None:
        say(f"report: {report.write(card, out)[-1]}")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--gamma is '{text}'; give numbers with commas between them, such as 1,2,4"
        ) from None


def _read(trained: Trained, path: Path) -> PersonaTexts:
    """Return the texts of a file, read with the settings of the run if it has any."""
    from mdlm_personality.config import PersonaTextConfig
    from mdlm_personality.data.source import read_texts

    config = trained.run.config.data.config
    if isinstance(config, PersonaTextConfig):
        return read_texts(replace(config, path=str(path), format="auto", max_rows=0))
    return read_texts(PersonaTextConfig(path=str(path)))


__all__ = ["FILES", "evaluate"]
