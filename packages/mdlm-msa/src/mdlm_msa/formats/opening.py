"""Open a file, compressed or not, and name what is in it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

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


BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some editors put before UTF-8."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` to read bytes; gzip is known by its first two bytes.

    A byte order mark, which some editors put before UTF-8, is passed over.

    Raises:
        DataError: if there is no such file, it cannot be read, or its lines end with
            a carriage return alone.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    stream = io.BufferedReader(unpacked)
                    yield cast("IO[bytes]", _begun(stream, path))
            else:
                yield _begun(raw, path)
    except FileNotFoundError:
        raise DataError(f"there is no file '{path}'") from None
    except IsADirectoryError:
        raise DataError(
            f"'{path}' is a folder, where one alignment is read; name a file in it"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"'{path}' could not be read: {error}") from error


def _begun(stream: io.BufferedReader[Any], path: Path) -> io.BufferedReader[Any]:
    """Return a stream after its byte order mark, if there is one.

    Raises:
        DataError: if its lines end with a carriage return alone.
    """
    if stream.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
        stream.seek(0)
    start = stream.peek(1).rstrip(b"\r")  # the line feed may just be cut off
    if b"\r" in start and b"\n" not in start:
        raise DataError(
            f"'{path}' has lines that end with a carriage return alone, as on old "
            "Macintoshes; lines end with a line feed, with or without a carriage "
            "return before it: convert it, for example with tr '\\r' '\\n'"
        )
    return stream
