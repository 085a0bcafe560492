"""``mdlm msa chat``: queries typed or piped in, new rows as they are written."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from mdlm_core.cli.options import Device, Imports, Sets
from mdlm_core.errors import MdlmError, UsageError

from . import writing_options as options
from .writing_options import at_least, say

if TYPE_CHECKING:
    from mdlm_msa.alignment import Alignment

STOP = "stop"
"""The line that ends the conversation."""


def chat(
    model: options.Model,
    rows: Annotated[
        int | None, typer.Option(metavar="N", help="New rows for each query.")
    ] = None,
    max_gen_length: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            help="Instead of --rows: as many rows as take that many tokens, each with "
            "its separator.",
        ),
    ] = None,
    num_diffusion_steps: Annotated[
        int | None,
        typer.Option("--num-diffusion-steps", "--steps", metavar="T", help="Steps."),
    ] = None,
    diffusion_sampler: Annotated[
        str | None,
        typer.Option(
            "--diffusion-sampler",
            "--sampler",
            metavar="NAME",
            help="ddpm, ddpm_cache, confidence, remask, one-shot, or another.",
        ),
    ] = None,
    stream_chat: Annotated[
        bool,
        typer.Option(
            "--stream-chat",
            "--stream_chat",
            "--stream",
            help="Show the rows while they are written.",
        ),
    ] = False,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    no_gap: Annotated[
        bool, typer.Option("--no-gap", help="No gap in a new row.")
    ] = False,
    length: options.Length = 0,
    seed: options.Seed = 0,
    checkpoint: options.Checkpoint = "best",
    weights: options.Weights = "ema",
    sets: Sets = None,
    imports: Imports = None,
    device: Device = None,
) -> None:
    """Read a query a line, `QUERY` or `QUERY<M>ROW<M>ROW`, and print new rows.

    The rows after the query are shown to the model. `stop` or the end of the input ends
    it. Each answer is one line `QUERY<M>ROW...` of the query and the new rows.
    """
    if rows is not None and max_gen_length is not None:
        raise UsageError("--rows and --max-gen-length say the same; give one of them")
    at_least(0, length=length)
    at_least(1, rows=1 if rows is None else rows)
    opened = options.open_model(
        model,
        {
            "rows": rows or 1,
            "length": length,
            "seed": seed,
            "prompt": 1_000_000,
            "select": "top",
            "min_coverage": 0.0,
            "gaps": "none" if no_gap else "free",
            "draws": 0,
        },
        sampler={
            "name": diffusion_sampler,
            "steps": num_diffusion_steps,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
        },
        sets=sets,
        imports=imports,
        device=device,
        checkpoint=checkpoint,
        weights=weights,
    )
    from dataclasses import replace

    from mdlm_msa.alphabet import decode
    from mdlm_msa.generation.canvases import spread
    from mdlm_msa.generation.generate import generate
    from mdlm_msa.generation.prompt_text import read_prompt
    from mdlm_msa.generation.stream import CanvasView

    while (line := _ask()) is not None:
        try:
            prompt = read_prompt(line)
            count = rows or _rows_of(max_gen_length, prompt)
            with CanvasView(lines=True) if stream_chat else nullcontext() as view:
                found = generate(
                    opened.loaded.backbone,
                    prompt,
                    spread(
                        prompt.length,
                        replace(opened.config, rows=count),
                        tokens=opened.config.length or opened.loaded.source.length,
                        available=prompt.depth - 1,
                        max_rows=opened.max_rows,
                    ),
                    schedule=opened.loaded.schedule,
                    length=opened.loaded.source.length,
                    sampler=opened.sampler,
                    max_rows=opened.max_rows,
                    callback=view,
                )
        except MdlmError as error:
            say(f"error: {error}")
            continue
        for note in found.notes:
            say(f"note: {note}")
        print("<M>".join(decode(row) for row in found.alignment.rows), flush=True)


def _ask() -> str | None:
    """Return the next line that is not empty, or None at the end."""
    while True:
        if sys.stdin.isatty():
            print(f"QUERY<M>ROW... ({STOP} ends) > ", end="", file=sys.stderr)
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line or line.strip() == STOP:
            return None
        if line.strip():
            return line.strip()


def _rows_of(tokens: int | None, prompt: Alignment) -> int:
    """Return how many rows, each with its separator, fit into `tokens`."""
    if tokens is None:
        return 8
    count = tokens // (prompt.length + 1)
    if count < 1:
        raise UsageError(
            f"--max-gen-length {tokens} holds no row of a query of {prompt.length} "
            f"residues; it takes {prompt.length + 1} at least"
        )
    return count
