"""One process per run folder."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import IO

from mdlm_core.errors import TrainingError

NAME = "run.lock"


class FolderLock:
    """An exclusive lock on a folder, held by an open file.

    The operating system lets go of it when the process ends, however it ends, so a
    killed run never leaves a lock behind.

    Raises:
        TrainingError: if another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: IO[str] | None = self._path.open("a+", encoding="utf-8")
        if not _try_lock(self._file):
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            self._file = None
            raise TrainingError(
                f"run folder '{folder}' is already in use by {holder}; wait for it to "
                f"end, or give another --out"
            )
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {platform.node()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let go of the folder. Calling it twice is harmless."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of `folder` now."""
    path = folder / NAME
    if not path.is_file():
        return False
    with path.open("r+", encoding="utf-8") as file:
        return not _try_lock(file)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[str]) -> bool:
        file.seek(1 << 20)  # beyond the text, which others may read
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
