"""``python -m mdlm_llada.harness``: score a file in the original's spelling."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdlm_core.errors import ConfigError, MdlmError
from mdlm_llada.registry import get_task, import_tasks
from mdlm_llada.scoring.files import refuse_overwriting


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the numbers of a file of predictions as JSON; return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        refuse_overwriting([given.pred, given.gt, given.cfg_json], {"--out": given.out})
        modules = [name for names in given.auto_import for name in names]
        import_tasks(modules)
        task = get_task(given.task)
        cfg = _settings(given.cfg, given.cfg_json)
        for name in ("allow_missing", "run_code"):
            if getattr(given, name):
                cfg[name] = True
        numbers = dict(task.metrics(given.pred, given.gt, cfg))
        text = json.dumps(numbers, indent=2)
        if given.out is not None:
            from mdlm_core.cache import write_atomic

            write_atomic(given.out, (text + "\n").encode())
    except MdlmError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(text)  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mdlm_llada.harness",
        description="Score a file of predictions; the same as 'mdlm llada score'.",
    )
    parser.add_argument("--task", required=True, help="Whose answers they are.")
    parser.add_argument("--pred", required=True, type=Path, help="Predictions.")
    parser.add_argument("--gt", type=Path, help="What is right, if --pred has it not.")
    parser.add_argument("--out", type=Path, help="Also write the numbers here.")
    parser.add_argument(
        "--allow-missing",
        "--allow_missing",
        action="store_true",
        help="Leave out rows that only one file has.",
    )
    parser.add_argument(
        "--run-code",
        "--run_code",
        action="store_true",
        help="Run answers that are programs, with limits.",
    )
    settings = parser.add_mutually_exclusive_group()
    settings.add_argument("--cfg", help="The task's settings, as a JSON object.")
    settings.add_argument("--cfg_json", type=Path, help="A file of them.")
    parser.add_argument(
        "--auto_import",
        action="append",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="Modules that register tasks; several, and may be repeated.",
    )
    return parser


def _settings(text: str | None, path: Path | None) -> dict[str, Any]:
    name = "--cfg" if path is None else f"--cfg_json '{path}'"
    if path is not None:
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name} cannot be read: {error}") from None
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(
            f"{name} holds a {type(found).__name__}; it takes an object, such as "
            '{"extraction": "strict"}'
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
