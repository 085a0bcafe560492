"""The options of the commands that decode. Light: imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mdlm_core.config import read_run
from mdlm_core.config.layers import default_layer, merge, set_layer
from mdlm_core.config.structure import structure
from mdlm_core.errors import UsageError
from mdlm_llada.config import DecodeConfig

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog
    from mdlm_core.config import RunConfig

ANSWER_LENGTH = 128
"""Tokens of an answer, if neither the command nor the run says."""

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A run folder, or a checkpoint."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="T", help="Steps of all blocks.")
]
GenLength = Annotated[
    int | None,
    typer.Option(
        "--gen-length", "--gen_length", metavar="G", help="Tokens of an answer."
    ),
]
BlockLength = Annotated[
    int | None,
    typer.Option(
        "--block-length", "--block_length", metavar="S", help="Positions in a block."
    ),
]
Temperature = Annotated[
    float | None, typer.Option(metavar="X", help="0 takes the most probable token.")
]
CfgScale = Annotated[
    float | None,
    typer.Option(
        "--cfg-scale", "--cfg_scale", metavar="W", help="Guidance; 0 means none."
    ),
]
Remasking = Annotated[
    Literal["low_confidence", "random", "margin", "entropy"] | None,
    typer.Option(help="What makes a position sure."),
]
Threshold = Annotated[
    float | None,
    typer.Option(metavar="P", help="Commit all that is at least so sure."),
]
Cache = Annotated[
    Literal["none", "approx-prefix", "approx-dual"] | None,
    typer.Option(help="Reuse keys and values: faster, and an approximation."),
]
MaskTokenId = Annotated[
    int | None,
    typer.Option(
        "--mask-token-id",
        "--mask_token_id",
        metavar="ID",
        help="The mask, for a checkpoint that does not name it.",
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="Type of the weights; auto is as saved."),
]
TemplateName = Annotated[
    Literal["auto", "llada", "plain", "none"],
    typer.Option("--template", help="How a prompt becomes text."),
]
Checkpoint = Annotated[
    str, typer.Option(help="Of a run: best, last, or the number of a step.")
]


def decoding(
    model: str,
    catalog: Catalog,
    *,
    gen_length: int | None,
    sets: Sequence[str] | None,
    **given: object,
) -> tuple[DecodeConfig, int]:
    """Return how to decode, and the length of an answer.

    They are what the options say; else what the run was trained with, if the model is
    a run with this sampler; else the defaults. Steps that nobody asked for are rounded
    up to what the blocks can share.

    Args:
        model: a run or a checkpoint.
        catalog: knows the settings.
        gen_length: G, if the command says.
        sets: of the sampler, ``sampler.key=value``.
        given: settings of the sampler by name, None for those not given.
    """
    for text in sets or ():
        if not text.strip().startswith("sampler."):
            raise UsageError(
                f"--set {text}: here only the sampler can be set, such as "
                f"--set sampler.factor=1"
            )
    own = list(sets or ())
    own += [f"sampler.{k}={v}" for k, v in given.items() if v is not None]
    folder = Path(model).expanduser()
    if not (folder / "config.yaml").is_file():
        layer = merge(default_layer(), set_layer(["sampler=llada", *own]))
        config = structure(layer, catalog).sampler.config
        return _decode(config), gen_length or ANSWER_LENGTH
    name = read_run(folder, catalog).sampler.name
    first = [] if name == "llada" else ["sampler=llada"]
    run = read_run(folder, catalog, sets=[*first, *own])
    settings = _decode(run.sampler.config)
    length = gen_length or whole_blocks(_trained_length(run), settings.block)
    asked = given.get("steps") is not None or any("sampler.steps" in t for t in own)
    blocks = length // settings.block
    if not asked and length % settings.block == 0 and settings.steps % blocks:
        settings = replace(settings, steps=whole_blocks(settings.steps, blocks))
    return settings, length


def _trained_length(run: RunConfig) -> int:
    """Return the tokens of an answer that a run says; else at most the default."""
    for config in (run.task.config, run.data.config):
        if length := int(getattr(config, "answer_length", 0)):
            return length
    return min(
        int(getattr(run.data.config, "max_length", ANSWER_LENGTH)), ANSWER_LENGTH
    )


def whole_blocks(length: int, block: int) -> int:
    """Return `length` rounded up to a multiple of `block`."""
    return max(1, -(-length // block)) * block


def _decode(config: Any) -> DecodeConfig:
    assert isinstance(config, DecodeConfig)
    return config


def say(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr)
