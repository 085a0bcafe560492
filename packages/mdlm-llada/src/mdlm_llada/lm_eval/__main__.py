"""``python -m mdlm_llada.lm_eval``: the harness's own program, with our models."""

from __future__ import annotations

import sys

from mdlm_core.errors import MdlmError


def main() -> int:
    """Run the harness on the command line's arguments; return the exit code."""
    try:
        from lm_eval.__main__ import cli_evaluate

        import mdlm_llada.lm_eval  # noqa: F401  (registers the models)

        cli_evaluate()
    except MdlmError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
