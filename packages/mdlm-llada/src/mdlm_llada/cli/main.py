"""``python -m mdlm_llada.cli.main``: the commands of ``mdlm llada``."""

from __future__ import annotations

import sys

from mdlm_core.cli import run

from . import app


def main() -> None:
    """Run the command line of this process and exit."""
    raise SystemExit(run(sys.argv[1:], app, "python -m mdlm_llada.cli.main"))


if __name__ == "__main__":
    main()
