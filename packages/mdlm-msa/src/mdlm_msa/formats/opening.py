"""Open a file, compressed or not, and name what is in it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from mdlm_core.errors import DataError

_ENDINGS = (
    *(".a3m", ".a2m", ".fasta", ".fa", ".faa", ".fas", ".afa", ".aln", ".msa"),
    *(".sto", ".stk", ".stockholm", ".jsonl", ".json", ".csv", ".txt"),
)


def plain_name(path: Path) -> str:
    """Return the name of the file in lower case, without ``.gz``."""
    return path.name.lower().removesuffix(".gz")


def family_name(path: Path) -> str:
    """Return the name of the file without ``.gz`` and the ending of its format."""
    name = path.name
    if name.lower().endswith(".gz"):
        name = name[:-3]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and f".{ending.lower()}" in _ENDINGS else name


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` to read bytes; gzip is known by its first two bytes.

    Raises:
        DataError: if there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast("IO[bytes]", io.BufferedReader(unpacked))
            else:
                yield raw
    except FileNotFoundError:
        raise DataError(f"there is no file '{path}'") from None
    except IsADirectoryError:
        raise DataError(
            f"'{path}' is a folder, where one alignment is read; name a file in it"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"'{path}' could not be read: {error}") from error
