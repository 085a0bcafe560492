"""``python -m mdlm_msa.cli_sat``: the original's options for ``mdlm msa chat``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mdlm_core.cli.options import Device
from mdlm_core.errors import UsageError


def cli_sat(
    from_pretrained: Annotated[
        Path,
        typer.Option(
            "--from_pretrained",
            "--from-pretrained",
            metavar="RUN",
            help="The run folder.",
        ),
    ],
    backbone: Annotated[str, typer.Option(metavar="NAME", help="mdlm.")] = "mdlm",
    input_source: Annotated[
        str,
        typer.Option("--input-source", "--input_source", metavar="NAME", help="chat."),
    ] = "chat",
    stream_chat: Annotated[
        bool,
        typer.Option(
            "--stream_chat", "--stream-chat", help="Show rows while they are written."
        ),
    ] = False,
    max_gen_length: Annotated[
        int,
        typer.Option("--max-gen-length", "--max_gen_length", help="New tokens."),
    ] = 512,
    num_diffusion_steps: Annotated[
        int,
        typer.Option("--num-diffusion-steps", "--num_diffusion_steps", help="Steps."),
    ] = 256,
    diffusion_sampler: Annotated[
        str,
        typer.Option("--diffusion-sampler", "--diffusion_sampler", help="Its name."),
    ] = "ddpm_cache",
    temperature: Annotated[float, typer.Option(help="0: the most probable.")] = 1.0,
    top_p: Annotated[
        float, typer.Option("--top_p", "--top-p", help="Probability that is kept.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option("--top_k", "--top-k", help="Residues that are kept.")
    ] = 0,
    no_gap: Annotated[
        bool, typer.Option("--no-gap", "--no_gap", help="No gap in a new row.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides every draw.")] = 12345,
    device: Device = None,
) -> None:
    """Chat in the original's spelling."""
    from mdlm_msa.cli.chat import chat

    if backbone != "mdlm":
        raise UsageError(
            f"--backbone is '{backbone}'; autoregressive rows (gpt) are later work, "
            f"and mdlm is all there is"
        )
    if input_source != "chat":
        raise UsageError(
            f"--input-source is '{input_source}'; for a file of prompts, a line each, "
            f"run: mdlm msa chat --model {from_pretrained} < {input_source}"
        )
    chat(
        model=from_pretrained,
        max_gen_length=max_gen_length,
        num_diffusion_steps=num_diffusion_steps,
        diffusion_sampler=diffusion_sampler,
        stream_chat=stream_chat,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        no_gap=no_gap,
        seed=seed,
        device=device,
    )


def main() -> NoReturn:
    """Run the command."""
    from mdlm_core.cli import run_module

    run_module(cli_sat, "mdlm_msa.cli_sat")


if __name__ == "__main__":
    main()
