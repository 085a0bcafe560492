"""``mdlm evaluate``: measure a trained model on held-out data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mdlm_core.catalog import load_catalog

from .options import Device, Imports, Json, Seed

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]


def evaluate(
    run: Run,
    draws: Annotated[int, typer.Option(help="Draws for each row.")] = 8,
    rows: Annotated[
        int, typer.Option(help="Held-out rows, spread evenly; 0: all.")
    ] = 0,
    estimator: Annotated[
        str, typer.Option(help="exact-counts, continuous-time or any-order.")
    ] = "exact-counts",
    checkpoint: Annotated[
        str, typer.Option(help="best, last, or the number of a step.")
    ] = "best",
    weights: Annotated[str, typer.Option(help="ema or raw.")] = "ema",
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Print an evaluation card: a bound on -log p of held-out text.

    The bound is given in nats per token, bits per byte and as a perplexity, each with
    its standard error, and with everything one needs to measure it again.
    """
    from mdlm_core.evaluate import evaluate as measure
    from mdlm_core.train import load_run

    loaded = load_run(
        run,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=load_catalog(*(imports or ())),
        say=lambda text: print(text, file=sys.stderr),
    )
    card = measure(loaded, draws=draws, rows=rows, estimator=estimator, seed=seed or 0)
    if not card["data"]["as_trained"]:
        print(
            "warning: the held-out text is not the one this run was measured on",
            file=sys.stderr,
        )
    print(json.dumps(card, indent=2) if as_json else _text(card))


def _text(card: dict[str, Any]) -> str:
    bound = card["bound"]
    lines = [
        f"{name.replace('_', ' '):>15}  {entry['value']:.4f} ± {entry['se']:.4f}"
        for name, entry in bound.items()
        if entry is not None
    ]
    data, tokenizer = card["data"], card["tokenizer"]
    facts = {
        "estimator": f"{card['estimator']}, {card['draws']} draws a row, float32",
        "held out": f"{card['rows']} rows, {card['tokens']} tokens of {data['name']}",
        "split": f"sha256 {str(data['split_sha256'] or 'not known')[:16]}, "
        f"end of document {'scored' if data['eod'] else 'left out'}",
        "tokenizer": f"{tokenizer['name']}, {tokenizer['vocab_size']} ids",
        "weights": f"{card['weights']} of {card['checkpoint']}",
    }
    lines += [f"{name:>15}  {value}" for name, value in facts.items()]
    return "\n".join(lines)
