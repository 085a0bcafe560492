"""Readers of texts with traits: tables, Essays, PANDORA, myPersonality.

Letters: N texts, K columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mdlm_core.data.tokenizers import utf8
from mdlm_core.errors import ConfigError, DataError
from mdlm_personality.config import PersonaTextConfig
from mdlm_personality.config.data import Format
from mdlm_personality.traits import TRAITS

from .columns import Plan, plan
from .tables import Row, csv_table, ending, jsonl_table
from .texts import PersonaTexts

_CLASSES = dict(zip(TRAITS, ("cOPN", "cCON", "cEXT", "cAGR", "cNEU"), strict=True))
_SCORES = dict(zip(TRAITS, ("sOPN", "sCON", "sEXT", "sAGR", "sNEU"), strict=True))
PERCENTILES = (0.0, 100.0)
"""The scores of PANDORA."""


def read(config: PersonaTextConfig) -> tuple[PersonaTexts, dict[str, object]]:
    """Return the texts that the settings describe, and entries for the card.

    Raises:
        ConfigError: if there is no path.
        DataError: if it cannot be read; the message names file, line and column.
    """
    if not config.path:
        raise ConfigError(
            "data.path is empty; set it to a table of texts and traits (.csv or "
            ".jsonl, also with .gz), or to the folder of PANDORA's two files"
        )
    path = Path(config.path).expanduser()
    if not path.exists():
        raise DataError(
            f"there is no file or folder '{config.path}' (seen from '{Path.cwd()}')"
        )
    if path.is_dir():
        if config.format not in ("auto", "pandora"):
            raise DataError(
                f"'{path}' is a folder, and data.format={config.format} is one file; "
                "name the file"
            )
        from .pandora import read_folder

        found = read_folder(path, config)
        return found, _card(found, config, "pandora")
    kind, columns, rows = _opened(path, config.format)
    todo = _plan(kind, columns, config, f"'{path}', line 1,")
    found = collect(rows, todo, config, str(path))
    return found, _card(found, config, kind)


def _card(
    texts: PersonaTexts, config: PersonaTextConfig, kind: str
) -> dict[str, object]:
    return {
        "name": "persona-text",
        "path": config.path,
        "format": kind,
        "texts": any(texts.texts),
    }


def _opened(path: Path, format: Format) -> tuple[str, list[str], Iterator[Row]]:
    """Return the format of a file, its columns and its rows."""
    kind = ending(path)
    if format == "jsonl" or (format == "auto" and kind in (".jsonl", ".ndjson")):
        return ("jsonl", *jsonl_table(path))
    if format == "auto" and kind != ".csv":
        raise DataError(
            f"the format of '{path}' is not clear: names end in .csv or .jsonl, and "
            "perhaps .gz or .xz; rename it, or name the format with data.format"
        )
    columns, rows = csv_table(path)
    lower = {name.lower() for name in columns}
    if format == "auto":
        if {"#authid", "status"} <= lower:
            format = "mypersonality"
        elif {name.lower() for name in _CLASSES.values()} <= lower:
            format = "essays"
        else:
            format = "csv"
    if format in ("essays", "mypersonality"):  # collected before UTF-8 was usual
        columns, rows = csv_table(path, old=True)
    return format, columns, rows


def _plan(kind: str, columns: list[str], config: PersonaTextConfig, where: str) -> Plan:
    """Return what is read of a table of this format."""
    lower = {name.lower() for name in columns}
    named = "#AUTHID" if "#authid" in lower else None
    if kind == "essays":
        return plan(
            config, columns, where, usual=_CLASSES, text="text", author=named or "id"
        )
    if kind == "mypersonality":
        told = {name.lower() for name in _SCORES.values()} <= lower
        return plan(
            config,
            columns,
            where,
            usual=_SCORES if told else _CLASSES,
            text="STATUS",
            author="#AUTHID",
            scale=(1.0, 5.0) if told else (0.0, 1.0),
        )
    if kind == "pandora":
        return plan(config, columns, where, scale=PERCENTILES)
    return plan(config, columns, where)


def collect(
    rows: Iterator[Row], todo: Plan, config: PersonaTextConfig, path: str
) -> PersonaTexts:
    """Return the texts of a table; rows whose text is blank are left out.

    Where nobody is named, texts with the same five traits have one author, which is the
    best that can be done to keep a person's texts together; texts of which no trait is
    known, and rows without a text, have an author each.

    Raises:
        DataError: if a cell is wrong, or there is no text at all.
    """
    texts: list[str] = []
    authors: list[str] = []
    values: list[list[float]] = []
    seen = 0
    for line, row in rows:
        if config.max_rows and len(texts) == config.max_rows:
            break
        seen += 1
        where = f"'{path}', line {line}"
        text = ""
        if todo.text is not None:
            text = _text(row.get(todo.text), todo.text, where)
            if not text.strip():
                continue
        found = todo.values(row, where)
        texts.append(text)
        values.append(found)
        authors.append(_author(row, todo, found, line, where))
    if not texts:
        what = f"rows, but no text in '{todo.text}'" if seen else "rows"
        raise DataError(f"'{path}' holds {seen or 'no'} {what}")
    return PersonaTexts(
        tuple(texts),
        tuple(authors),
        np.array(values, dtype=np.float64),
        (*TRAITS, *todo.labels),
        dict(config.labels),
    )


def _text(cell: object, column: str, where: str) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise DataError(
            f"{where}: {column} holds a {type(cell).__name__}; it must be a text"
        )
    try:
        utf8(cell)  # an escape may name half of a surrogate pair
    except DataError as error:
        raise DataError(f"{where}: {column}: {error}") from None
    return cell


def _author(
    row: Mapping[str, object], todo: Plan, found: list[float], line: int, where: str
) -> str:
    if todo.author is not None:
        cell = row.get(todo.author)
        name = "" if cell is None else str(cell).strip()
        if not name:
            raise DataError(
                f"{where}: {todo.author} is empty, and texts are divided by author; "
                "fill it in, or leave the row out"
            )
        return name
    traits = found[: len(TRAITS)]
    if todo.text is not None and not all(map(math.isnan, traits)):
        return "traits " + ",".join(f"{value:.6g}" for value in traits)
    return f"line {line}"
