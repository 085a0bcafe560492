"""Readers of labelled texts: tables, JSON, folders, data sets of the hub.

Each yields (text, label, where it stands) and leaves it to the caller to judge what a
text or a label may be.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mdlm_classify.config.data import Format
from mdlm_core.data.files import find_files, read_lines, read_text
from mdlm_core.errors import DataError

from .labels import listed, near

Record = tuple[object, object, str]
"""A text, a label (None where there is none), and where they stand."""

_SUFFIXES = {"csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl"}
_PACKED = ("", ".gz", ".xz")
_CLASS_FILE = re.compile(r"(?:(?P<split>.+)_)?class_(?P<label>.+?)\.json(\.gz|\.xz)?$")
_SAVED = ("state.json", "dataset_dict.json")
_LONGEST = 2**31 - 1
_HUB_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*(?:/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read of a row."""

    text: str
    """One column, or several joined with +."""
    label: str | None
    """None if there are no labels."""
    subset: str = ""
    split: str = "train"

    def found_in(self, names: Sequence[str], where: str) -> tuple[list[str], str]:
        """Return the columns of the text, and of the label ("" for none).

        Raises:
            DataError: if one is missing; the message lists those that are there.
        """
        parts = [self.text] if self.text in names else self.text.split("+")
        for part, setting in [(p, "text") for p in parts] + [(self.label, "label")]:
            if part is not None and part not in names:
                raise DataError(
                    f"{where} has no column '{part}'{near(part, names)}; its columns "
                    f"are {listed(names)}; name one with data.{setting}"
                    f"{_separator(names)}"
                )
        return parts, self.label or ""


def _separator(names: Sequence[str]) -> str:
    if len(names) == 1:
        for mark, name in ((";", "semicolons"), ("\t", "tabs")):
            if mark in names[0]:
                way = "as .tsv" if mark == "\t" else "with commas"
                return f" (it seems to be divided by {name}; save it {way})"
    return ""


def reader(
    path: str, format: Format, *, split: str, labelled: bool
) -> Callable[[Columns], Iterator[Record]]:
    """Return what reads `path`; called with the columns it yields the records.

    Raises:
        DataError: if `path` is nothing, or nothing whose format is clear.
    """
    kind = _kind(path, split, labelled) if format == "auto" else format
    if kind == "hub":
        from .hub import read_hub

        return lambda columns: read_hub(path, columns)
    if kind == "folders":
        return lambda columns: _read_folders(path, columns)
    if kind == "json-per-class":
        return lambda columns: _read_classes(path, columns)
    if kind == "txt":
        return lambda columns: _read_plain(path)
    read = {"csv": _read_csv, "tsv": _read_tsv, "jsonl": _read_jsonl}[kind]
    endings = tuple(_SUFFIXES[kind] + packed for packed in _PACKED)

    def files(columns: Columns) -> Iterator[Record]:
        for file in find_files(path, endings):
            yield from read(file, columns)

    return files


def _kind(path: str, split: str, labelled: bool) -> str:
    """Return the format of `path`, by its name and by what is there."""
    place = Path(path).expanduser()
    if place.is_dir():
        if any((place / name).is_file() for name in _SAVED):
            return "hub"
        names = sorted(file.name for file in place.iterdir() if file.is_file())
        folders = any(child.is_dir() for child in place.iterdir())
    elif place.is_file() or glob.has_magic(path):
        found = [Path(name) for name in sorted(glob.glob(str(place), recursive=True))]
        found = [place] if place.is_file() else found
        if not found:
            raise DataError(f"'{path}' matches no file (seen from '{Path.cwd()}')")
        names = [file.name for file in found if file.is_file()]
        folders = any(file.is_dir() for file in found)
    else:
        if _HUB_NAME.fullmatch(path) and not _by_name(Path(path).name):
            return "hub"
        raise DataError(f"'{path}' does not exist (seen from '{Path.cwd()}')")
    kinds = {kind for name in names if (kind := _by_name(name))}
    if labelled:
        kinds.discard("txt")
    if len(kinds) > 1:
        raise DataError(
            f"'{path}' holds files of several formats ({', '.join(sorted(kinds))}); "
            "name one with data.format"
        )
    if kinds:
        return kinds.pop()
    if folders:
        return "folders"
    raise DataError(
        f"the format of '{path}' is not clear: files end in .csv, .tsv or .jsonl (and "
        ".gz or .xz), or are called train_class_0.json and so on, and a folder holds "
        "one folder of .txt files for each class; rename it, or name the format with "
        "data.format"
    )


def _by_name(name: str) -> str:
    """Return the format that a file's name tells; empty for none."""
    for packed in (".gz", ".xz"):
        name = name.removesuffix(packed)
    if _CLASS_FILE.match(name):
        return "json-per-class"
    ending = Path(name).suffix.lower()
    kinds = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    return {**kinds, ".txt": "txt"}.get(ending, "")


@contextmanager
def _long_fields() -> Iterator[None]:
    limit = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _read_csv(path: Path, columns: Columns) -> Iterator[Record]:
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    return _table(path, columns, _csv_rows(path, rows))


