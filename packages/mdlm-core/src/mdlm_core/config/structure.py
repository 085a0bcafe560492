"""From nested mappings to frozen dataclasses, with errors that say where and what.

Types are converted only where nothing can be lost: a whole number where a number is
asked for, ``1e6`` where a whole number is, text such as ``'1e-4'`` where a number is.
``true`` is never a number.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Union, get_args, get_origin

from mdlm_core.errors import ConfigError, PluginError, UnknownNameError

from .layers import DEFAULT, Layer, Tree, join
from .schema import KIND_OF_FIELD, Component, RunConfig

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog

_TEXT_OF_TYPE = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    NoneType: "null",
    Component: "a name, or a mapping with a name",
}


def structure(layer: Layer, catalog: Catalog) -> RunConfig:
    """Return the settings of a run, checked.

    Args:
        layer: all layers, merged.
        catalog: finds the settings' class of each component by its name.

    Raises:
        ConfigError: if a setting is unknown, of the wrong type, or breaks a rule.
    """
    config = _Structure(layer.origins, catalog).build(RunConfig, layer.tree, "")
    assert isinstance(config, RunConfig)
    return config


@cache
def hints(cls: type) -> dict[str, Any]:
    """Return the types of a settings class by field."""
    try:
        return typing.get_type_hints(cls)
    except NameError as error:
        raise PluginError(
            f"the types of {cls.__module__}.{cls.__qualname__} cannot be read: {error}"
        ) from error


def settings_class(kind: str, name: str, catalog: Catalog) -> type:
    """Import the class that holds the settings of a component.

    Raises:
        UnknownNameError: if there is no such component.
        PluginError: if its class cannot be imported or is not usable.
    """
    spec = catalog.component(kind, name)
    cls = spec.config.load()
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise PluginError(f"{kind} '{spec.name}': '{spec.config}' is no dataclass")
    if "name" in hints(cls):
        raise PluginError(f"{kind} '{spec.name}': a setting cannot be called 'name'")
    return cls


def type_text(hint: Any) -> str:
    """Say a type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _TEXT_OF_TYPE:
        return _TEXT_OF_TYPE[hint]
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in arguments)
    if origin in (Union, UnionType):
        return " or ".join(type_text(option) for option in arguments)
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return "a list of " + ", ".join(type_text(item) for item in arguments)
    if origin in (tuple, list, Sequence):
        return f"a list; each item is {type_text(arguments[0])}"
    if origin in (dict, Mapping) or hint in (dict, Mapping) or is_dataclass(hint):
        return "a mapping"
    return "anything" if hint in (Any, object) else str(hint)


class _Mismatch(Exception):
    """A value does not fit a type; becomes a ConfigError that knows the place."""


