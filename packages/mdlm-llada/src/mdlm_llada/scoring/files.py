"""The files that scoring writes. Light: imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mdlm_core.errors import UsageError


def refuse_overwriting(
    read: Iterable[Path | None], written: Mapping[str, Path | None]
) -> None:
    """Refuse to write a file that is read, or two results to one file.

    Args:
        read: files that are read; None for those not given.
        written: option -> file that it writes.

    Raises:
        UsageError: which option names which file.
    """
    taken = {path.resolve(): "is read" for path in read if path is not None}
    for option, path in written.items():
        if path is None:
            continue
        place = path.resolve()
        if place in taken:
            raise UsageError(
                f"{option} '{path}' would overwrite a file that {taken[place]}; name "
                f"another file"
            )
        taken[place] = f"{option} writes"
