"""Laws about a plugin as a whole.

That names are kebab-case, and a summary one short line, needs no law: a spec that
breaks it cannot be made.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module, metadata
from typing import Any

from mdlm_core.catalog import Catalog
from mdlm_core.hooks import HOOK_OF_KIND
from mdlm_core.plugins import CORE, PluginRecord
from mdlm_core.specs import CommandSpec, ComponentSpec, PresetSpec
from mdlm_core.testing.law import hold, rule
from mdlm_core.testing.light import heavy_imports
from mdlm_core.testing.subject import missing


def _is_installed(record: PluginRecord) -> bool:
    return bool(record.dist)


def _has_presets(record: PluginRecord) -> bool:
    return any(isinstance(spec, PresetSpec) for spec in record.specs)


def _has_commands(record: PluginRecord) -> bool:
    return any(isinstance(spec, CommandSpec) for spec in record.specs)


@rule(builds=False)
def declaration_is_light(plugin: PluginRecord) -> None:
    """Importing the plugin's module and calling its hooks imports nothing heavy."""
    found = heavy_imports(plugin.target.partition(":")[0], call_hooks=True)
    hold(not found, f"'{plugin.target}' imports {', '.join(found)}")


@rule(applies=_has_commands, builds=False)
def commands_are_light(plugin: PluginRecord) -> None:
    """Importing a command group imports nothing heavy, so that help is quick."""
    for spec in plugin.specs:
        if isinstance(spec, CommandSpec):
            found = heavy_imports(spec.app.module)
            hold(not found, f"command '{spec.name}' imports {', '.join(found)}")


@rule(applies=_is_installed, builds=False)
def name_is_that_of_the_distribution(plugin: PluginRecord) -> None:
    """The entry point is called like the distribution without ``mdlm-``."""
    expected = plugin.dist.lower().replace("_", "-").removeprefix("mdlm-")
    hold(
        plugin.name == expected,
        f"entry point '{plugin.name}' of {plugin.dist}; it should be '{expected}'",
    )


@rule(applies=lambda r: _is_installed(r) and r.dist != CORE, builds=False)
def core_has_an_upper_bound(plugin: PluginRecord) -> None:
    """The plugin requires mdlm-core with an upper bound."""
    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in metadata.requires(plugin.dist) or ()]
    mine = [line for line in lines if line.name.lower().replace("_", "-") == CORE]
    hold(mine, f"{plugin.dist} does not require {CORE}")
    bounded = any(
        part.operator in ("<", "<=", "~=", "==")
        for line in mine
        for part in line.specifier
    )
    hold(bounded, f"{plugin.dist} requires '{mine[0]}'; add '<' and the next minor")


@rule(builds=False)
def every_reference_resolves(plugin: PluginRecord) -> None:
    """Every factory, settings class, command and preset file can be loaded.

    A factory whose required modules are not installed is left out.
    """
    from mdlm_core.config.layers import preset_layer

    problems = []
    for spec in plugin.specs:
        try:
            if isinstance(spec, PresetSpec):
                preset_layer(spec)
            elif isinstance(spec, CommandSpec):
                spec.app.load()
            else:
                spec.config.load()
                if not _requires(spec):
                    hold(callable(spec.factory.load()), f"'{spec.factory}' is no call")
        except Exception as error:
            problems.append(f"{spec.kind} '{spec.name}': {error}")
    hold(not problems, "; ".join(problems))


def _requires(spec: ComponentSpec) -> bool:
    """Whether something that the spec requires is not installed."""
    return bool(spec.requires) and missing(spec).startswith("needs the module")


@rule(builds=False)
def hooks_are_marked_and_exist(plugin: PluginRecord) -> None:
    """Every function called ``mdlm_...`` is marked as a hook, and is one."""
    module = import_module(plugin.target.partition(":")[0])
    hooks = set(HOOK_OF_KIND.values())
    for name, value in vars(module).items():
        if name.startswith("mdlm_") and callable(value):
            hold(name in hooks, f"'{name}' is no hook; hooks are {sorted(hooks)}")
            hold(hasattr(value, "mdlm_impl"), f"'{name}' lacks the mark `@hookimpl`")


@rule(builds=False)
def names_are_its_own(plugin: PluginRecord, catalog: Catalog) -> None:
    """Each name is given once within its kind, by this plugin alone."""
    claims: Counter[tuple[str, str]] = Counter(
        (spec.kind, spec.name) for r in catalog.plugins.records for spec in r.specs
    )
    mine = {(spec.kind, spec.name) for spec in plugin.specs}
    twice = [
        f"{kind} '{name}'" for kind, name in sorted(mine) if claims[kind, name] > 1
    ]
    hold(not twice, f"claimed more than once: {', '.join(twice)}")


@rule(applies=_has_presets, builds=False)
def presets_carry_its_name(plugin: PluginRecord) -> None:
    """Presets are called ``<plugin>/...``, and ``<plugin>/default`` is one of them."""
    names: list[Any] = [s.name for s in plugin.specs if isinstance(s, PresetSpec)]
    prefix = "" if plugin.name == "core" else f"{plugin.name}/"
    strange = [name for name in names if not name.startswith(prefix)]
    hold(not strange, f"{strange} should start with '{prefix}'")
    hold(f"{prefix}default" in names, f"there is no preset '{prefix}default'")