@dataclass(frozen=True, slots=True)
class _Structure:
    origins: Mapping[str, str]
    catalog: Catalog

    # ---- dataclasses and components ------------------------------------------

    def build(self, cls: type, tree: object, path: str) -> Any:
        """Build one dataclass."""
        if not isinstance(tree, Mapping):
            self.wrong(path, tree, "a mapping")
        known = {entry.name: entry for entry in fields(cls) if entry.init}
        for key in tree:
            if key not in known:
                self.unknown(cls, key, path)
        types = hints(cls)
        values = {
            key: self.convert(types[key], value, join(path, key))
            for key, value in tree.items()
        }
        for name, entry in known.items():
            if name not in values and not _has_default(entry):
                raise ConfigError(
                    f"{join(path, name)} is missing; it is {type_text(types[name])}"
                )
        for name, entry in known.items():
            if types[name] is Component and name not in values:
                assert callable(entry.default_factory)
                default = entry.default_factory()
                values[name] = self.component({"name": default.name}, join(path, name))
        try:
            return cls(**values)
        except (ConfigError, ValueError, TypeError) as error:
            message = str(error)
            if not isinstance(error, ConfigError) and path:
                message = f"{path}: {message}"
            blamed = self.blame(known, path, message)
            raise ConfigError(message + blamed) from error

    def component(self, value: object, path: str) -> Component:
        """Find the component that a mapping names, and build its settings."""
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            self.wrong(path, value, _TEXT_OF_TYPE[Component])
        field_name = path.rpartition(".")[2]
        if (kind := KIND_OF_FIELD.get(field_name)) is None:
            raise PluginError(f"'{path}' is a component, but of no known kind")
        try:
            cls = settings_class(kind, value["name"], self.catalog)
            name = self.catalog.component(kind, value["name"]).name
        except UnknownNameError as error:
            where = self.origin(join(path, "name"))
            raise UnknownNameError(f"{path}.name: {error}{where}") from error
        rest = {key: item for key, item in value.items() if key != "name"}
        return Component(name=name, config=self.build(cls, rest, path))

    # ---- values --------------------------------------------------------------

    def convert(self, hint: Any, value: Any, path: str) -> Any:
        """Return `value` as a `hint`, or raise a ConfigError that knows the place."""
        try:
            return self.value(hint, value, path)
        except _Mismatch:
            self.wrong(path, value, type_text(hint))

    def value(self, hint: Any, value: Any, path: str) -> Any:
        origin, arguments = get_origin(hint), get_args(hint)
        if hint in (Any, object):
            return value
        if hint is Component:
            return self.component(value, path)
        if is_dataclass(hint):
            assert isinstance(hint, type)
            return self.build(hint, value, path)
        if origin is Literal:
            return _only(any(_same(value, option) for option in arguments), value)
        if origin in (Union, UnionType):
            return self.union(arguments, value, path)
        if origin in (tuple, list, Sequence):
            return self.items(origin, arguments, value, path)
        if origin in (dict, Mapping) or hint in (dict, Mapping):
            _only(isinstance(value, Mapping), value)
            of_key, of_value = arguments or (str, Any)
            return {
                self.key(of_key, key): self.convert(of_value, item, join(path, key))
                for key, item in value.items()
            }
        if hint not in _TEXT_OF_TYPE:
            raise PluginError(f"'{path}' has a type that a setting cannot have: {hint}")
        return _scalar(hint, value)

    def union(self, options: tuple[Any, ...], value: Any, path: str) -> Any:
        ordered = sorted(options, key=lambda option: type(value) is not option)
        for option in ordered:
            try:
                return self.value(option, value, path)
            except _Mismatch:
                continue
        raise _Mismatch

    def items(
        self, origin: Any, arguments: tuple[Any, ...], value: Any, path: str
    ) -> Any:
        _only(isinstance(value, list | tuple), value)
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            _only(len(value) == len(arguments), value)
            types: Sequence[Any] = arguments
        else:
            types = [arguments[0]] * len(value)
        items = [
            self.value(hint, item, path)
            for hint, item in zip(types, value, strict=True)
        ]
        return items if origin is list else tuple(items)

    def key(self, hint: Any, key: str) -> Any:
        try:
            return int(key) if hint is int else key
        except ValueError:
            raise _Mismatch from None

    # ---- errors --------------------------------------------------------------

    def origin_of(self, path: str) -> str:
        """Return where a setting, or something in it, comes from."""
        for known, origin in self.origins.items():
            if known == path or known.startswith(path + "."):
                return origin
        return DEFAULT

    def origin(self, path: str) -> str:
        """Return where a setting comes from, ready to end a message with."""
        origin = self.origin_of(path)
        return "" if origin == DEFAULT else f" (from {origin})"

    def wrong(self, path: str, value: object, expected: str) -> NoReturn:
        hint = ""
        if expected == "true or false" and str(value).lower() in _YAML_1_1:
            hint = f"; write {str(_YAML_1_1[str(value).lower()]).lower()}"
        elif expected == "text" and isinstance(value, int | float):
            hint = "; put it in quotes"
        elif expected.startswith("one of") and isinstance(value, str):
            near = difflib.get_close_matches(value, re.findall("'(.*?)'", expected), 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"{path or 'the configuration'} is {_show(value)}; it must be "
            f"{expected}{hint}{self.origin(path)}"
        )

    def unknown(self, cls: type, key: str, path: str) -> NoReturn:
        where = join(path, key)
        known = [entry.name for entry in fields(cls) if entry.init]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        if near:
            remedy = f"did you mean '{join(path, near[0])}'?"
        elif elsewhere := self.elsewhere(key, path):
            remedy = f"did you mean '{elsewhere}'?"
        else:
            remedy = f"{path or 'a configuration'} has {_listed(known)}"
        raise ConfigError(
            f"there is no setting '{where}'{self.origin(where)}; {remedy}"
        )

    def elsewhere(self, key: str, path: str) -> str:
        """Return the path of a setting called `key` in another section."""
        for entry in reversed(fields(RunConfig)):
            hint = hints(RunConfig)[entry.name]
            if entry.name == path.partition(".")[0]:
                continue
            if is_dataclass(hint) and hint is not Component:
                assert isinstance(hint, type)
                if key in hints(hint):
                    return f"{entry.name}.{key}"
            elif hint is Component:
                assert callable(entry.default_factory)
                name = entry.default_factory().name
                kind = KIND_OF_FIELD[entry.name]
                if key in hints(settings_class(kind, name, self.catalog)):
                    return f"{entry.name}.{key}"
            elif entry.name == key:
                return key
        return ""

    def blame(self, known: Mapping[str, Any], path: str, message: str) -> str:
        """Return where the settings that a broken rule speaks of come from."""
        found = []
        for name in known:
            if re.search(rf"\b{re.escape(name)}\b", message):
                origin = self.origin_of(join(path, name))
                if origin != DEFAULT and origin not in found:
                    found.append(origin)
        return f" (from {', '.join(found)})" if found else ""


_YAML_1_1 = {"on": True, "yes": True, "y": True, "1": True, "1.0": True} | {
    "off": False,
    "no": False,
    "n": False,
    "0": False,
}


def _scalar(hint: Any, value: Any) -> Any:
    if hint is NoneType:
        return _only(value is None, value)
    if hint is bool:
        return _only(isinstance(value, bool), value)
    if hint is str:
        return _only(isinstance(value, str), value)
    if hint is Path:
        return Path(_only(isinstance(value, str | Path), value))
    _only(not isinstance(value, bool), value)
    if hint is int:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return _only(isinstance(value, int), value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise _Mismatch from None
    return float(_only(isinstance(value, int | float), value))


def _only(condition: bool, value: Any) -> Any:
    if not condition:
        raise _Mismatch
    return value


def _same(value: object, option: object) -> bool:
    return type(value) is type(option) and value == option


def _has_default(entry: Field[Any]) -> bool:
    return entry.default is not MISSING or entry.default_factory is not MISSING


def _show(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no settings"


__all__ = ["Tree", "hints", "settings_class", "structure", "type_text"]
