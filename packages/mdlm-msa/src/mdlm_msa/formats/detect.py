"""Which format a file has."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast, get_args

from mdlm_core.errors import ConfigError, DataError

from .letters import BLANKS
from .opening import opened, plain_name

FileFormat = Literal["a3m", "a2m", "fasta", "stockholm", "msagpt", "jsonl", "csv"]
"""Formats of one file."""

FORMATS: tuple[str, ...] = get_args(FileFormat)

_BY_ENDING: dict[str, FileFormat] = {
    ".a3m": "a3m",
    ".a2m": "a2m",
    ".sto": "stockholm",
    ".stk": "stockholm",
    ".stockholm": "stockholm",
    ".jsonl": "jsonl",
    ".csv": "csv",
}
_START = 1 << 16


def format_of_name(path: Path) -> FileFormat | None:
    """Return the format that the ending of a name stands for, None if it is open."""
    name = plain_name(path)
    return next((f for end, f in _BY_ENDING.items() if name.endswith(end)), None)


def format_of(path: Path, format: str = "auto") -> FileFormat:
    """Return the format of a file: as told, or by its name, or by how it begins.

    Raises:
        ConfigError: if `format` is not known.
        DataError: if it cannot be told.
    """
    if format in FORMATS:
        return cast("FileFormat", format)
    if format not in ("auto", "openproteinset"):
        raise ConfigError(
            f"the format '{format}' is not known; there are auto, "
            f"openproteinset, {', '.join(FORMATS)}"
        )
    return format_of_name(path) or _by_content(path)


def _by_content(path: Path) -> FileFormat:
    with opened(path) as stream:
        start = stream.read(_START)
        whole = len(start) < _START
    text = start.lstrip(BLANKS + b"\0")
    if not text:
        raise DataError(f"'{path}' is empty")
    if text.startswith(b"# STOCKHOLM"):
        return "stockholm"
    if text.startswith(b"{"):
        return "jsonl"
    if text.startswith((b">", b"#")):
        return _like_fasta(text, whole)
    line = text.split(b"\n", 1)[0]
    if b"<M>" in line or line.rpartition(b":")[2].strip().isalpha():
        return "msagpt"
    if b"," in line and b"sequence" in {name.strip() for name in line.split(b",")}:
        return "csv"
    begin = text[:40].decode(errors="replace")
    raise DataError(
        f"'{path}' begins with {begin!r}, which is none of the known formats "
        f"({', '.join(FORMATS)}); name its format if it is one"
    )


def _like_fasta(text: bytes, whole: bool) -> FileFormat:
    """Tell a3m, whose rows have insertions, from rows of one length."""
    records = (b"\n" + text).split(b"\n>")[1:]
    if not whole and len(records) > 1:
        records.pop()
    bodies = [record.partition(b"\n")[2].translate(None, BLANKS) for record in records]
    if b"\0" in text or text.startswith(b"#"):
        return "a3m"
    equal = len({len(body) for body in bodies}) <= 1
    return "fasta" if equal or all(body.isupper() for body in bodies) else "a3m"
