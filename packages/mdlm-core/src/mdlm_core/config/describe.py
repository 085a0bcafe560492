"""What settings mean: type, default and the text under each field of a dataclass."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from .layers import join
from .schema import Component, RunConfig
from .structure import hints, type_text


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as a user sees it."""

    path: str
    """Dotted, as ``--set`` takes it."""
    type: str
    """Its type in words."""
    default: Any
    """Its default, or `REQUIRED`."""
    help: str
    """What it means."""


REQUIRED = "(required)"


def describe(cls: type, path: str = "") -> Iterator[Setting]:
    """Yield the settings of a dataclass, those of dataclasses inside it included."""
    texts = field_texts(cls)
    types = hints(cls)
    for entry in fields(cls):
        if not entry.init:
            continue
        inner, hint = join(path, entry.name), types[entry.name]
        if is_dataclass(hint) and hint is not Component:
            assert isinstance(hint, type)
            yield from describe(hint, inner)
        else:
            text = texts.get(entry.name, "")
            yield Setting(inner, type_text(hint), default_of(entry), text)


def describe_run(config: RunConfig) -> Iterator[Setting]:
    """Yield every setting of a run with the components that it has chosen."""
    texts, types = field_texts(RunConfig), hints(RunConfig)
    for entry in fields(RunConfig):
        value = getattr(config, entry.name)
        if isinstance(value, Component):
            default = default_of(entry).name
            yield Setting(f"{entry.name}.name", "a name", default, texts[entry.name])
            if value.config is not None:
                yield from describe(type(value.config), entry.name)
        elif is_dataclass(value):
            yield from describe(type(value), entry.name)
        else:
            hint = types[entry.name]
            default = default_of(entry)
            yield Setting(entry.name, type_text(hint), default, texts[entry.name])


def default_of(entry: Field[Any]) -> Any:
    """Return the default of a field, or `REQUIRED`."""
    if entry.default is not MISSING:
        return entry.default
    if entry.default_factory is not MISSING:
        return entry.default_factory()
    return REQUIRED


@cache
def field_texts(cls: type) -> dict[str, str]:
    """Return the text that stands under each field in the source of `cls`.

    Classes without a source, such as those made at run time, have none.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not is_dataclass(base):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):
            continue
        (definition,) = ast.parse(source).body
        assert isinstance(definition, ast.ClassDef)
        for entry, text in zip(definition.body, definition.body[1:], strict=False):
            if (
                isinstance(entry, ast.AnnAssign)
                and isinstance(entry.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                texts[entry.target.id] = " ".join(text.value.value.split())
    return texts
