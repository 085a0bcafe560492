"""Read YAML with scalars as in YAML 1.2, knowing the line of every key.

PyYAML follows YAML 1.1, where ``1e-4`` is text, ``on`` and ``no`` are booleans, ``012``
is ten and ``12:30`` is 750. Here, as in the core schema of YAML 1.2:

- ``true`` and ``false`` are the booleans; ``on``, ``yes``, ``no``, ``off`` are text,
- ``1e-4`` and ``3e4`` are numbers, ``012`` is twelve, ``12:30`` and dates are text,
- ``null``, ``~`` and nothing at all are null,
- keys are text, whatever they look like, and a key stands once in its mapping.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from mdlm_core.errors import ConfigError

_TAG = "tag:yaml.org,2002:"

SCALARS: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
"""Type, pattern and first characters of each kind of plain scalar but text."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _name, _pattern, _first in SCALARS:
    _Loader.add_implicit_resolver(
        _TAG + _name,
        re.compile(rf"(?:{_pattern})\Z"),
        [*_first, ""] if _name == "null" else list(_first),
    )


@dataclass(slots=True)
class Document:
    """The content of one YAML text."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)
    """The line of every key, by its dotted path."""


def read_yaml(text: str, source: str, *, numbered: bool = True) -> Document:
    """Read one YAML document.

    Args:
        text: the document.
        source: where it comes from; errors begin with it.
        numbered: whether errors say the line.

    Raises:
        ConfigError: if it is not valid YAML, or a mapping holds a key twice.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark and numbered else source
        reason = error.problem or error.context
        raise ConfigError(f"{where}: this is not valid YAML: {reason}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source}: this is not valid YAML: {reason}") from error
    document = Document(None)
    if node is not None:
        document.value = _Walk(source, numbered, document.lines).value(node, "")
    return document


@dataclass(slots=True)
class _Walk:
    """Turn nodes into values and remember lines."""

    source: str
    numbered: bool
    lines: dict[str, int]
    open: list[yaml.Node] = field(default_factory=list)

    def value(self, node: yaml.Node, path: str) -> Any:
        if node in self.open:
            self.fail(node, "an alias refers to the mapping or list it stands in")
        self.open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return dict(self.items(node, path))
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, path) for item in node.value]
            return self.scalar(node)
        finally:
            self.open.pop()

    def items(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.fail(key_node, "a key must be text")
            key = key_node.value
            if key in seen:
                self.fail(
                    key_node, f"the key '{key}' stands here and at line {seen[key]}"
                )
            seen[key] = line
            inner = f"{path}.{key}" if path else key
            self.lines[inner] = line
            yield key, self.value(value_node, inner)

    def scalar(self, node: yaml.Node) -> Any:
        name = node.tag.removeprefix(_TAG)
        if name not in _CONSTRUCT:
            self.fail(node, f"the tag '{node.tag}' has no meaning in a configuration")
        try:
            return _CONSTRUCT[name](node.value)
        except ValueError:
            self.fail(node, f"'{node.value}' is not of the type that its tag says")

    def fail(self, node: yaml.Node, reason: str) -> None:
        line = f":{node.start_mark.line + 1}" if self.numbered else ""
        raise ConfigError(f"{self.source}{line}: {reason}")


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _int(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(text: str) -> float:
    return float(re.sub(r"\.(?=[iInN])", "", text))


_CONSTRUCT: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "str": str,
}
