"""From settings back to mappings and YAML that reads back as the same settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from .layers import Tree, join
from .reading import SCALARS
from .schema import Component


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or YAML 1.2 would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in SCALARS:
    _Dumper.add_implicit_resolver(
        "tag:yaml.org,2002:" + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first)
    )


_BREAK = re.compile("[\n\r\x85\u2028\u2029]")
"""What YAML takes for the end of a line."""


def to_dict(config: Any) -> Tree:
    """Return settings as nested mappings of plain values.

    Args:
        config: a `RunConfig` or any dataclass of settings; a component becomes a
            mapping with its `name` first.
    """
    if isinstance(config, Component):
        rest = {} if config.config is None else to_dict(config.config)
        return {"name": config.name, **rest}
    return {
        entry.name: _plain(getattr(config, entry.name))
        for entry in fields(config)
        if entry.init
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def to_yaml(config: Any, comments: Mapping[str, str] | None = None) -> str:
    """Return settings as YAML.

    Args:
        config: a dataclass of settings, or a mapping as `to_dict` returns it.
        comments: dotted path -> text on one line, such as where a setting comes
            from; written behind each leaf.
    """
    tree = dict(config) if isinstance(config, Mapping) else to_dict(config)
    lines = list(_lines(tree, "", 0))
    if not comments:
        return "".join(f"{text}\n" for _, text in lines)
    width = min(48, max((len(text) for path, text in lines if path in comments)))
    return "".join(
        f"{text:<{width}}  # {comments[path]}\n" if path in comments else f"{text}\n"
        for path, text in lines
    )


def _lines(tree: Mapping[str, Any], path: str, depth: int) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in tree.items():
        inner, head = join(path, key), "  " * depth + _inline(key) + ":"
        if isinstance(value, Mapping) and value:
            lines.append(("", head))
            lines += _lines(value, inner, depth + 1)
        else:
            lines.append((inner, f"{head} {_inline(value)}"))
    return lines


def _inline(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = _dump(value, None)
    return _dump(value, '"') if _BREAK.search(text) else text


def _dump(value: Any, style: str | None) -> str:
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        default_style=style,
        width=float("inf"),
        allow_unicode=True,
        sort_keys=False,
    )
    return text.removesuffix("\n").removesuffix("\n...").removesuffix("\n")
