"""The options of the commands that decode. Light: imports nothing heavy."""

from __future__ import annotations

import json
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
from mdlm_llada.architecture import Architecture
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
    a run with this sampler; else the defaults. A block that nobody asked for is that of
    a block-diffusion model, and such steps are rounded up to what the blocks can share.

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
    if gen_length is not None and gen_length < 1:
        raise UsageError(f"--gen-length is {gen_length}; it must be at least 1")
    if not model.strip():
        raise UsageError(
            "the path of the model is empty; name a run, the folder of a checkpoint, "
            "or its name on the hub"
        )
    own = list(sets or ())
    own += [f"sampler.{k}={v}" for k, v in given.items() if v is not None]
    folder = Path(model).expanduser()
    run: RunConfig | None = None
    if (folder / "config.yaml").is_file():
        name = read_run(folder, catalog).sampler.name
        first = [] if name == "llada" else ["sampler=llada"]
        run = read_run(folder, catalog, sets=[*first, *own])
        settings = _decode(run.sampler.config)
    else:
        layer = merge(default_layer(), set_layer(["sampler=llada", *own]))
        settings = _decode(structure(layer, catalog).sampler.config)
    if not _asked("block", own) and (block := own_block(model, run, catalog)):
        settings = replace(settings, block=block)
    wanted = ANSWER_LENGTH if run is None else _trained_length(run)
    length = gen_length or whole_blocks(wanted, settings.block)
    blocks = length // settings.block
    if not _asked("steps", own) and length % settings.block == 0:
        settings = replace(settings, steps=whole_blocks(settings.steps, blocks))
    return settings, length


def _asked(name: str, sets: Sequence[str]) -> bool:
    """Return whether a setting of the sampler is among those that are set."""
    return any(text.partition("=")[0].strip() == f"sampler.{name}" for text in sets)


def own_block(model: str, run: RunConfig | None, catalog: Catalog) -> int:
    """Return the block of a block-diffusion model, 0 for one that sees both ways.

    Args:
        model: a checkpoint or a run; a name on the hub is fetched.
        run: the settings, if it is a run.
        catalog: knows them.
    """
    if run is not None:
        config = run.model.config
        path = str(getattr(config, "path", ""))
        if not path:
            blocks = getattr(config, "family", "") == "llada2"
            return int(config.block_size) if blocks else 0
        folder = Path(path).expanduser()
        if not (folder / "config.yaml").is_file():
            return own_block(path, None, catalog) if folder.is_dir() else 0
        return own_block(path, read_run(folder, catalog), catalog)
    from mdlm_llada.checkpoint.locate import locate

    try:
        config = json.loads((locate(model) / "config.json").read_bytes())
    except (OSError, ValueError):
        return 0  # said better where the model is loaded
    listed = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(listed, list) or "LLaDA2" not in str(listed):
        return 0
    return Architecture.from_json(config, f"{model}/config.json").block_size


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
