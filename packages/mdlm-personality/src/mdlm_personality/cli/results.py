"""What the commands print and write. Light: imports nothing heavy at first."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mdlm_core.errors import UsageError

STATEMENT = "a counterfactual under the fitted model, no statement about a person"
"""Said with every counterfactual."""


def check_out(out: Path | None, force: bool, option: str = "--out") -> None:
    """Refuse a file to write that is there, or whose folder is not.

    Raises:
        UsageError: which one it is.
    """
    if out is None:
        return
    if not out.parent.is_dir():
        raise UsageError(f"{option} '{out}': there is no folder '{out.parent}'")
    if out.is_dir():
        raise UsageError(f"{option} '{out}' is a folder; name a file")
    if out.exists() and not force:
        raise UsageError(f"{option} '{out}' exists; name another file, or give --force")


def say(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr)


def deliver(body: str, out: Path | None) -> None:
    """Print the result, or write it to a file.

    Raises:
        UsageError: if the file cannot be written.
    """
    if out is None:
        print(body)
        return
    try:
        out.write_text(body + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--out '{out}' cannot be written: {error.strerror}"
        ) from error


def short(value: float) -> float:
    """Return a number that was float32 with the six digits that it has."""
    return float(f"{value:.6g}")


def clean(text: str) -> str:
    """Return a text of a model without control characters."""
    from mdlm_core.samplers.live import printable

    return printable(text)


def colour() -> bool:
    """Return whether to mark changes with colours: on a terminal that wants them."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
