"""Join predictions with what is right, strictly. Light: imports nothing heavy.

Rows are matched by id, or else by index. Keys are compared as texts, so that 3 is "3".
A key that stands twice, and a row without its partner, are errors that name it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdlm_core.errors import DataError
from mdlm_llada.json_lines import read_rows
from mdlm_llada.registry import GOLD_KEYS, BaseTaskSpec, same_task

PREDICTION_KEYS = ("prediction", "pred_text", "pred", "output", "text")
"""Names under which files hold a prediction, the first that is there wins."""
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Item:
    """One prediction and what it is judged by."""

    key: str
    predictions: tuple[str, ...]
    """The texts for one example: one, or several samples."""
    gold: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    """File and line of the prediction, for errors."""


@dataclass(frozen=True, slots=True)
class Joined:
    """All items, and how they were matched."""

    items: tuple[Item, ...]
    by: str
    """id, index, or line: the number of the line, where rows say neither."""
    missing_gold: tuple[str, ...] = ()
    """Keys of predictions that have no gold, left out."""
    missing_predictions: tuple[str, ...] = ()
    """Keys of golds that have no prediction, left out."""
    own_gold: int = 0
    """Rows whose own `gold_raw` was taken instead of another one of the gold file."""
    unanswered: int = 0
    """Examples that the file of predictions should answer and does not yet."""


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    id: str | None
    index: str | None
    line: str
    values: Mapping[str, Any]


def join(
    predictions: Path,
    golds: Path | None,
    task: BaseTaskSpec,
    *,
    allow_missing: bool = False,
    also: Path | None = None,
) -> Joined:
    """Return each prediction with its gold.

    Args:
        predictions: JSON lines with a text under one of `PREDICTION_KEYS`.
        golds: JSON lines with what is right, also a file of the task's own data; None
            if the predictions have it. Of a row that both have, the prediction's own
            `gold_raw` wins.
        task: knows what is right in a row.
        allow_missing: whether rows without a partner are left out and counted.
        also: another file of predictions, which the rows will be compared with: what
            they are matched by must be in its rows too.

    Raises:
        DataError: if a key stands twice, rows have no key or no partner, a row has
            no prediction or no gold or is of another task, or the predictions are not
            complete.
    """
    mine = _read(predictions)
    _refuse_other_task(mine, task)
    unanswered = _unanswered(predictions, len(mine), allow_missing=allow_missing)
    theirs = None if golds is None else _read(golds)
    beside = [_read(path) for path in (also,) if path is not None]
    by = _key_of([mine, *beside] if theirs is None else [mine, theirs, *beside])
    keyed = _keyed(mine, by, predictions)
    if theirs is None:
        items = tuple(
            Item(key, _texts(row), _own_gold(row, task), _meta(row), row.where)
            for key, row in keyed.items()
        )
        return Joined(items, by, unanswered=unanswered)
    assert golds is not None
    gold_rows = _keyed(theirs, by, golds)
    no_gold = tuple(key for key in keyed if key not in gold_rows)
    no_prediction = tuple(key for key in gold_rows if key not in keyed)
    if not allow_missing:
        _refuse(no_gold, by, predictions, f"no row in '{golds}'")
        _refuse(no_prediction, by, golds, f"no row in '{predictions}'")
    items_, own = [], 0
    for key, row in keyed.items():
        if key not in gold_rows:
            continue
        raw = row.values.get("gold_raw")
        found = task.gold_of(gold_rows[key].values)
        if raw is None and found is None:
            raise DataError(_no_gold(gold_rows[key]))
        gold = str(found if raw is None else raw)
        own += raw is not None and str(raw) != found
        items_.append(Item(key, _texts(row), gold, _meta(row), row.where))
    if not items_:
        raise DataError(f"'{predictions}' and '{golds}' have no row in common by {by}")
    return Joined(tuple(items_), by, no_gold, no_prediction, own, unanswered)


def _refuse_other_task(rows: Sequence[_Row], task: BaseTaskSpec) -> None:
    """Refuse predictions that say that they answer another task."""
    known: dict[str, bool] = {}
    for row in rows:
        name = row.values.get("task")
        if not isinstance(name, str):
            continue
        if name not in known:
            known[name] = same_task(name, task)
        if not known[name]:
            raise DataError(
                f"{row.where} is a prediction for task '{name}', not for "
                f"'{task.name}'; score it with --task {name}, or remove its 'task' if "
                f"that is no name of a task"
            )


def _unanswered(path: Path, rows: int, *, allow_missing: bool) -> int:
    """Return how many rows are missing by what ``FILE.meta.json`` says, if it is there.

    Raises:
        DataError: if rows are missing and may not be.
    """
    meta = path.with_name(path.name + ".meta.json")
    try:
        said = json.loads(meta.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:
        raise DataError(f"'{meta}' cannot be read: {error}") from None
    wanted = said.get("rows") if isinstance(said, dict) else None
    if type(wanted) is not int or rows >= wanted:
        return 0
    if not allow_missing:
        raise DataError(
            f"'{path}' has {rows} of {wanted} answers, as '{meta.name}' says; let the "
            f"same 'mdlm llada infer' go on, or score what is there with "
            f"--allow-missing"
        )
    return wanted - rows


def _read(path: Path) -> list[_Row]:
    rows = []
    for number, (where, row) in enumerate(read_rows(path)):
        meta = row.get("meta")
        meta = meta if isinstance(meta, Mapping) else {}
        ids = (row.get("id"), row.get("task_id"), meta.get("id"))
        id_ = next((id_ for id_ in ids if id_ is not None), None)
        index = row.get("index", meta.get("index"))
        rows.append(_Row(where, _text(id_), _text(index), str(number), row))
    return rows


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _key_of(files: Sequence[Sequence[_Row]]) -> str:
    """Return what all rows of all files can be matched by."""
    if all(row.id is not None for rows in files for row in rows):
        return "id"
    for rows in files:
        _refuse_mixed(rows)
    # A file without any key is in the order of its data set: line 0 has index 0.
    if any(row.index is not None for rows in files for row in rows):
        return "index"
    if all(row.id is None for rows in files for row in rows):
        return "line"
    first = next(row for rows in files for row in rows if row.id is not None)
    other = next(row for rows in files for row in rows if row.id is None)
    raise DataError(
        f"{first.where} has an id and no index, and {other.where} has no id; give all "
        f"rows ids, or all an index"
    )


def _refuse_mixed(rows: Sequence[_Row]) -> None:
    """Refuse a file of which some rows have an index, or an id alone, and some not."""
    for kind in ("index", "id"):
        have = [row for row in rows if getattr(row, kind) is not None]
        lack = [row for row in rows if getattr(row, kind) is None]
        if have and lack:
            raise DataError(
                f"{have[0].where} has an {kind} and {lack[0].where} has none; the rows "
                f"of a file must all have ids, or all an index"
            )


def _keyed(rows: Sequence[_Row], by: str, path: Path) -> dict[str, _Row]:
    keyed: dict[str, _Row] = {}
    for row in rows:
        key = row.id if by == "id" else row.index if by == "index" else row.line
        key = row.line if key is None and row.id is None else key
        if key is None:
            raise DataError(
                f"{row.where} has the id '{row.id}' and no index, by which the other "
                f"file is matched; give all rows of both files ids, or all an index"
            )
        if key in keyed:
            raise DataError(
                f"{row.where} has the {by} '{key}' that {keyed[key].where} has "
                f"already; each {by} may stand once in '{path}'"
            )
        keyed[key] = row
    return keyed


def _texts(row: _Row) -> tuple[str, ...]:
    key = _prediction_key(row)
    value = row.values[key]
    if isinstance(value, list):
        if not value or not all(isinstance(text, str) for text in value):
            raise DataError(f"{row.where}: '{key}' is a list that holds no texts")
        return tuple(value)
    if isinstance(value, dict):
        raise DataError(f"{row.where}: '{key}' holds an object; it must be a text")
    return ("" if value is None else str(value),)


def _prediction_key(row: _Row) -> str:
    for key in PREDICTION_KEYS:
        if key in row.values:
            return key
    keys = ", ".join(sorted(map(repr, row.values))) or "none"
    raise DataError(
        f"{row.where} has no prediction; it may stand under "
        f"{', '.join(PREDICTION_KEYS)}, and the row has {keys}"
    )


def _own_gold(row: _Row, task: BaseTaskSpec) -> str:
    used = _prediction_key(row)
    rest = {key: value for key, value in row.values.items() if key != used}
    raw = rest.get("gold_raw")
    found = str(raw) if raw is not None else task.gold_of(rest)
    if found is None:
        raise DataError(_no_gold(row))
    return found


def _no_gold(row: _Row) -> str:
    return (
        f"{row.where} does not say what is right; that may stand under "
        f"{', '.join(GOLD_KEYS)}, or in a file of its own (--gt)"
    )


def _meta(row: _Row) -> Mapping[str, Any]:
    meta = row.values.get("meta")
    return meta if isinstance(meta, Mapping) else {}


def _refuse(keys: Sequence[str], by: str, path: Path, what: str) -> None:
    if keys:
        shown = ", ".join(f"'{key}'" for key in keys[:_NAMED])
        more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
        raise DataError(
            f"{len(keys)} of the rows of '{path}' have {what}: {by} {shown}{more}; "
            f"complete the file, or score what both have with --allow-missing"
        )
