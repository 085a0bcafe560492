"""``python -m mdlm_classify.train_simple_diffusion``: the original's spelling.

The same as ``mdlm classify train-simple-diffusion``.
"""

from __future__ import annotations

import sys

import typer

from .cli.simple_diffusion import train_simple_diffusion


def main() -> None:
    """Run the command."""
    from mdlm_core.cli import run

    program = typer.Typer(add_completion=False, rich_markup_mode=None)
    program.command()(train_simple_diffusion)
    name = "python -m mdlm_classify.train_simple_diffusion"
    raise SystemExit(run(sys.argv[1:], program, name))


if __name__ == "__main__":
    main()
