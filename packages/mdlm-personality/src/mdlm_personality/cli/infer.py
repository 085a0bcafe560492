"""``mdlm personality infer``: what a model makes of the words of a text."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out, Seed
from mdlm_core.errors import DataError, UsageError
from mdlm_personality.traits import TRAITS

from .results import check_out, deliver, say

if TYPE_CHECKING:
    from mdlm_personality.posteriors import Posteriors

_BARS = " ▁▂▃▄▅▆▇█"
_SHOWN = 60


def infer(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="TEXT", help="A text; may be repeated."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="F", help="Texts, one a line; - is input."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="The texts are of one author.")
    ] = False,
    grid: Annotated[
        int, typer.Option("--grid", metavar="G", help="Values of a trait, 0 to 1.")
    ] = 11,
    draws: Annotated[
        int, typer.Option("--draws", metavar="N", help="Masks of each row.")
    ] = 32,
    estimator: Annotated[
        Literal["exact-counts", "any-order"],
        typer.Option("--estimator", help="any-order costs a pass for each token."),
    ] = "exact-counts",
    prior: Annotated[
        Literal["uniform", "training"],
        typer.Option("--prior", help="uniform, or the law of the training data."),
    ] = "uniform",
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", metavar="T", help="Above 1 is less sure; 1."),
    ] = None,
    calibrate: Annotated[
        int,
        typer.Option(
            "--calibrate", metavar="N", help="Fit the temperature on N held-out rows."
        ),
    ] = 0,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", help="best, last, or the number of a step.")
    ] = "best",
    weights: Annotated[str, typer.Option("--weights", help="ema or raw.")] = "ema",
    out: Out = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file of --out.")
    ] = False,
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Say how probable each value of each trait is, given a text.

    For one trait at a time, the others unknown, Bayes' rule with the model that writes
    texts: its prior times p(text | value), by a bound estimated with the same masks for
    all values. The answer is what the fitted model makes of the words, and no
    assessment of a person.
    """
    texts = _texts(text, file)
    if temperature is not None and calibrate:
        raise UsageError("--temperature and --calibrate both set T; give one")
    check_out(out, force)

    from mdlm_core.catalog import load_catalog
    from mdlm_core.kernels.noise import Noise
    from mdlm_personality import inference
    from mdlm_personality.saved import check_writes, load

    trained = load(
        run,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=load_catalog(*(imports or ())),
        say=say,
    )
    check_writes(trained)
    task: Any = trained.run.config.task.config
    if not getattr(task, "trait_dropout", 0.0):
        say(
            f"note: {run} was trained with task.trait_dropout=0, so that it has hardly "
            f"seen a trait without the others, which is what is asked here"
        )
    noise = Noise(seed or 0).child("infer")
    if calibrate:
        temperature = inference.calibrate(
            trained,
            rows=calibrate,
            grid=grid,
            draws=draws,
            noise=noise.child("calibrate"),
            prior=prior,
        )
        if temperature > 100:
            say(
                f"note: the temperature fitted is {temperature:.0f}: the likelihoods "
                f"of this model say next to nothing of the traits"
            )
    posteriors = inference.infer_traits(
        trained,
        texts,
        grid=grid,
        draws=draws,
        noise=noise,
        estimator=estimator,
        prior=prior,
        temperature=1.0 if temperature is None else temperature,
        together=together,
    )
    shown = [" ".join(texts)] if together else texts
    facts = {
        "run": str(run),
        "statement": inference.STATEMENT,
        "prior": prior,
        "temperature": posteriors.temperature,
        "temperature_from": (
            f"fitted on {calibrate} held-out rows"
            if calibrate
            else "as modelled"
            if temperature is None
            else "given"
        ),
        "estimator": estimator,
        "draws": draws,
        "grid": posteriors.grid.tolist(),
        "texts": _found(posteriors, shown),
    }
    document = json.dumps(facts, indent=1, ensure_ascii=False)
    if out is not None:
        deliver(document, out)
        say(f"{out}: {len(shown):,} texts")
    if as_json:
        print(document)
    elif out is None:
        for line in _lines(facts):
            print(line)


def _texts(text: list[str] | None, file: Path | None) -> list[str]:
    """Return the texts of ``--text``, or the lines of ``--file``.

    Raises:
        UsageError: if both are given, or there is no text.
        DataError: if the file cannot be read.
    """
    if text and file is not None:
        raise UsageError("--text and --file are two sources of texts; give one")
    if file is None:
        if not text:
            raise UsageError("there is no text; give --text TEXT or --file FILE")
        return text
    try:
        body = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--file '{file}' cannot be read as UTF-8: {error}") from error
    found = [line for line in body.splitlines() if line.strip()]
    if not found:
        raise UsageError(f"--file '{file}' holds no text; give one in each line")
    return found


def _found(posteriors: Posteriors, texts: list[str]) -> list[dict[str, Any]]:
    """Return what is found, as JSON has it."""
    law, mean, sd = posteriors.law, posteriors.mean, posteriors.sd
    mode, error = posteriors.mode, posteriors.mean_se
    return [
        {
            "text": text,
            "tokens": int(posteriors.tokens[row]),
            "traits": {
                name: {
                    "mean": float(mean[row, k]),
                    "sd": float(sd[row, k]),
                    "most_probable": float(mode[row, k]),
                    "mean_se": None if error[row, k].isnan() else float(error[row, k]),
                    "posterior": law[row, k].tolist(),
                }
                for k, name in enumerate(TRAITS)
            },
        }
        for row, text in enumerate(texts)
    ]


def _lines(facts: dict[str, Any]) -> list[str]:
    """Return the answer for a reader."""
    lines: list[str] = []
    for number, found in enumerate(facts["texts"], 1):
        text = " ".join(found["text"].split())
        short = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
        lines += [
            f"{number}. {short} ({found['tokens']} tokens)",
            f"   {'':<18}{'mean':>6}{'sd':>7}{'mode':>7}{'masks':>9}   0 to 1",
        ]
        for name, trait in found["traits"].items():
            law = [2 * trait["posterior"][0], *trait["posterior"][1:-1]]
            law.append(2 * trait["posterior"][-1])  # densities: the ends are half cells
            top = max(law)
            bars = "".join(_BARS[round(8 * mass / top)] for mass in law)
            error = trait["mean_se"]
            masks = "" if error is None else f"+-{error:.3f}"
            lines.append(
                f"   {name:<18}{trait['mean']:>6.2f}{trait['sd']:>7.2f}"
                f"{trait['most_probable']:>7.2f}{masks:>9}   {bars}"
            )
    lines.append(
        f"prior {facts['prior']}, temperature {facts['temperature']:.3g} "
        f"({facts['temperature_from']}), {facts['draws']} draws of {facts['estimator']}"
    )
    lines.append(f"This is {facts['statement']}.")
    return lines
