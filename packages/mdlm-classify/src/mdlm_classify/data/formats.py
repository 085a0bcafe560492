"""Readers of labelled texts: tables, JSON, folders, data sets of the hub.

Each yields (text, label, where it stands) and leaves it to the caller to judge what a
text or a label may be.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mdlm_classify.config.data import Format
from mdlm_core.data.files import find_files, read_lines, read_text
from mdlm_core.errors import DataError

from .columns import Columns, Record
from .labels import listed
from .tables import read_csv, read_tsv

_SUFFIXES = {"csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl"}
_PACKED = ("", ".gz", ".xz")
_CLASS_FILE = re.compile(r"(?:(?P<split>.+)_)?class_(?P<label>.+?)\.json(\.gz|\.xz)?$")
_SAVED = ("state.json", "dataset_dict.json")
_HUB_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*/[\w.-]+")
_ENDINGS = re.compile(
    r"\.(csv|tsv|txt|text|md|html?|xml|ya?ml|jsonl?|ndjson|parquet|arrow|feather|xlsx?"
    r"|ods|pkl|pickle|npz?|pt|db|sqlite3?|py|gz|xz|bz2|zst|zip|tar|tgz|7z)",
    re.IGNORECASE,
)
"""What names of files end with, and those of data sets do not."""


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
    read = {"csv": read_csv, "tsv": read_tsv, "jsonl": _read_jsonl}[kind]
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
        if _on_hub(path):
            return "hub"
        raise DataError(
            f"there is no file or folder '{path}' (seen from '{Path.cwd()}'); a data "
            f"set of the hub is written owner/name, and one without an owner needs "
            f"data.format=hub"
        )
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


def _on_hub(path: str) -> bool:
    """Return whether a path that is not there looks like owner/name of the hub."""
    place = Path(path)
    if place.parent.is_dir() or _ENDINGS.fullmatch(place.suffix):
        return False
    return _HUB_NAME.fullmatch(path) is not None


def _by_name(name: str) -> str:
    """Return the format that a file's name tells; empty for none."""
    for packed in (".gz", ".xz"):
        name = name.removesuffix(packed)
    if _CLASS_FILE.match(name):
        return "json-per-class"
    ending = Path(name).suffix.lower()
    kinds = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    return {**kinds, ".txt": "txt"}.get(ending, "")


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
