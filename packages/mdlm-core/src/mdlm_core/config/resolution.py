"""Resolve the settings of a run from its layers, or read those of a finished run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mdlm_core.errors import ConfigError

from .layers import (
    DEFAULT,
    TINY,
    Layer,
    Tree,
    default_layer,
    file_layer,
    layer_of,
    leaves,
    merge,
    preset_layer,
    set_layer,
)
from .render import to_dict
from .schema import KIND_OF_FIELD, RunConfig
from .structure import structure

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog

TINY_TRAIN = {
    "steps": 5,
    "batch_size": 4,
    "micro_batch": 0,
    "warmup": 0,
    "epochs": 0,
    "eval_every": 5,
    "save_every": 5,
    "sample_every": 0,
    "log_every": 1,
}
"""What ``--tiny`` makes of `train`."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings of a run, and where each of them comes from."""

    config: RunConfig
    origins: dict[str, str]
    """Dotted path of every leaf -> 'default', 'preset P', 'FILE:line', '--set'."""


def resolve(
    catalog: Catalog,
    *,
    preset: str | None = None,
    plugin: str | None = None,
    files: Iterable[str | Path] = (),
    sets: Iterable[str] = (),
    tiny: bool = False,
) -> Resolved:
    """Resolve and check the settings of a run, importing nothing heavy.

    Args:
        catalog: what can be chosen.
        preset: the preset below everything else; with `plugin`, ``small`` finds
            ``<plugin>/small``.
        plugin: short for the preset ``<plugin>/default``.
        files: configuration files, low to high.
        sets: ``path=value`` texts, low to high.
        tiny: whether to shrink the run to seconds on a CPU.

    Raises:
        ConfigError: if a setting is unknown, of the wrong type, or breaks a rule.
        PluginError: if two plugins claim a name that is chosen.
    """
    spec = catalog.preset(preset_name(catalog, preset, plugin))
    layer = merge(default_layer(), preset_layer(spec))
    for path in files:
        layer = merge(layer, file_layer(Path(path)))
    top = set_layer(sets)
    if tiny:
        layer = merge(layer, _tiny_layer(merge(layer, top), catalog))
    layer = merge(layer, top)
    config = structure(layer, catalog)
    return Resolved(config, origins_of(config, layer))


def preset_name(catalog: Catalog, preset: str | None, plugin: str | None) -> str:
    """Return the name of the preset that ``--preset`` and ``--plugin`` mean."""
    if plugin is None or plugin == "core":
        return preset or "default"
    if preset is None:
        _check_plugin(catalog, plugin)
        return f"{plugin}/default"
    inside = f"{plugin}/{preset}"
    return inside if inside in catalog.names("preset") else preset


def _check_plugin(catalog: Catalog, plugin: str) -> None:
    """Say so if a loaded plugin has no default preset."""
    name = f"{plugin}/default"
    loaded = {r.name for r in catalog.plugins.records if r.status == "loaded"}
    if plugin in loaded and name not in catalog.names("preset"):
        raise ConfigError(
            f"plugin '{plugin}' has no preset '{name}'; choose one with --preset"
        )


def _tiny_layer(layer: Layer, catalog: Catalog) -> Layer:
    """Return what ``--tiny`` says about the components that `layer` chooses."""
    tree: Tree = {"train": dict(TINY_TRAIN)}
    names: dict[str, str] = {}
    for key, kind in KIND_OF_FIELD.items():
        node = layer.tree.get(key)
        name = node.get("name") if isinstance(node, dict) else None
        if isinstance(name, str) and catalog.has(kind, name):
            tree[key] = {"name": name, **catalog.component(kind, name).tiny}
            names[f"{key}.name"] = layer.origins[f"{key}.name"]
    tiny = layer_of(tree, TINY)
    return Layer(tiny.tree, {**tiny.origins, **names})


def origins_of(config: RunConfig, layer: Layer) -> dict[str, str]:
    """Return the origin of every leaf of `config`."""
    return {
        path: layer.origins.get(path, DEFAULT) for path, _ in leaves(to_dict(config))
    }


def read_run(
    path: str | Path, catalog: Catalog, *, sets: Iterable[str] = ()
) -> RunConfig:
    """Read the settings of a run from its folder, or from its ``config.yaml``.

    Args:
        path: the folder, or the file.
        catalog: what can be chosen.
        sets: ``path=value`` texts on top of what the file says, low to high.

    Raises:
        ConfigError: if there is no ``config.yaml``, or a setting is not valid.
    """
    path = Path(path)
    file = path / "config.yaml" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"'{path}' is no run: there is no '{file}'")
    layer = merge(default_layer(), file_layer(file))
    return structure(merge(layer, set_layer(sets)), catalog)
