"""Candidates as files, to be scored by something else, such as a folding program.

A folder has an a3m file for each candidate and the table ``candidates.csv`` with a line
for each: ``file`` (relative to the table), ``family``, ``name``, and the reward's
``score``. The user adds a column, and the pairs are made by it. Rows of the prompt come
after the query, under headers that begin with ``prompt|``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mdlm_core.errors import DataError, UsageError
from mdlm_msa.alignment import Alignment
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.formats.writing import write_alignment

from .making import Candidate, Candidates, merged

TABLE = "candidates.csv"
PROMPT = "prompt|"
_COLUMNS = ("file", "family", "name", "score")


def write_candidates(groups: Iterable[Candidates], folder: Path | str) -> int:
    """Write candidates into a new folder, and return how many.

    Raises:
        UsageError: if the folder exists and is not empty.
    """
    place = Path(folder).expanduser()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"'{place}' exists and is not empty; choose another folder")
    place.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, group in enumerate(groups, start=1):
        given = group.given
        for candidate in group.found:
            file = place / f"{number:04}" / f"{candidate.name}.a3m"
            file.parent.mkdir(exist_ok=True)
            headers = (
                given.headers[0] or "query",
                *(f"{PROMPT}{i}" for i in range(1, given.depth)),
                *(f"{candidate.name}|{i}" for i in range(1, len(candidate.rows) + 1)),
            )
            whole = Alignment(
                rows=np.concatenate([given.rows, candidate.rows]),
                headers=headers,
                name=given.name,
            )
            write_alignment(whole, file, format="a3m")
            known = (given.name, candidate.name, repr(candidate.score))
            lines.append((file.relative_to(place).as_posix(), *known))
    with (place / TABLE).open("w", encoding="utf-8", newline="") as opened:
        table = csv.writer(opened, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows(lines)
    return len(lines)


def read_candidates(table: Path | str, column: str) -> list[Candidates]:
    """Return the candidates of a table with the scores of a column, higher is better.

    Those with the same query and prompt are one group. A line without a score is an
    error: leave the line out instead.

    Raises:
        DataError: file, line and rule.
    """
    path = Path(table).expanduser()
    groups = []
    for where, line in _lines(path, column):
        score = _score(line[column], f"{where}, column '{column}'")
        file = path.parent / (line["file"] or "")
        if not line["file"] or not file.is_file():
            raise DataError(f"{where}: there is no file '{file}'")
        whole = read_alignment(file).canonical()
        prompt = [
            i for i, header in enumerate(whole.headers) if header.startswith(PROMPT)
        ]
        rows = np.delete(whole.rows, [0, *prompt], axis=0)
        if not len(rows):
            raise DataError(f"{where}: '{file}' has no row besides query and prompt")
        family = line.get("family") or whole.name
        given = replace(whole.select([0, *prompt]), name=family)
        name = line.get("name") or file.stem
        groups.append(
            Candidates(
                given=given,
                found=(Candidate(rows=rows, score=score, name=name),),
                reward=column,
                meta={"family": family, "scores": path.name},
            )
        )
    if not groups:
        raise DataError(f"'{path}' has no candidate; each line is one")
    return merged(groups)


def _lines(path: Path, column: str) -> Iterable[tuple[str, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
    reader = csv.DictReader(text.splitlines())
    names = reader.fieldnames or []
    for wanted in ("file", column):
        if wanted not in names:
            raise DataError(
                f"'{path}' has no column '{wanted}'; its columns are "
                f"{', '.join(names) or 'none'}"
            )
    return [(f"'{path}:{reader.line_num}'", line) for line in reader]


def _score(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} is '{text or ''}'; it must be a number")
    return value
