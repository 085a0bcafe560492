"""Files of variants: a column of variants, and perhaps one of measured values.

CSV with commas, tabs or semicolons, with or without a header, and .gz of it. The
spelling of ProteinGym (``mutant``, ``mutated_sequence``, ``DMS_score``) is read as it
is.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import math
from collections.abc import Sequence
from pathlib import Path

from mdlm_core.errors import DataError, UsageError

from .variants import Numbering, Variant, fitting_first, is_substitution, parse_variant

NAMES = (
    "mutant",
    "mutants",
    "mutation",
    "mutations",
    "variant",
    "variants",
    "substitution",
    "hgvs_pro",
    "hgvs",
    "mutated_sequence",
    "sequence",
    "seq",
)
"""Columns of variants, in lower case; the first that a file has is read."""
MEASURED = ("dms_score", "score", "fitness", "effect", "measured", "label", "target")
"""Columns of measured values, in lower case."""


def read_variants(
    path: Path | str,
    query: Numbering,
    *,
    column: str | None = None,
    measured: str | None = None,
) -> list[Variant]:
    """Read a file of variants.

    Args:
        path: of the file.
        query: what they are variants of.
        column: the name of the column of variants, if it is none of `NAMES`.
        measured: the name of the column of measured values, if it is none of
            `MEASURED`.

    Raises:
        DataError: if the file cannot be read, has no variant, or a line is wrong; the
            message names the line.
        UsageError: if there is no such column.
    """
    path = Path(path)
    header, rows = _table(path)
    where = _column(path, header, column, NAMES, "--variant-column")
    if where is None:
        raise UsageError(
            f"'{path}' has the columns {', '.join(header)}, none of which is known to "
            f"hold variants; say which one does with --variant-column"
        )
    values = _column(path, header, measured, MEASURED, "--score-column")
    variants = []
    texts = [cells[where] for _, cells in rows if where < len(cells)]
    for line, cells in rows:
        if len(cells) <= max(where, values or 0):
            raise DataError(
                f"{path}, line {line}: it has {len(cells)} fields, and the header "
                f"{len(header)}"
            )
        try:
            found = parse_variant(cells[where], query)
        except DataError as error:
            hint = _hint(texts, query, str(error))
            raise DataError(f"{path}, line {line}: {error}{hint}") from error
        value = None if values is None else _number(path, line, cells[values])
        variants.append(Variant(found.name, found.columns, found.residues, value, line))
    if not variants:
        raise DataError(f"'{path}' has no variant")
    return variants


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns and the lines with their numbers."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no file '{path}'") from None
    except IsADirectoryError:
        raise DataError(
            f"'{path}' is a folder, where a table of variants is read; name a file"
        ) from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from error
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((sign for sign in "\t,;" if sign in first), ",")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise DataError(f"'{path}' is empty")
    names = rows[0][1]
    if is_substitution(names[0]) or (len(names[0]) > 30 and names[0].isalpha()):
        plain = ["mutant", "score", *(f"column {i}" for i in range(3, 1 + len(names)))]
        return plain[: len(names)], rows
    return names, rows[1:]


def _column(
    path: Path,
    header: Sequence[str],
    wanted: str | None,
    usual: Sequence[str],
    option: str,
) -> int | None:
    lower = [name.lower() for name in header]
    if wanted is not None:
        if wanted in header:
            return header.index(wanted)
        if lower.count(wanted.lower()) == 1:
            return lower.index(wanted.lower())
        near = difflib.get_close_matches(wanted, header, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(
            f"{option} is '{wanted}', and '{path}' has {', '.join(header)}{hint}"
        )
    return next((lower.index(name) for name in usual if name in lower), None)


def _number(path: Path, line: int, text: str) -> float | None:
    if text.lower() in ("", "na", "nan", "none", "null"):
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(
            f"{path}, line {line}: the measured value is '{text}', which is no number"
        ) from error
    if not math.isfinite(value):
        raise DataError(f"{path}, line {line}: the measured value is {text}")
    return value


def _hint(texts: Sequence[str], query: Numbering, error: str) -> str:
    """Say which numbering would fit, if one does."""
    if "position" not in error:
        return ""
    first = fitting_first(texts, query)
    if first is None or first == query.first:
        return ""
    return f". All wild types fit with --first {first}"
