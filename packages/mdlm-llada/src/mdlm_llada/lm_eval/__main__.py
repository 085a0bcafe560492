"""``python -m mdlm_llada.lm_eval``: the harness's own program, with our models."""

from __future__ import annotations

import sys
from typing import Any

from mdlm_core.errors import MdlmError


def main() -> int:
    """Run the harness on the command line's arguments; return the exit code."""
    try:
        from lm_eval.__main__ import cli_evaluate

        import mdlm_llada.lm_eval  # noqa: F401  (registers the models)
        from mdlm_core.train.processes import leave

        _take_what_is_there()
        cli_evaluate()
        leave()
    except MdlmError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _take_what_is_there() -> None:
    """Make the harness name a device only where somebody asked for one.

    Its own default is a CUDA device, there or not, and goes before ``--model_args``.
    """
    from lm_eval.config.evaluate_config import EvaluatorConfig

    made = EvaluatorConfig.__init__

    def init(self: EvaluatorConfig, *args: Any, **settings: Any) -> None:
        if not args:
            settings.setdefault("device", None)
        made(self, *args, **settings)

    EvaluatorConfig.__init__ = init


if __name__ == "__main__":
    sys.exit(main())
