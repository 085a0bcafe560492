"""What is wrong with an a3m file as text, whatever its rows say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from mdlm_msa.origin import PREFIX

Entry = tuple[Literal["error", "warning", "note"], str, str, tuple[int, ...]]
"""Level, rule, message, rows."""

_COUNTS = re.compile(rb"#(\d+(?:,\d+)*)\t(\d+(?:,\d+)*)\r?$")
_ONE_LINE = ("colabfold", "boltz")
"""Programs that take every line after a header for a row of its own."""


def check_text(data: bytes, target: str) -> Iterator[Entry]:
    """Yield what the program `target` stumbles over in the lines of an a3m file."""
    if b"\0" in data:
        yield (
            "error",
            "nul",
            f"there are {data.count(0)} NUL bytes, which stand between results of a "
            "server; join the blocks with mdlm msa convert",
            (),
        )
    lines = data.replace(b"\0", b"").split(b"\n")
    yield from _comments(lines, target)
    yield from _headers(lines, target)
    if b"\r" in data:
        yield ("note", "line ends", "lines end with a carriage return (Windows)", ())
    wrapped, row, count = [], 0, 0
    letters = set()
    for line in lines:
        text = line.strip()
        if text.startswith(b">"):
            row, count = row + 1, 0
        elif text and not text.startswith(b"#"):
            count += 1
            if count == 2:
                wrapped.append(row)
            letters |= set(text)
    if wrapped:
        strict = target in _ONE_LINE
        yield (
            "error" if strict else "note",
            "wrapped",
            f"{len(wrapped)} rows go over several lines, the first is row {wrapped[0]}"
            + (
                f"; {target} reads one line per row: write them with --wrap 0"
                if strict
                else ""
            ),
            tuple(wrapped[:1000]),
        )
    odd = sorted(chr(byte) for byte in letters if not _known(byte))
    if odd:
        yield (
            "error",
            "letters",
            f"rows have {', '.join(map(repr, odd))}, which {target} does not know; "
            "mdlm msa convert writes what it knows",
            (),
        )


def _known(byte: int) -> bool:
    letter = chr(byte)
    return (letter.isascii() and letter.isalpha()) or letter in "- \t"


def _comments(lines: list[bytes], target: str) -> Iterator[Entry]:
    """Check lines that begin with `#`."""
    numbers = [i for i, line in enumerate(lines) if line.startswith(b"#")]
    if not numbers:
        return
    if target == "boltz":
        return
    if target != "colabfold":
        yield (
            "error",
            "comments",
            f"line {numbers[0] + 1} begins with '#', which {target} does not pass over",
            (),
        )
        return
    found = _COUNTS.match(lines[numbers[0]])
    if numbers != [0] or not found:
        yield (
            "error",
            "comments",
            f"line {numbers[-1] + 1} begins with '#'; ColabFold knows one such line, "
            "the first: '#', the length, a tab, and how many copies",
            (),
        )
        return
    named = sum(int(n) for n in found[1].split(b","))
    query = lines[2].strip() if len(lines) > 2 else b""
    if len(query) != named:
        yield (
            "error",
            "comments",
            f"the first line says {named} residues, but the query has {len(query)}",
            (1,),
        )
    if len(lines) > 1 and not lines[1].startswith(b">101"):
        yield (
            "error",
            "comments",
            "after a line of lengths ColabFold wants the header '>101' for the query",
            (1,),
        )


def _headers(lines: list[bytes], target: str) -> Iterator[Entry]:
    """Check what stands after `>`."""
    headers = [line[1:].strip() for line in lines if line.startswith(b">")]
    empty = [i for i, header in enumerate(headers, start=1) if not header]
    if empty:
        yield (
            "warning",
            "headers",
            f"{len(empty)} rows have an empty header, the first is row {empty[0]}",
            tuple(empty[:1000]),
        )
    generated = [
        i
        for i, header in enumerate(headers, start=1)
        if header.startswith(PREFIX.encode()) and b"\t" in header
    ]
    if generated:
        yield (
            "error",
            "headers",
            f"{len(generated)} headers of generated rows have a tab, which programs "
            "take for statistics of a search",
            tuple(generated[:1000]),
        )
    if target == "colabfold" and headers and b"\t" in headers[0]:
        counted = lines[0].startswith(b"#")
        yield (
            "note" if counted else "error",
            "headers",
            "the header of the query has a tab, by which ColabFold knows complexes",
            (1,),
        )
