"""Write alignments in any format that is known."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mdlm_core.cache import write_atomic
from mdlm_core.errors import ConfigError, UsageError
from mdlm_msa.alignment import Alignment

from .detect import FORMATS, format_of_name
from .joining import letters_of
from .json_lines import json_line
from .opening import plain_name
from .stockholm import padded, stockholm_text
from .text import text_line

_LINE_ENDS = {ord("\n"): " ", ord("\r"): " ", 0: " "}
_NO_INSERTIONS = bytes(set(range(256)) - set(range(ord("a"), ord("z") + 1)))
_NAMELESS = ("msagpt", "csv", "boltz")
"""Formats without a name for each row."""
_FASTA = (".fasta", ".fa", ".faa", ".fas", ".afa")
_OTHERS = {
    ".json": "--to af3 for AlphaFold 3, or --to jsonl",
    ".txt": "--to msagpt for lines QUERY<M>ROW<M>ROW",
}
"""What a name may mean that says too little."""
MANY = ("msagpt", "jsonl")
"""Formats of which a file holds several alignments, one per line."""


def fasta_text(headers: Sequence[str], rows: Sequence[bytes], wrap: int = 0) -> bytes:
    """Return headers and rows as FASTA; `wrap` letters per line, 0 for one line."""
    if wrap:
        rows = [
            b"\n".join(row[i : i + wrap] for i in range(0, len(row), wrap))
            for row in rows
        ]
    return b"".join(
        b">%s\n%s\n" % (header.translate(_LINE_ENDS).encode(), row)
        for header, row in zip(headers, rows, strict=True)
    )


def a3m_text(alignment: Alignment, wrap: int = 0) -> bytes:
    """Return an alignment as a3m, with comments, and insertions if they were kept."""
    comments = "".join(f"{line}\n" for line in alignment.comments)
    return comments.encode() + fasta_text(
        alignment.headers, letters_of(alignment), wrap
    )


def a2m_text(alignment: Alignment, wrap: int = 0) -> bytes:
    """Return an alignment as a2m: a3m with `.` where other rows have insertions."""
    rows, _ = padded(letters_of(alignment), alignment.length)
    return fasta_text(alignment.headers, rows, wrap)


def aligned_text(alignment: Alignment, wrap: int = 0) -> bytes:
    """Return an alignment as aligned FASTA: upper case and `-`, rows equally long.

    Insertions, if they were kept, get columns in which the query has gaps.
    """
    rows, _ = padded(letters_of(alignment), alignment.length)
    plain = [row.upper().replace(b".", b"-") for row in rows]
    return fasta_text(alignment.headers, plain, wrap)


def csv_text(alignment: Alignment) -> bytes:
    """Return an alignment as Boltz's table ``key,sequence``, without keys."""
    rows = (f",{row.decode()}" for row in letters_of(alignment))
    return "\n".join(("key,sequence", *rows, "")).encode()


def left_out(alignment: Alignment, format: str) -> dict[str, int]:
    """Return what a format has no place for, and how much of it there is."""
    found = {}
    if format == "msagpt" and alignment.letters is not None:
        rows = alignment.letters
        count = sum(len(row.translate(None, _NO_INSERTIONS)) for row in rows)
        found[f"insertions left out, as {format} has none"] = count
    if format in _NAMELESS:
        names = sum(
            header != f"row{number}"
            for number, header in enumerate(alignment.headers[1:], start=1)
        )
        found[f"names of rows left out, as {format} has none"] = names
    return {what: count for what, count in found.items() if count}


