"""Files of one JSON object a line. Light: imports nothing heavy."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mdlm_core.errors import DataError

_BOM = "\ufeff"


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a file, each with the place it stands at: 'FILE:LINE'.

    Blank lines are passed over, but counted. A file whose name ends with .gz is
    unpacked.

    Raises:
        DataError: if the file cannot be read or is empty, or a line is no object.
    """
    empty = True
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        empty = False
        where = f"'{path}:{number}'"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(
                f"{where} is no JSON: {error}; each line holds one object"
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"{where} holds a {type(row).__name__}; each line holds one object, as "
                'in {"id": "0", "prediction": "..."}'
            )
        yield where, row
    if empty:
        raise DataError(f"'{path}' is empty; it should hold one JSON object a line")


def _lines(path: Path) -> Iterator[str]:
    if path.is_dir():
        raise DataError(f"'{path}' is a folder; name a file of JSON lines in it")
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode()
                yield line.removeprefix(_BOM) if number == 1 else line
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist (seen from '{Path.cwd()}')") from None
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}:{number}' is not UTF-8: {error}") from None
    except (OSError, EOFError) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
