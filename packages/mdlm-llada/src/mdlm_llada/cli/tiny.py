"""``mdlm llada tiny``: a tiny random checkpoint, to try things with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mdlm_core.cli.options import Seed
from mdlm_llada.config.model import Family


def tiny(
    family: Annotated[
        Family,
        typer.Argument(metavar="FAMILY", help="llada, dream, llada-moe or llada2."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where it goes; must not hold anything.")
    ],
    shards: Annotated[
        int, typer.Option(min=1, metavar="N", help="Files for the weights.")
    ] = 1,
    blocks: Annotated[
        int, typer.Option(min=1, metavar="N", help="Transformer blocks.")
    ] = 2,
    width: Annotated[
        int, typer.Option(min=2, metavar="D", help="Width; a multiple of 2 x heads.")
    ] = 32,
    heads: Annotated[int, typer.Option(min=1, metavar="H", help="Query heads.")] = 2,
    vocab_size: Annotated[
        int,
        typer.Option(min=0, metavar="V", help="Rows of the embedding; 0: as needed."),
    ] = 0,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Type of the weights.")
    ] = "float32",
    seed: Seed = None,
) -> None:
    """Write a random checkpoint in a published format: settings, weights, tokenizer.

    It has the fields and the names of tensors of the real ones, and a tokenizer of
    bytes, so that every command can be tried on it in seconds.
    """
    from mdlm_llada.checkpoint.tiny import tiny_checkpoint

    folder = tiny_checkpoint(
        out,
        family,
        shards=shards,
        seed=seed or 0,
        blocks=blocks,
        width=width,
        heads=heads,
        vocab_size=vocab_size,
        dtype=dtype,
    )
    print(folder)
