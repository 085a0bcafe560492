"""Files that others may read. Light: imports nothing heavy."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_public(path: Path, data: bytes) -> None:
    """Write a file, all of it or nothing, with the mode that the umask leaves.

    Args:
        path: the file; its folder is made.
        data: all that it holds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
