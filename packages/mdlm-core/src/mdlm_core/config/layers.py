"""The layers of a configuration, and how they merge.

From low to high: the defaults of the dataclasses, a preset, each ``--config`` file,
``--tiny``, and what ``--set`` says. The rules:

1. Mappings merge, key by key.
2. Scalars and lists replace what is below.
3. ``null`` is a value like any other.
4. A layer that changes the `name` of a component drops the settings that lower layers
   gave to the component of the old name.
5. ``model: dit`` is short for ``model: {name: dit}``.

All ``--set`` of a command are one layer, the later winning over the earlier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from mdlm_core.errors import ConfigError, PluginError
from mdlm_core.specs import PresetSpec

from .reading import read_yaml
from .schema import KIND_OF_FIELD, Component, RunConfig

Tree = dict[str, Any]

DEFAULT = "default"
SET = "--set"
TINY = "--tiny"

_KEY = re.compile(r"[^\s.=]+")


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings that are not checked yet, and where each of them comes from."""

    tree: Tree = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """Dotted path of a leaf -> origin."""


def join(path: str, key: str) -> str:
    """Return the dotted path of `key` inside `path`."""
    return f"{path}.{key}" if path else key


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of every leaf; an empty mapping is a leaf."""
    for key, value in tree.items():
        inner = join(path, key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, inner)
        else:
            yield inner, value


def layer_of(tree: Mapping[str, Any], origin: str) -> Layer:
    """Return `tree` as a layer whose leaves all come from `origin`."""
    tree = _with_names(tree)
    return Layer(tree, {path: origin for path, _ in leaves(tree)})


def _with_names(tree: Mapping[str, Any]) -> Tree:
    """Write components that are given as bare text as mappings with a `name`."""
    return {
        key: {"name": value}
        if key in KIND_OF_FIELD and isinstance(value, str)
        else value
        for key, value in tree.items()
    }


# ---- the layers -------------------------------------------------------------


def default_layer() -> Layer:
    """Return the names of the components that a run has if nothing is said."""
    names: Tree = {}
    for entry in fields(RunConfig):
        if entry.name in KIND_OF_FIELD:
            assert callable(entry.default_factory)
            component = entry.default_factory()
            assert isinstance(component, Component)
            names[entry.name] = {"name": component.name}
    return layer_of(names, DEFAULT)


def preset_layer(spec: PresetSpec) -> Layer:
    """Read a preset from its package.

    Raises:
        PluginError: if the package does not hold the file.
        ConfigError: if the file is not a YAML mapping.
    """
    package, _, path = spec.path.partition(":")
    try:
        text = resources.files(package).joinpath(path).read_text("utf-8")
    except (OSError, ImportError) as error:
        raise PluginError(
            f"preset '{spec.name}': '{spec.path}' cannot be read: {error}"
        ) from error
    return layer_of(_mapping(text, f"preset {spec.name}")[0], f"preset {spec.name}")


def file_layer(path: Path) -> Layer:
    """Read a configuration file.

    The key `versions` of a run's ``config.yaml`` says what the run was made with; it
    is no setting.

    Raises:
        ConfigError: if it is not there, not UTF-8, or not a YAML mapping.
    """
    if path.is_dir():
        raise ConfigError(
            f"'{path}' is a folder; name a file in it, such as '{path / 'config.yaml'}'"
        )
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file '{path}'") from None
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"'{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    tree, lines = _mapping(text, str(path))
    tree.pop("versions", None)
    layer = layer_of(tree, str(path))
    for leaf in layer.origins:
        line = lines.get(leaf) or lines.get(leaf.removesuffix(".name"))
        if line is not None:
            layer.origins[leaf] = f"{path}:{line}"
    return layer


def set_layer(assignments: Iterable[str]) -> Layer:
    """Read ``path=value`` texts, the values as YAML.

    Raises:
        ConfigError: if one has no ``=``, no good path, or a value that is no YAML.
    """
    merged = Layer()
    for text in assignments:
        path, equals, value = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(_KEY.fullmatch(key) for key in keys):
            raise ConfigError(
                f"{SET} takes path=value, such as train.steps=500; got '{text}'"
            )
        try:
            tree: Any = read_yaml(value, f"{SET} {path.strip()}", numbered=False).value
        except ConfigError as error:
            raise ConfigError(f"{error}; quote the value: {path}='...'") from error
        for key in reversed(keys):
            tree = {key: tree}
        merged = merge(merged, layer_of(tree, SET), names_drop=False)
    return merged


def _mapping(text: str, source: str) -> tuple[Tree, dict[str, int]]:
    document = read_yaml(text, source)
    tree = {} if document.value is None else document.value
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: a configuration is a mapping, not {tree!r:.40}")
    return tree, document.lines


# ---- merging ----------------------------------------------------------------


def merge(lower: Layer, upper: Layer, *, names_drop: bool = True) -> Layer:
    """Return `lower` with `upper` on top of it, after the rules of this module.

    Args:
        lower: what is there already.
        upper: what wins.
        names_drop: whether rule 4 holds; it does not between two ``--set``.
    """
    tree = _merge(lower.tree, upper.tree)
    if names_drop:
        for key in KIND_OF_FIELD:
            below, above = lower.tree.get(key), upper.tree.get(key)
            if _renames(below, above):
                tree[key] = above
    known = {**lower.origins, **upper.origins}
    return Layer(tree, {path: known[path] for path, _ in leaves(tree)})


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> Tree:
    result = dict(lower)
    for key, value in upper.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = _merge(below, value)
        else:
            result[key] = value
    return result


def _renames(below: Any, above: Any) -> bool:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return False
    old, new = below.get("name"), above.get("name")
    return "name" in above and _plain(old) != _plain(new)


def _plain(name: object) -> object:
    return name.strip().replace("_", "-") if isinstance(name, str) else name
