"""``mdlm atat evaluate``: the uniform bound of a run, and what its policy learned."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, Imports, Json, Seed


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    rows: Annotated[
        int, typer.Option(help="Held-out rows, spread evenly; 0: all.")
    ] = 0,
    draws: Annotated[int, typer.Option(help="Draws for each row.")] = 8,
    own: Annotated[
        bool, typer.Option("--own", help="Also the bound of the run's own process.")
    ] = False,
    checkpoint: Annotated[
        str, typer.Option(help="best, last, or the number of a step.")
    ] = "best",
    weights: Annotated[str, typer.Option(help="ema or raw.")] = "ema",
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Print the evaluation card of a run, and the diagnostics of its masking policy.

    The bound is that of uniform masks, which compares runs however they were trained.
    --own adds the bound of the run's own process, with its rate term, which does not.
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
    card = measure(loaded, draws=draws, rows=rows, seed=seed or 0)
    if not card["data"]["as_trained"]:
        print(
            "warning: the held-out text is not the one this run was measured on",
            file=sys.stderr,
        )
    from mdlm_atat.ablation.diagnostics import diagnose
    from mdlm_atat.ablation.score import Scoring

    scoring = Scoring(rows=rows, draws=draws, seed=seed or 0)
    card["diagnostics"] = diagnose(loaded, scoring)
    if own:
        from dataclasses import asdict

        from mdlm_atat.own_bound import own_bound
        from mdlm_core.kernels.noise import Noise

        noise = Noise(seed or 0).child("own")
        found = own_bound(loaded, draws=draws, rows=rows, noise=noise)
        card["own_bound"] = _plain(asdict(found))
    print(json.dumps(card, indent=2, allow_nan=False) if as_json else _text(card))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with None for what is no number, such as the error of one row."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _text(card: dict[str, Any]) -> str:
    lines = ["uniform bound"]
    lines += [
        f"{name.replace('_', ' '):>15}  {_number(entry['value'])} ± "
        f"{_number(entry['se'])}"
        for name, entry in card["bound"].items()
        if entry is not None
    ]
    lines.append(
        f"{'held out':>15}  {card['rows']} rows, {card['tokens']} tokens of "
        f"{card['data']['name']}, {card['draws']} draws a row"
    )
    lines.append(f"{'weights':>15}  {card['weights']} of {card['checkpoint']}")
    if "own_bound" in card:
        found = card["own_bound"]
        lines.append(f"own bound of {found['label']} (not to be compared)")
        lines.append(
            f"{'nats per token':>15}  {_number(found['nats'])} ± "
            f"{_number(found['nats_se'])}"
        )
    found = card["diagnostics"]
    if found is None:
        lines.append("the masking has no importance to look at")
        return "\n".join(lines)
    lines += ["importance", _line("share hidden", found["times"], "g")]
    lines.append(_line("Spearman", found["spearman"], ".2f"))
    lines.append(f"mask rate at full strength (kappa = {found['strength']:.2f})")
    lines.append(_line("time", found["times"], "g"))
    names = ("most frequent", "2nd quarter", "3rd quarter", "rarest")
    for name, values in zip(names, found["mask_rate"], strict=True):
        lines.append(_line(name, values, ".3f"))
    lines.append("tenths of the tokens by importance")
    for name, values in found["calibration"].items():
        label = "loss percentile" if name == "percentile" else name
        lines.append(_line(label, values, ".2f"))
    return "\n".join(lines)


def _number(value: float | None, style: str = ".4f") -> str:
    return "–" if value is None else format(value, style)


def _line(name: str, values: list[float | None], style: str) -> str:
    cells = (_number(value, style) for value in values)
    return f"{name:>15}  " + " ".join(f"{cell:>6}" for cell in cells)
