"""The files of a report, each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdlm_core.cache import write_atomic
from mdlm_core.errors import UsageError


def write_files(folder: Path, files: Mapping[str, Any]) -> list[Path]:
    """Write files into a folder and return their paths; earlier ones are replaced.

    Args:
        folder: made if it is not there.
        files: name -> contents; what is neither text nor bytes is written as JSON.

    Raises:
        UsageError: if the folder cannot be written.
        ValueError: if a number for JSON is not finite.
    """
    contents = {folder / name: _encoded(content) for name, content in files.items()}
    try:
        for path, content in contents.items():
            write_atomic(path, content)
    except OSError as error:
        raise UsageError(f"the report cannot be written to '{folder}': {error}") from (
            error
        )
    return list(contents)


def _encoded(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    text = content if isinstance(content, str) else _json(content)
    return text.encode(errors="replace")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
