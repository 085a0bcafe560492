"""``mdlm llada convert``: a run or a checkpoint in another format."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Imports, Json


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CHECKPOINT",
            help="A run folder; or the folder of a checkpoint, or its name on the hub.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A folder that does not hold anything."),
    ],
    to: Annotated[
        Literal["auto", "llada", "dream", "llada-moe", "llada2", "llama", "qwen2"],
        typer.Option(
            "--to",
            help="The format; auto: the model's own. llama is for dense LLaDA, qwen2 "
            "for Dream, both ways.",
        ),
    ] = "auto",
    mask_token_id: Annotated[
        int | None,
        typer.Option(
            "--mask-token-id",
            "--mask_token_id",
            metavar="ID",
            help="The mask, for a checkpoint that does not name one.",
        ),
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Type of the weights; auto: as they are."),
    ] = "auto",
    checkpoint: Annotated[
        str, typer.Option(help="Of a run: best, last, or the number of a step.")
    ] = "best",
    weights: Annotated[str, typer.Option(help="Of a run: ema or raw.")] = "ema",
    shard_size: Annotated[
        float, typer.Option(min=0.001, metavar="GB", help="Size of a file of weights.")
    ] = 5.0,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Write a model in a published format, with its tokenizer.

    Tensors are renamed and not computed with, so that the way back gives the same
    bits. Adapters are added to the weights below them.
    """
    from mdlm_llada.checkpoint.convert import convert as run

    catalog = load_catalog(*(imports or ()))
    facts = run(
        source,
        out,
        to=to,
        mask_token_id=mask_token_id,
        dtype=dtype,
        checkpoint=checkpoint,
        weights=weights,
        shard_bytes=int(shard_size * 1e9),
        catalog=catalog,
        say=lambda text: print(text, file=sys.stderr),
    )
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        print(f"{facts['out']}: {facts['format']}, {facts['parameters']:,} parameters")
