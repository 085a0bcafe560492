"""Plain tables for the terminal."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from mdlm_core.config.describe import REQUIRED, Setting
from mdlm_core.config.render import to_yaml


def print_table(rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Print rows with aligned columns, the last one wrapped to the terminal."""
    if not rows:
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    left = sum(width + 2 for width in widths) + len(indent)
    room = max(shutil.get_terminal_size((100, 24)).columns - left, 30)
    for row in rows:
        cells = [f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False)]
        lines = textwrap.wrap(row[-1], room) or [""]
        print((indent + "".join(cells) + lines[0]).rstrip())
        for line in lines[1:]:
            print(" " * left + line)


def print_settings(
    found: Iterable[Setting], *, as_json: bool = False, indent: str = ""
) -> None:
    """Print settings with type, default and meaning."""
    found = list(found)
    if as_json:
        print(json.dumps([asdict(setting) for setting in found], indent=2))
        return
    rows = [
        (
            setting.path,
            _default(setting.default),
            f"{setting.help} {_type(setting)}".strip(),
        )
        for setting in found
    ]
    print_table(rows, indent)


def _type(setting: Setting) -> str:
    """Say the type where the default does not show it."""
    plain = (
        setting.type.startswith(("a ", "true", "text")) and "list" not in setting.type
    )
    shown = not plain or setting.default == REQUIRED
    return f"({setting.type})" if shown else ""


def _default(value: Any) -> str:
    if value == REQUIRED:
        return REQUIRED
    return to_yaml({"x": value}).strip().removeprefix("x: ")
