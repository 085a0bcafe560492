"""Predictions as files and as lines. Light: imports nothing heavy.

A row is what `answers.rows` yields: plain values, and `probabilities` by class.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdlm_core.cache import write_atomic
from mdlm_core.errors import UsageError

SUFFIXES = (".csv", ".tsv", ".jsonl")
SHOWN = 60
"""Characters of a text that a line in a terminal shows."""

Row = Mapping[str, Any]


def kind_of(path: Path) -> str:
    """Return the suffix that says how a file is written; .gz may follow it."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def check_suffix(path: Path) -> None:
    """Refuse a file whose name does not say how it is written.

    Raises:
        UsageError: what it may end with.
    """
    if kind_of(path) not in SUFFIXES:
        raise UsageError(
            f"--out '{path}' must end with .csv, .tsv or .jsonl, and .gz if you like"
        )


def write(
    path: Path, texts: Sequence[str], rows: Sequence[Row], *, origin: str | None = None
) -> None:
    """Write predictions to a file, wholly or not at all, in the order of the texts.

    Args:
        path: where; its name says the format, see `check_suffix`.
        texts: N texts.
        rows: N rows.
        origin: the file of the texts, for nothing but errors.

    Raises:
        UsageError: if the file cannot be written.
    """
    kind = kind_of(path)
    body = _jsonl(texts, rows) if kind == ".jsonl" else _table(kind, texts, rows)
    plain = body.encode("utf-8")
    if path.name.lower().endswith(".gz"):
        plain = gzip.compress(plain, mtime=0)
    write_bytes(path, plain)


def write_bytes(path: Path, plain: bytes) -> None:
    """Write a file that ``--out`` names, wholly or not at all.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
        write_atomic(path, plain)
    except OSError as error:
        raise UsageError(
            f"--out '{path}' cannot be written: {error.strerror}"
        ) from error


def _jsonl(texts: Sequence[str], rows: Sequence[Row]) -> str:
    pairs = zip(texts, rows, strict=True)
    return "".join(_json({"text": text, **row}) + "\n" for text, row in pairs)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _table(kind: str, texts: Sequence[str], rows: Sequence[Row]) -> str:
    """Return a table with a column ``p_LABEL`` for each class, at the end."""
    stream = io.StringIO(newline="")
    table = csv.writer(
        stream, delimiter="\t" if kind == ".tsv" else ",", lineterminator="\n"
    )
    plain = [name for name in rows[0] if name != "probabilities"] if rows else []
    labels = list(rows[0]["probabilities"]) if rows else []
    table.writerow(["text", *plain, *(f"p_{label}" for label in labels)])
    for text, row in zip(texts, rows, strict=True):
        values = [_cell(row[name]) for name in plain]
        shares = [_cell(row["probabilities"][label]) for label in labels]
        table.writerow([text, *values, *shares])
    return stream.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value


def document(
    run: Path, labels: Sequence[str], texts: Sequence[str], rows: Sequence[Row]
) -> str:
    """Return predictions as one JSON object."""
    found = [{"text": t, **row} for t, row in zip(texts, rows, strict=True)]
    return _json({"run": str(run), "labels": list(labels), "texts": found})


def lines(
    texts: Sequence[str], rows: Sequence[Row], *, whole: bool = True
) -> Iterator[str]:
    """Yield label, probability and text of each, with tabs between.

    Where it was measured how unlike the training texts they are, that comes last:
    usual or not, and z in deviations from held-out texts.

    Args:
        texts: N texts.
        rows: N rows.
        whole: whether texts are shown from beginning to end.
    """
    for text, row in zip(texts, rows, strict=True):
        flat = " ".join(text.split())
        if not whole and len(flat) > SHOWN:
            flat = flat[:SHOWN] + " ..."
        label = "-" if row["label"] is None else row["label"]
        odd = ""
        if "unusual" in row:
            odd = f"\t{'unusual' if row['unusual'] else 'usual'}, z {row['z']:+.1f}"
        yield f"{label}\t{row['probability']:.3f}\t{flat}{odd}"
