"""Pairs of alignments of one query, of which one is preferred, and their files.

A file has one JSON object a line::

    {"query": "MKV..", "winner": ["MRV..", ..], "loser": ["M-V..", ..], "prompt": [..]}

with, if known, ``id``, ``score_winner``, ``score_loser``, ``score_difference``,
``reward`` and ``meta``; ``chosen`` and ``rejected`` are read as ``winner`` and
``loser``. All rows have the columns of the query, and are read as those of an aligned
file (`mdlm_msa.formats.aligned`): case says nothing, J and ``*`` are X, and ``.`` and
``~`` are gaps. Letters: L columns, P rows of the
prompt, N rows of an alignment.
"""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_core.errors import DataError, UsageError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import STATE_OF, Ids, decode
from mdlm_msa.formats.aligned import IDS
from mdlm_msa.formats.letters import LOWER, MARK, READ_AS_X
from mdlm_msa.layout import Canvas, size

_LOG = logging.getLogger(__name__)
_OTHER_NAMES = {"winner": "chosen", "loser": "rejected"}
_KNOWN = (
    "query",
    "winner",
    "loser",
    "chosen",
    "rejected",
    "prompt",
    "id",
    "score_winner",
    "score_loser",
    "score_difference",
    "reward",
    "meta",
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pair:
    """Two alignments of one query."""

    query: Ids
    """``(L,)``."""
    winner: Ids
    """``(N, L)``, without the query."""
    loser: Ids
    """``(N', L)``; N' may differ from N."""
    prompt: Ids
    """``(P, L)`` rows that both were made from; P may be 0."""
    id: str = ""
    score_winner: float | None = None
    score_loser: float | None = None
    score_difference: float | None = None
    reward: str = ""
    """What the scores are."""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """The tokens of the longer of the two canvases."""
        rows = 1 + len(self.prompt) + max(len(self.winner), len(self.loser))
        return size(rows, len(self.query))

    def canvases(self) -> tuple[Canvas, Canvas]:
        """Return winner and loser after the query and the prompt, which are given."""
        given = [self.query[None], self.prompt]
        count = 1 + len(self.prompt)
        winner, loser = (
            Canvas(np.concatenate([*given, rows]), count)
            for rows in (self.winner, self.loser)
        )
        return winner, loser


def read_pairs(path: Path | str) -> Iterator[Pair]:
    """Yield the pairs of a file, line by line; a name that ends with .gz is unpacked.

    Letters that the model has no law for are read as `Alignment.canonical` says. What
    else is read as something other is counted in a warning at the end.

    Raises:
        DataError: file, line, field, row and rule.
    """
    empty = True
    met: Counter[str] = Counter()
    for where, row in _objects(Path(path).expanduser()):
        empty = False
        yield _pair(row, where, met)
    if empty:
        raise DataError(f"'{path}' is empty; it should hold one pair a line")
    if met and os.environ.get("RANK", "0") == "0":
        notes = ", ".join(f"{note}: {count:,}" for note, count in met.items())
        _LOG.warning("'%s': %s", path, notes)


def write_pairs(pairs: Iterable[Pair], path: Path | str, *, force: bool = False) -> int:
    """Write pairs as JSON lines, and return how many.

    Raises:
        UsageError: if there is a file already and `force` is false.
    """
    place = Path(path).expanduser()
    if place.exists() and not force:
        raise UsageError(f"'{place}' exists; add --force to write over it")
    opened = gzip.open if place.suffix == ".gz" else open
    count = 0
    place.parent.mkdir(parents=True, exist_ok=True)
    with opened(place, "wt", encoding="utf-8") as file:
        for pair in pairs:
            count += 1
            file.write(json.dumps(as_json(pair), ensure_ascii=False) + "\n")
    return count


def as_json(pair: Pair) -> dict[str, Any]:
    """Return the object of a line; what is not known is left out."""
    values: dict[str, Any] = {
        "id": pair.id,
        "query": decode(pair.query),
        "prompt": [decode(row) for row in pair.prompt],
        "winner": [decode(row) for row in pair.winner],
        "loser": [decode(row) for row in pair.loser],
        "score_winner": pair.score_winner,
        "score_loser": pair.score_loser,
        "score_difference": pair.score_difference,
        "reward": pair.reward,
        "meta": dict(pair.meta),
    }
    return {key: value for key, value in values.items() if value not in (None, "", {})}


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a file with their places, 'FILE:LINE'."""
    if path.is_dir():
        raise DataError(f"'{path}' is a folder; name a file of pairs in it")
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"'{path}:{number}'"
                    yield where, _object(line, where)
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist (seen from '{Path.cwd()}')") from None
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not UTF-8 after line {number}: {error}") from None
    except (OSError, EOFError) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}; a line holds a pair") from None
    if not isinstance(row, dict):
        raise DataError(f"{where} holds a {type(row).__name__}; a line holds a pair")
    return row


def _pair(row: Mapping[str, Any], where: str, met: Counter[str]) -> Pair:
    query = _letters(_field(row, "query", where), f"{where}: 'query'", met)
    groups = {"prompt": row.get("prompt") or []}
    for name, other in _OTHER_NAMES.items():
        if name in row and other in row:
            raise DataError(f"{where} has both '{name}' and '{other}'; leave one out")
        key = other if other in row else name
        groups[name] = _field(row, key, where)
        if groups[name] == []:
            raise DataError(f"{where}: '{key}' has no row; it needs one at least")
    rows = [
        _rows(values, len(query), f"{where}: '{_called(row, name)}'", met)
        for name, values in groups.items()
    ]
    matrix = np.concatenate([query[None], *rows])
    clean = Alignment(rows=matrix, headers=("",) * len(matrix)).canonical().rows
    ends = np.cumsum([1, *map(len, rows)])
    prompt, winner, loser = (clean[a:b] for a, b in itertools.pairwise(ends))
    _check(clean[0], winner, loser, where)
    scores = [_number(row, f"score_{name}", where) for name in _OTHER_NAMES]
    difference = _number(row, "score_difference", where)
    if difference is None and scores[0] is not None and scores[1] is not None:
        difference = scores[0] - scores[1]
    if difference is not None and difference < 0:
        raise DataError(
            f"{where}: the winner's score is {-difference:g} below the loser's; swap "
            f"them, or give scores of which the higher one wins"
        )
    return Pair(
        query=clean[0],
        prompt=prompt,
        winner=winner,
        loser=loser,
        id=str(row.get("id", "")),
        score_winner=scores[0],
        score_loser=scores[1],
        score_difference=difference,
        reward=str(row.get("reward", "")),
        meta=dict(row.get("meta") or {}),
    )


def _called(row: Mapping[str, Any], name: str) -> str:
    other = _OTHER_NAMES.get(name, name)
    return other if other in row else name


def _field(row: Mapping[str, Any], name: str, where: str) -> Any:
    if name in row:
        return row[name]
    found = ", ".join(sorted(map(repr, row))) or "none"
    raise DataError(
        f"{where} has no field '{name}'; its fields are {found}, and known ones are "
        f"{', '.join(_KNOWN)}"
    )


def _rows(values: Any, columns: int, what: str, met: Counter[str]) -> Ids:
    if not isinstance(values, list):
        raise DataError(f"{what} is a {type(values).__name__}; it must be a list")
    found = np.empty((len(values), columns), np.uint8)
    for number, value in enumerate(values, start=1):
        row = _letters(value, f"{what}, row {number}", met)
        if len(row) != columns:
            raise DataError(
                f"{what}, row {number} has {len(row)} columns, and the query has "
                f"{columns}; align it to the query, with - where it has no residue and "
                f"without insertions"
            )
        found[number - 1] = row
    return found


def _letters(value: Any, what: str, met: Counter[str]) -> Ids:
    if not isinstance(value, str) or not value:
        raise DataError(f"{what} is {value!r}; it must be a row of letters")
    data = value.encode("ascii", "replace")
    ids = IDS[np.frombuffer(data, np.uint8)]
    if (strange := np.flatnonzero(ids >= MARK)).size:
        place = int(strange[0])
        raise DataError(
            f"{what} has {value[place]!r} in column {place + 1}; a row is made of the "
            f"20 residues, X, B, U, Z, O, J, '*', '-', '.' and '~'"
        )
    for byte in READ_AS_X:
        if count := data.upper().count(byte):
            met[f"letters {chr(byte)} read as X"] += count
    if lower := len(data) - len(data.translate(None, LOWER)):
        met["letters in lower case"] += lower
    return ids


def _check(query: Ids, winner: Ids, loser: Ids, where: str) -> None:
    if winner.shape == loser.shape and (winner == loser).all():
        raise DataError(
            f"{where}: winner and loser are the same rows, so that nothing is "
            f"preferred; remove the line"
        )
    if not (STATE_OF[query] < 20).any():
        raise DataError(f"{where}: the query has no residue")
    for name, rows in (("winner", winner), ("loser", loser)):
        if not (STATE_OF[rows] < 255).any():
            raise DataError(f"{where}: no letter of the {name} says anything")


def _number(row: Mapping[str, Any], name: str, where: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: '{name}' is {value!r}; it must be a number")
    if not math.isfinite(value):
        raise DataError(f"{where}: '{name}' is {value}; it must be finite")
    return float(value)
