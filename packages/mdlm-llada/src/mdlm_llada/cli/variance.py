"""``mdlm llada variance``: where the variance of the training loss comes from."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, Imports, Json, Out, Seed
from mdlm_core.errors import UsageError

if TYPE_CHECKING:
    from mdlm_llada.variance.numbers import At, Number, Report

LINES = 10
"""Lines of the table over mask rates, at most."""


def variance(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run folder.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--model_name",
            metavar="NAME",
            help="Instead of a run: a checkpoint's folder, or its name on the hub.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON lines of 'mdlm llada preprocess'; default: the run's own data.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows to measure, drawn at random.")] = 32,
    times: Annotated[int, typer.Option(help="Times at which they are.")] = 32,
    masks: Annotated[
        int, typer.Option(help="Masks of each row and time; each has a mirror image.")
    ] = 8,
    samples: Annotated[
        int, typer.Option(help="Independent masks of MultiSample, to compare with.")
    ] = 2,
    batch_size: Annotated[
        int,
        typer.Option(help="Rows of a global batch, for strata; 0: that of the run."),
    ] = 0,
    max_length: Annotated[
        int, typer.Option(help="Longer rows of --data are left out.")
    ] = 4096,
    max_tokens: Annotated[
        int, typer.Option(help="Tokens that go through the model at once.")
    ] = 60_000,
    checkpoint: Annotated[
        str, typer.Option(help="best, last, or the number of a step.")
    ] = "last",
    weights: Annotated[str, typer.Option(help="ema or raw.")] = "raw",
    out: Out = None,
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Measure the variance of a row's training loss, and what would lower it.

    It has three parts: A from the masks, B from the times, C from the rows. The table
    says how much of it each way of drawing masks and times would leave, and how that
    compares with Normal at the same number of forward passes, with standard errors.
    It is the variance of the loss; that of the gradient is another number. A row's loss
    is the one of task.loss_norm=sequence, per token of its answer, whatever the run's.
    """
    if (run is None) == (model is None):
        raise UsageError("give a run, or a checkpoint with --model, and not both")
    if model is not None and data is None:
        raise UsageError(
            "--model needs --data FILE, rows that 'mdlm llada preprocess' wrote"
        )
    least = {
        "--rows": (rows, 6),
        "--times": (times, 2),
        "--masks": (masks, 2),
        "--samples": (samples, 2),
        "--batch-size": (batch_size, 0),
        "--max-length": (max_length, 2),
        "--max-tokens": (max_tokens, 1),
        "--seed": (seed or 0, 0),
    }
    for name, (value, low) in least.items():
        if value < low:
            raise UsageError(f"{name} is {value}; it must be at least {low}")
    catalog = load_catalog(*(imports or ()))
    from mdlm_core.kernels.noise import Noise
    from mdlm_llada.variance import measure_draws, report
    from mdlm_llada.variance.subject import of_model, of_run

    noise = Noise(seed or 0).child("variance")
    if run is not None:
        subject = of_run(
            run,
            rows=rows,
            data=data,
            max_length=max_length,
            noise=noise.child("rows"),
            device=device,
            checkpoint=checkpoint,
            weights=weights,
            catalog=catalog,
            say=lambda text: print(text, file=sys.stderr),
        )
    else:
        assert model is not None
        assert data is not None
        subject = of_model(
            model,
            data,
            rows=rows,
            max_length=max_length,
            noise=noise.child("rows"),
            device=device,
        )
    draws = measure_draws(
        subject.backbone,
        subject.rows,
        schedule=subject.schedule,
        policy=subject.policy,
        t_min=subject.t_min,
        times=times,
        masks=masks,
        max_tokens=max_tokens,
        noise=noise.child("masks"),
    )
    found = report(
        draws,
        config=subject.times,
        batch=batch_size or subject.batch,
        noise=noise.child("fit"),
        masks=samples,
        own=subject.own,
    )
    numbers = {
        "model": subject.name,
        "seed": seed or 0,
        "loss_norm": "sequence",
        **found.to_json(),
    }
    card = json.dumps(numbers, indent=2, allow_nan=False)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(card + "\n", encoding="utf-8")
    if as_json:
        print(card)
    else:
        _print(found)


def _print(found: Report) -> None:
    from mdlm_core.cli.tables import print_table

    print(
        f"variance of a row's loss per token of its answer (loss_norm=sequence): "
        f"{found.rows} rows,\n{found.times} times, {found.masks} masks with their "
        f"mirror images"
    )
    parts = [
        ("mean loss", found.loss),
        ("A masks", found.a),
        ("  each token alone", found.alone),
        ("  tokens together", found.together),
        ("B times", found.b),
        ("C rows", found.c),
        ("A + B + C", found.total),
    ]
    print_table([(name, _shown(number)) for name, number in parts], indent="  ")
    print(
        f"\nwhat each way leaves (strata: {found.strata}, for batches of "
        f"{found.batch}); the gain is at equal forward passes"
    )
    lines = [("", "passes", "A", "B", "A + B + C", "gain", "gain per row")]
    lines += [
        (
            method.name,
            str(method.forwards),
            f"{method.masks.value:.4g}",
            f"{method.rate.value:.4g}",
            _shown(method.variance),
            _shown(method.gain),
            _shown(method.gain_per_row),
        )
        for method in found.methods
    ]
    print_table(lines, indent="  ")
    print(
        "\nby mask rate t: the mean g; the variance over masks v, its parts from what "
        "else is\nhidden, whether a token itself is, and tokens together; the "
        "correlation rho of mirror\nimages; the densities p"
    )
    names = list(found.curve[0].density)
    heads = ("t", "g", "v", "else", "itself", "together", "rho")
    table: list[tuple[str, ...]] = [(*heads, *(f"p ({name})" for name in names))]
    table += [_line(group, names) for group in _groups(found.curve)]
    print_table(table, indent="  ")


def _groups(curve: Sequence[At]) -> list[Sequence[At]]:
    """Return neighbours together, so that a table of them is short."""
    size = -(-len(curve) // LINES)
    return [curve[i : i + size] for i in range(0, len(curve), size)]


def _line(group: Sequence[At], names: Sequence[str]) -> tuple[str, ...]:
    """Return the means over neighbouring times, by the widths of their cells."""
    whole = sum(at.share for at in group)

    def mean(values: Sequence[float]) -> float:
        pairs = zip(group, values, strict=True)
        return sum(at.share * value for at, value in pairs) / whole

    spread = mean([at.variance for at in group])
    pairs = mean([at.variance * at.correlation for at in group])
    parts = [
        mean([getattr(at, part) for at in group])
        for part in ("context", "hidden", "together")
    ]
    return (
        f"{mean([at.t for at in group]):.3f}",
        f"{mean([at.mean for at in group]):.4g}",
        f"{spread:.4g}",
        *("-" if math.isnan(part) else f"{part:.3g}" for part in parts),
        "-" if math.isnan(pairs) else f"{pairs / spread:+.2f}",
        *(f"{mean([at.density[name] for at in group]):.3f}" for name in names),
    )


def _shown(number: Number) -> str:
    if number.value != number.value:
        return "not known"
    return f"{number.value:.4g} ± {number.se:.2g}"
