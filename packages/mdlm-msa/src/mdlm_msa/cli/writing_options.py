"""The options of the commands that write residues. Light: imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import typer

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.config import read_run
from mdlm_core.errors import UsageError
from mdlm_msa.config import GenerationConfig
from mdlm_msa.config.data import FILTERS, AlignmentsConfig, Selection

if TYPE_CHECKING:
    from mdlm_core.protocols import Sampler
    from mdlm_core.train.runs import LoadedRun

Model = Annotated[
    Path, typer.Option("--model", metavar="RUN", help="The run folder of the model.")
]
Steps = Annotated[
    int | None, typer.Option(metavar="T", help="Steps of the sampler; as trained.")
]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        metavar="NAME",
        help="ddpm, ddpm_cache, confidence, remask, one-shot, or another of "
        "'mdlm list sampler'.",
    ),
]
Temperature = Annotated[
    float | None, typer.Option(metavar="X", help="0 takes the most probable residue.")
]
TopP = Annotated[
    float | None, typer.Option(metavar="P", help="Probability that is kept.")
]
TopK = Annotated[int | None, typer.Option(metavar="K", help="Residues that are kept.")]
Prompt = Annotated[
    int,
    typer.Option(metavar="K", help="Rows of the input shown to the model, at most."),
]
Select = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help=f"Which of them: {', '.join(get_args(Selection))}; as trained.",
    ),
]
MinCoverage = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Columns with a residue in a row that is shown, at least; as trained.",
    ),
]
Support = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Further rows of the input that the profile alone sees, at most; as "
        "trained.",
    ),
]
Together = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Rows written on one canvas, where they see each other; 0 "
        "decides by the room.",
    ),
]
Length = Annotated[
    int, typer.Option(metavar="L", help="Tokens of a canvas, at most; as trained.")
]
Batch = Annotated[
    int, typer.Option(metavar="B", help="Canvases at once; changes nothing else.")
]
Seed = Annotated[int, typer.Option(metavar="S", help="Decides every draw.")]
AllowX = Annotated[
    bool, typer.Option("--allow-x", help="The unknown residue X may be written.")
]
Allowed = Annotated[
    str,
    typer.Option(
        "--allowed",
        metavar="LIST",
        help="Residues allowed in columns, such as 12=AG,40=-ST; - is the gap.",
    ),
]
Draws = Annotated[
    int,
    typer.Option(
        metavar="N", help="Masks to estimate a row's likelihood by; 0 leaves it out."
    ),
]
Checkpoint = Annotated[str, typer.Option(help="best, last, or the number of a step.")]
Weights = Annotated[str, typer.Option(help="ema or raw.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
Live = Annotated[
    bool, typer.Option("--live", help="Show the rows as they are written.")
]


class Opened(NamedTuple):
    """A model, and how it is to write."""

    loaded: LoadedRun
    catalog: Catalog
    config: GenerationConfig
    sampler: Sampler
    sampler_card: dict[str, Any]
    """Its name and settings."""
    max_rows: int
    """Rows of a canvas in training; 0 if not known."""


def open_model(
    run: Path,
    settings: dict[str, Any],
    *,
    sampler: dict[str, Any],
    sets: Sequence[str] | None,
    imports: Sequence[str] | None,
    device: str | None,
    checkpoint: str,
    weights: str,
) -> Opened:
    """Load a model of alignments, with the sampler of its run unless options differ.

    Args:
        run: the folder.
        settings: of a `GenerationConfig`, without those of the sampler; where
            `select` or `min_coverage` is None or missing, it is as in training.
        sampler: name, steps, temperature, top_p and top_k; None for as in the run.
        sets: what ``--set`` says, which must be about the sampler.
        imports: modules with hooks.
        device: its name; None takes the best.
        checkpoint: "best", "last" or the number of a step.
        weights: "ema" or "raw".

    Raises:
        ConfigError: if there is no run, or an option breaks a rule.
        UsageError: if the model is not one of alignments.
    """
    batch = settings.get("batch", GenerationConfig().batch)
    flags = [
        f"sampler.{key}={value}" for key, value in sampler.items() if value is not None
    ]
    for text in sets or ():
        if not text.strip().startswith(("sampler.", "sampler=")):
            raise UsageError(
                f"--set {text}: of a finished run only the sampler can be set, such as "
                f"--set sampler.eta=0.5"
            )
    catalog = load_catalog(*(imports or ()))
    trained = read_run(run, catalog, sets=[*(sets or ()), *flags])
    chosen = trained.sampler
    own: Any = chosen.config
    given = {key: value for key, value in settings.items() if value is not None}
    if "support" in settings:
        given.setdefault("support", getattr(trained.data.config, "support", 0))
    settings = as_trained(trained.data.config) | given
    config = GenerationConfig(
        **settings,
        sampler=chosen.name,
        steps=own.steps,
        temperature=own.temperature,
        top_p=own.top_p,
        top_k=own.top_k,
    )

    from mdlm_core.train import load_run
    from mdlm_msa.alphabet import MASK, VOCAB_SIZE

    loaded = load_run(
        run,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=catalog,
        say=say,
    )
    if (loaded.backbone.vocab_size, loaded.backbone.mask_id) != (VOCAB_SIZE, MASK):
        raise UsageError(
            f"'{run}' is no model of alignments: it has {loaded.backbone.vocab_size} "
            f"ids and the mask {loaded.backbone.mask_id}, instead of {VOCAB_SIZE} and "
            f"{MASK}; train one with mdlm msa train"
        )
    chosen = replace(chosen, config=replace(own, batch_size=batch))
    return Opened(
        loaded=loaded,
        catalog=catalog,
        config=config,
        sampler=catalog.build("sampler", chosen),
        sampler_card={"name": chosen.name, **asdict(chosen.config)},
        max_rows=int(getattr(loaded.config.data.config, "rows", 0)),
    )


def as_trained(data: object) -> dict[str, Any]:
    """Return how rows to show were chosen in training, as settings of a generation.

    Args:
        data: settings of alignments. Others, such as those of pairs, say nothing.
    """
    if not isinstance(data, AlignmentsConfig):
        return {}
    coverage = data.min_coverage
    if coverage is None:
        coverage = FILTERS[data.filter].min_coverage
    return {"select": data.select, "min_coverage": coverage}


def at_least(least: int, **values: int) -> None:
    """Refuse numbers below `least`; the options are called as the names, with dashes.

    Raises:
        UsageError: if one of them is.
    """
    for name, value in values.items():
        if value < least:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is {value}; it must be at least {least}")


def one_of(option: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is none of `known`."""
    if value not in known:
        raise UsageError(f"{option} is '{value}'; it must be one of {', '.join(known)}")


def band_of(text: str) -> tuple[float, float]:
    """Return what ``--identity`` says: ``0.4-0.6``, or one number for at least that.

    Raises:
        UsageError: if it is no band in [0, 1].
    """
    low, sign, high = (part.strip() for part in text.partition("-"))
    try:
        band = float(low), float(high) if sign else 1.0
    except ValueError:
        raise UsageError(
            f"--identity is '{text}'; write a band of shares, such as 0.4-0.6"
        ) from None
    if not 0 <= band[0] < band[1] <= 1:
        raise UsageError(
            f"--identity is '{text}'; it must be a band in [0, 1], such as 0.4-0.6"
        )
    return band


def say(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr)
