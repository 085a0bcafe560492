"""The options of the commands that write texts. Light: imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import typer

from mdlm_core.errors import UsageError
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.config.generation import GuidanceSchedule
from mdlm_personality.traits import TRAITS, assignment, parse_traits

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]
Traits = Annotated[
    str | None,
    typer.Option(
        "--traits",
        metavar="O,C,E,A,N",
        help="Five values in [0, 1], ? for one that is not known; or openness=0.8,e=0.",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="NAME=VALUE",
        help="Something else that is known of the person; may be repeated.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--do",
        metavar="NAME=VALUE",
        help="Set a trait, a label or a latent node; may be repeated.",
    ),
]
Shift = Annotated[
    list[str] | None,
    typer.Option(
        "--shift",
        metavar="NAME=AMOUNT",
        help="Move a node by so much, its causes still at work; may be repeated.",
    ),
]
Guide = Annotated[
    float,
    typer.Option(
        "--guidance",
        metavar="G",
        help="How strongly the persona draws the text: 1 is as learned, 0 not at all.",
    ),
]
Schedule = Annotated[
    str,
    typer.Option(
        "--guidance-schedule",
        metavar="NAME",
        help="constant; linear: weak at first; interval: only at some times.",
    ),
]
Interval = Annotated[
    str,
    typer.Option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="The times of interval, from 1, all hidden, to 0.",
    ),
]
TraitGuide = Annotated[
    list[str] | None,
    typer.Option(
        "--trait-guidance",
        metavar="NAME=G",
        help="Guidance by one trait, instead of by all; may be repeated.",
    ),
]
Negative = Annotated[
    str | None,
    typer.Option(
        "--negative",
        metavar="O,C,E,A,N",
        help="Traits to guide away from, instead of no persona.",
    ),
]
Regressor = Annotated[
    Path | None,
    typer.Option(
        "--regressor", metavar="RUN", help="A trait-regressor that guides, too."
    ),
]
RegressorGuide = Annotated[
    float,
    typer.Option(
        "--regressor-guidance", metavar="G", help="How strongly; 0 is not at all."
    ),
]
Contrast = Annotated[
    float,
    typer.Option(
        "--contrast",
        metavar="W",
        help="Move the counterfactual away from the factual persona; 0 is none.",
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option("--sampler", metavar="NAME", help="One of 'mdlm list sampler'."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="T", help="Steps of the sampler.")
]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", metavar="X", help="0 takes the most probable token."),
]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", metavar="P", help="Probability that is kept."),
]
TopK = Annotated[
    int | None, typer.Option("--top-k", metavar="K", help="Tokens that are kept.")
]
Length = Annotated[
    int | None,
    typer.Option("--length", metavar="L", help="Tokens of a text; as trained."),
]
Num = Annotated[int, typer.Option("--num", metavar="N", help="How many.")]
Prompt = Annotated[
    str,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="How it begins; ____ is a blank to fill, ____{12} one of 12 tokens.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Decides every draw.")]
Checkpoint = Annotated[
    str, typer.Option("--checkpoint", help="best, last, or the number of a step.")
]
Weights = Annotated[str, typer.Option("--weights", help="ema or raw.")]
Precision = Annotated[
    str, typer.Option("--precision", help="fp32, or bf16: faster, and coarser.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite the files of --out and --plot.")
]


def person_of(traits: str | None, labels: Sequence[str] | None) -> dict[str, float]:
    """Return what is known of the person, by name.

    Raises:
        UsageError: if a value is not in its range, or a name is given twice.
        UnknownNameError: if a trait does not exist.
    """
    values = parse_traits(traits) if traits is not None else ()
    known = {
        name: value
        for name, value in zip(TRAITS, values, strict=False)
        if value is not None
    }
    for name, value in assignments("--label", labels).items():
        if name in TRAITS:
            raise UsageError(f"--label {name}: that is a trait; give it with --traits")
        known[name] = value
    return known


def assignments(option: str, texts: Sequence[str] | None) -> dict[str, float]:
    """Return the names and values of an option such as ``--do``; letters in full.

    Raises:
        UsageError: if a text is no NAME=VALUE, or a name is there twice.
    """
    found: dict[str, float] = {}
    for text in texts or ():
        for part in text.split(","):
            name, value = assignment(part)
            name = full_name(name)
            if name in found:
                raise UsageError(f"{option} sets {name} twice; set it once")
            found[name] = value
    return found


def change_of(
    do: Sequence[str] | None, shift: Sequence[str] | None
) -> tuple[dict[str, float], Literal["counterfactual", "shift"]]:
    """Return what is set and how; one of the two options is needed.

    Raises:
        UsageError: if none is given, or both.
    """
    if do and shift:
        raise UsageError("--do and --shift are two kinds of interventions; give one")
    if not do and not shift:
        raise UsageError("nothing is set; give --do, such as --do extraversion=0.2")
    if do:
        return assignments("--do", do), "counterfactual"
    return assignments("--shift", shift), "shift"


def guidance_of(
    scale: float,
    schedule: str,
    interval: str,
    per_trait: Sequence[str] | None,
    negative: str | None,
) -> GuidanceConfig:
    """Return the settings of guidance that the options say.

    Raises:
        UsageError: if a value has the wrong form, or options exclude each other.
        ConfigError: if a value is not in its range.
    """
    if schedule not in get_args(GuidanceSchedule):
        raise UsageError(
            f"--guidance-schedule is '{schedule}'; it must be one of "
            f"{', '.join(get_args(GuidanceSchedule))}"
        )
    scales = assignments("--trait-guidance", per_trait)
    if scales and (scale != 1 or negative is not None):
        raise UsageError(
            "--trait-guidance stands alone; leave out --guidance and --negative"
        )
    if negative is not None and scale == 1:
        raise UsageError(
            "--negative does nothing with a guidance of 1; give --guidance, such as 2"
        )
    return GuidanceConfig(
        scale=scale,
        schedule=cast("GuidanceSchedule", schedule),
        interval=_interval(interval),
        per_trait=scales,
        negative=() if negative is None else parse_traits(negative),
    )


def _interval(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--guidance-interval is '{text}'; give two times such as 0,0.6"
        ) from None
    return low, high


def full_name(name: str) -> str:
    """Return the whole name of a trait for its letter; other names as they are."""
    letters = {trait[0]: trait for trait in TRAITS}
    return letters.get(name.strip().lower(), name)
