"""Where the rows of a task's files are, and what they hold. Light."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdlm_core.errors import ConfigError, DataError
from mdlm_llada.json_lines import read_rows
from mdlm_llada.registry import Settings

TRAIN = "train"


def count(split: str, cfg: Settings, *, default: int = 0) -> int:
    """Return how many examples of `split` are wanted at most; 0 means all.

    Raises:
        ConfigError: if ``rows`` or ``held_out`` is no number from 0.
    """
    key = "rows" if split == TRAIN else "held_out"
    value = cfg.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{key} is {value!r}; it must be a whole number from 0")
    return value


def find(path: str, split: str, patterns: tuple[str, ...], task: str) -> Path:
    """Return the file of a split.

    Args:
        path: a file, which is taken as it is; or a folder.
        split: which split.
        patterns: names a file in the folder may have, with ``{split}``; the first
            pattern that matches counts.
        task: who asks, for messages.

    Raises:
        DataError: if there is no such file, or more than one.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise DataError(
            f"task '{task}': '{path}' does not exist (seen from '{Path.cwd()}')"
        )
    if not place.is_dir():
        return place
    names = [pattern.format(split=split) for pattern in patterns]
    for name in names:
        found = sorted(file for file in place.glob(name) if file.is_file())
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(f"'{file.name}'" for file in found)
            raise DataError(
                f"task '{task}': the folder '{path}' has several files for the split "
                f"'{split}': {several}; name one of them instead of the folder"
            )
    raise DataError(
        f"task '{task}': the folder '{path}' has no file for the split '{split}'; "
        f"looked for {', '.join(names)}"
    )


def require_path(task: str, cfg: Settings) -> str:
    """Return the path of a task that has no examples of its own.

    Raises:
        ConfigError: if none is given.
    """
    path = str(cfg.get("path") or "")
    if not path:
        raise ConfigError(
            f"task '{task}' reads files of yours; give their folder, or one of them, "
            f"as the path"
        )
    return path


def rows_of(path: Path, limit: int = 0) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield (index, place, row) of a file of JSON lines, or of a CSV with a header.

    Args:
        path: the file; one whose name ends with .csv is read as such.
        limit: rows to read at most; 0 means all.
    """
    source = _csv_rows(path) if path.suffix.lower() == ".csv" else read_rows(path)
    for index, (where, row) in enumerate(source):
        if limit and index >= limit:
            return
        yield index, where, row


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                yield f"'{path}:{number}'", {str(k): v for k, v in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None


def text_of(row: Mapping[str, Any], where: str, *names: str) -> str:
    """Return the text under the first of `names` that the row has.

    Raises:
        DataError: if it has none of them, or no text there.
    """
    for name in names:
        if name in row:
            value = row[name]
            if isinstance(value, str):
                return value
            raise DataError(
                f"{where}: the field '{name}' holds a {type(value).__name__}; it must "
                f"be a text"
            )
    wanted = " or ".join(f"'{name}'" for name in names)
    keys = ", ".join(sorted(map(repr, row))) or "none"
    raise DataError(f"{where} has no field {wanted}; its fields are {keys}")


def id_of(row: Mapping[str, Any], index: int, *names: str) -> str:
    """Return the row's id as a text, or its number in the file."""
    for name in ("id", *names):
        if row.get(name) is not None:
            return str(row[name])
    return str(index)


def instructed(prompt: str, cfg: Settings, instructions: str) -> str:
    """Return the prompt, behind the instructions if `cfg` asks for them."""
    wanted = cfg.get("instructions", False)
    if wanted is False or wanted is None or wanted == "":
        return prompt
    text = instructions if wanted is True else str(wanted)
    return f"{text}\n\n{prompt}" if text else prompt
