"""``python -m mdlm_classify.train_simple_diffusion``: the original's spelling.

The same as ``mdlm classify train-simple-diffusion``.
"""

from __future__ import annotations

from typing import NoReturn

from .cli.simple_diffusion import train_simple_diffusion


def main() -> NoReturn:
    """Run the command."""
    from mdlm_core.cli import run_module

    run_module(train_simple_diffusion, "mdlm_classify.train_simple_diffusion")


if __name__ == "__main__":
    main()