def _csv_rows(path: Path, rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line in which each row begins, and its cells."""
    line = 1
    while True:
        try:
            with _long_fields():
                row = next(rows, None)
        except csv.Error as error:
            raise DataError(
                f"'{path}', line {line}: the row that begins here is no csv: {error}; "
                "a text with a comma, a quote or a line end stands in double quotes, "
                "and a quote inside is doubled"
            ) from None
        if row is None:
            return
        yield line, row
        line = rows.line_num + 1  # type: ignore[attr-defined]


def _read_tsv(path: Path, columns: Columns) -> Iterator[Record]:
    lines = read_text(path).split("\n")
    rows = (
        (number, [_unquoted(cell) for cell in line.removesuffix("\r").split("\t")])
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    return _table(path, columns, rows)


def _unquoted(cell: str) -> str:
    """Return a cell without the quotes around all of it, if they are csv's."""
    inside = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    if quoted and '"' not in inside.replace('""', ""):
        return inside.replace('""', '"')
    return cell


def _table(
    path: Path, columns: Columns, rows: Iterator[tuple[int, list[str]]]
) -> Iterator[Record]:
    rows = ((line, row) for line, row in rows if row)
    _, head = next(rows, (0, []))
    twice = next((name for name in head if head.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"'{path}', line 1: the column '{twice}' stands twice")
    parts, label = columns.found_in(head, f"'{path}', line 1,")
    places = [head.index(part) for part in parts]
    of_label = head.index(label) if label else None
    for line, row in rows:
        where = f"'{path}', line {line}"
        if len(row) != len(head):
            raise DataError(
                f"{where}: there are {len(row)} cells, and the first line names "
                f"{len(head)} columns; a text with a separator or a line end in it "
                "stands in double quotes, in a .csv"
            )
        text = "\n".join(row[place] for place in places)
        yield text, None if of_label is None else row[of_label], where


def _read_jsonl(path: Path, columns: Columns) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"'{path}', line {number}"
        record = _parsed(line, where)
        if not isinstance(record, dict):
            raise DataError(
                f"{where} holds a {type(record).__name__}, not an object; each line "
                'is like {"text": "...", "label": "..."}'
            )
        yield _of_object(record, columns, where)


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}") from None


def _of_object(record: dict[str, object], columns: Columns, where: str) -> Record:
    parts, label = columns.found_in(list(record), where)
    values = [record[part] for part in parts]
    strange = next((v for v in values if not isinstance(v, str)), None)
    text = values[0] if len(values) == 1 else strange
    if len(values) > 1 and strange is None:
        text = "\n".join(map(str, values))
    return text, record[label] if label else None, where


def _read_classes(path: str, columns: Columns) -> Iterator[Record]:
    """One JSON for each class: a list of texts, or of objects with one."""
    files = find_files(path, (".json", ".json.gz", ".json.xz"))
    named = {file: match for file in files if (match := _CLASS_FILE.match(file.name))}
    splits = {match["split"] for match in named.values()}
    if Path(path).expanduser().is_dir() and len(splits) > 1:
        named = {f: m for f, m in named.items() if m["split"] == columns.split}
    if not named:
        raise DataError(
            f"'{path}' holds no file called {columns.split}_class_<label>.json; it "
            f"holds {listed([file.name for file in files])}"
        )
    for file, match in named.items():
        content = _parsed(read_text(file), f"'{file}'")
        if not isinstance(content, list):
            raise DataError(
                f"'{file}' holds a {type(content).__name__}; it must be a list of "
                "texts, or of objects with a text"
            )
        only_text = Columns(columns.text, None)
        for number, item in enumerate(content):
            where = f"'{file}', text {number}"
            if isinstance(item, dict):
                text, _, _ = _of_object(item, only_text, where)
            else:
                text = item
            yield text, match["label"], where


def _read_folders(path: str, columns: Columns) -> Iterator[Record]:
    """One folder for each class, with one text in each .txt file."""
    place = Path(path).expanduser()
    if place.is_dir():
        inside = place / columns.split
        if inside.is_dir() and any(child.is_dir() for child in inside.iterdir()):
            place = inside
        children = sorted(child for child in place.iterdir() if child.is_dir())
        children = [child for child in children if not child.name.startswith(".")]
    else:
        children = [Path(name) for name in sorted(glob.glob(str(place)))]
        children = [child for child in children if child.is_dir()]
    if not children:
        raise DataError(f"'{path}' holds no folder; there must be one for each class")
    for child in children:
        for file in find_files(glob.escape(str(child)), (".txt",)):
            yield _content(file), child.name, f"'{file}'"


def _content(file: Path) -> str:
    return read_text(file) if file.stat().st_size else ""


def _read_plain(path: str) -> Iterator[Record]:
    """Texts without labels: the files of a folder, or the lines of a file."""
    place = Path(path).expanduser()
    for file in find_files(path, (".txt", ".txt.gz", ".txt.xz")):
        if place.is_dir():
            yield _content(file), None, f"'{file}'"
            continue
        for number, line in enumerate(read_lines(file), start=1):
            yield line.rstrip("\r\n"), None, f"'{file}', line {number}"