def text_of(alignment: Alignment, format: str, wrap: int = 0) -> bytes:
    """Return an alignment in one of the formats of files.

    Raises:
        ConfigError: if `format` is not known, or cannot be wrapped.
    """
    wrapped: dict[str, Callable[[Alignment, int], bytes]] = {
        "a3m": a3m_text,
        "a2m": a2m_text,
        "fasta": aligned_text,
    }
    if format in wrapped:
        return wrapped[format](alignment, wrap)
    if wrap:
        raise ConfigError(
            f"wrap is {wrap}, but {format} has one line for a row; leave it at 0"
        )
    plain: dict[str, Callable[[Alignment], bytes]] = {
        "stockholm": stockholm_text,
        "msagpt": lambda found: text_line(found).encode() + b"\n",
        "jsonl": lambda found: json_line(found).encode() + b"\n",
        "csv": csv_text,
    }
    if format in plain:
        return plain[format](alignment)
    raise ConfigError(
        f"the format '{format}' is not known; there are {', '.join(FORMATS)}"
    )


def write_alignment(
    alignment: Alignment,
    path: Path | str,
    *,
    format: str = "auto",
    wrap: int = 0,
    force: bool = False,
) -> Path:
    """Write an alignment to a file; compressed with gzip if it ends with ``.gz``.

    Args:
        alignment: the query first.
        path: the file.
        format: a3m, a2m, fasta (aligned), stockholm, msagpt, jsonl or csv; auto goes by
            the name, and is a3m where the name says nothing.
        wrap: letters per line; 0 writes a row as one line, as structure prediction
            needs it.
        force: whether a file that is there is replaced.

    Raises:
        ConfigError: if the format is not known.
        MissingExtraError: if it is Stockholm and pyhmmer is not installed.
        UsageError: if there is such a file already.
    """
    return write_alignments([alignment], path, format=format, wrap=wrap, force=force)


def write_alignments(
    alignments: Iterable[Alignment],
    path: Path | str,
    *,
    format: str = "auto",
    wrap: int = 0,
    force: bool = False,
) -> Path:
    """Write several alignments to one file; see `write_alignment`.

    Raises:
        UsageError: if there is such a file already, or there are several alignments and
            the format holds one.
    """
    path = Path(path)
    chosen = chosen_format(path, format)
    free(path, force)
    texts: list[bytes] = []
    for alignment in alignments:
        if texts and chosen not in MANY:
            raise UsageError(
                f"'{path}' would hold several alignments, but {chosen} holds one; "
                f"name a folder, or a format of several: {', '.join(MANY)}"
            )
        texts.append(text_of(alignment, chosen, wrap))
    put(path, b"".join(texts))
    return path


def chosen_format(path: Path, format: str) -> str:
    """Return the format as told, or by the name of the file."""
    if format != "auto":
        return format
    if plain_name(path).endswith(_FASTA):
        return "fasta"
    return format_of_name(path) or "a3m"


def asked_format(path: Path, format: str) -> str:
    """Return the format as told, or by the name, whose ending must then be known.

    Raises:
        UsageError: if the name ends with something else; without any it is a3m.
    """
    ending = Path(plain_name(path)).suffix
    if format != "auto" or not ending or path.is_dir():
        return chosen_format(path, format)
    if format_of_name(path) is None and ending not in _FASTA:
        how = _OTHERS.get(ending, f"--to with one of {', '.join(FORMATS)}")
        raise UsageError(
            f"'{path}' ends with {ending}, which names no format that is written; say "
            f"which with {how}, or take another ending, such as .a3m"
        )
    return chosen_format(path, format)


def not_read(path: Path, read: Iterable[Path]) -> None:
    """Refuse to replace a file that is read, whatever `free` is told.

    Args:
        path: the file to be written.
        read: the files that are read.

    Raises:
        UsageError: if `path` is one of them.
    """
    if path.exists() and any(each.exists() and path.samefile(each) for each in read):
        raise UsageError(
            f"'{path}' is the file that is read; --force does not replace it: choose "
            f"another name for what is written"
        )


def free(path: Path, force: bool) -> None:
    """Refuse to replace what is there.

    Raises:
        UsageError: if there is something, and `force` is not set.
    """
    if path.exists() and not force:
        raise UsageError(f"'{path}' is there already; choose another name, or --force")


def put(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, compressed if its name ends with ``.gz``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = path.name.lower().endswith(".gz")
    write_atomic(path, gzip.compress(data, mtime=0) if packed else data)
