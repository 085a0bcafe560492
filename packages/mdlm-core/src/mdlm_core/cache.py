"""A folder of results that can be made again: parsed corpora, tokenizers, tokens."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

_LOG = logging.getLogger(__name__)
_DIGEST_SIZE = sha256().digest_size


def cache_folder() -> Path:
    """Return the cache folder, created and writable.

    It is ``$MDLM_CACHE`` if that is set; otherwise ``mdlm`` in the user's cache
    folder of the platform; otherwise, where that cannot be written, a folder of
    the temporary directory.

    Raises:
        OSError: if ``$MDLM_CACHE`` is set and cannot be written.
    """
    chosen = os.environ.get("MDLM_CACHE")
    if chosen:
        return _writable(Path(chosen).expanduser())
    with suppress(OSError, RuntimeError):  # a read-only or missing home
        return _writable(_user_cache() / "mdlm")
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return _writable(Path(tempfile.gettempdir()) / f"mdlm-cache-{owner}")


def _user_cache() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(cache) if cache else Path.home() / ".cache"


def _writable(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"'{folder}' cannot be written")
    return folder


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees all of it or none of it.

    Who may read the file is what the umask leaves, as for any other new file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.chmod(temporary, _mode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _mode() -> int:
    """Return the mode of a new file; a temporary one is its owner's alone."""
    mask = os.umask(0o022)  # there is no way to ask without setting it
    os.umask(mask)
    return 0o666 & ~mask


def cached(
    name: str, build: Callable[[], bytes], *, folder: Path | None = None
) -> bytes:
    """Return what is stored under `name`, or build it and store it.

    The stored bytes carry their SHA-256, so a damaged or truncated file is noticed
    and built again. A result that cannot be stored (a full disk) is still returned.

    Args:
        name: a relative path; everything that decides the result is part of it.
        build: makes the bytes.
        folder: the cache folder; the default is `cache_folder()`.
    """
    path = (folder or cache_folder()) / name
    with suppress(OSError):
        stored = path.read_bytes()
        digest, data = stored[:_DIGEST_SIZE], stored[_DIGEST_SIZE:]
        if sha256(data).digest() == digest:
            return data
        _LOG.warning("'%s' is damaged and is built again", path)
    data = build()
    try:
        write_atomic(path, sha256(data).digest() + data)
    except OSError as error:
        _LOG.warning("'%s' could not be stored: %s", path, error)
    return data
