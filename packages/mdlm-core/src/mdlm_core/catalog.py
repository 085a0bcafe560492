"""Look components up by name, and build them.

Names are unique within a kind. If two plugins claim one name, the conflict is told
when that name is asked for, so that it never breaks an unrelated command; core's own
names cannot be overridden.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections import defaultdict
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError, PluginError, UnknownNameError
from .plugins import PluginRecord, Plugins
from .specs import CommandSpec, ComponentSpec, PresetSpec, Spec

if TYPE_CHECKING:
    from .config.schema import Component

FIRST_PARTY = ("atat", "llada", "msa", "classify", "personality")
"""Plugins that have a package of their own, `mdlm-<name>`."""

PLURAL = {
    "backbone": "backbones",
    "schedule": "schedules",
    "masking": "masking policies",
    "sampler": "samplers",
    "dataset": "datasets",
    "task": "tasks",
    "preset": "presets",
    "command": "commands",
}


class Catalog:
    """All specs of the loaded plugins, by kind and name."""

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins
        self._claims: dict[tuple[str, str], list[tuple[PluginRecord, Spec]]] = (
            defaultdict(list)
        )
        for record in plugins.records:
            for spec in record.specs:
                self._claims[spec.kind, spec.name].append((record, spec))

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind, in alphabetical order."""
        return sorted(name for its_kind, name in self._claims if its_kind == kind)

    def specs(self, kind: str) -> list[Spec]:
        """Return the specs of a kind, in the order of their names."""
        return [self._claims[kind, name][0][1] for name in self.names(kind)]

    def claim(self, kind: str, name: str) -> PluginRecord:
        """Return the record of the first plugin that claims `name`."""
        return self._claims[kind, _canonical(name)][0][0]

    def provider(self, kind: str, name: str) -> PluginRecord:
        """Return the record of the plugin that provides `name`."""
        spec = self.get(kind, name)
        claims = self._claims[kind, _canonical(name)]
        return next(record for record, its_spec in claims if its_spec is spec)

    def get(self, kind: str, name: str) -> Spec:
        """Return the spec of `name`; ``ddpm_cache`` finds ``ddpm-cache``.

        Raises:
            UnknownNameError: if no plugin provides it.
            PluginError: if two plugins do.
        """
        claims = self._claims.get((kind, _canonical(name)))
        if not claims:
            raise UnknownNameError(self._unknown(kind, name))
        core = [claim for claim in claims if claim[0].name == "core"]
        if len(claims) > 1 and not core:
            owners = ", ".join(record.label for record, _ in claims)
            raise PluginError(
                f"{kind} '{name}' is provided by {owners}; switch one of them off "
                f"with MDLM_DISABLE_PLUGINS"
            )
        return (core or claims)[0][1]

    def has(self, kind: str, name: str) -> bool:
        """Return whether some plugin provides `name`."""
        return (kind, _canonical(name)) in self._claims

    def component(self, kind: str, name: str) -> ComponentSpec:
        """Return the spec of a component, which a configuration can choose."""
        spec = self.get(kind, name)
        assert isinstance(spec, ComponentSpec)
        return spec

    def preset(self, name: str) -> PresetSpec:
        """Return the spec of a preset."""
        spec = self.get("preset", name)
        assert isinstance(spec, PresetSpec)
        return spec

    def commands(self) -> list[CommandSpec]:
        """Return the specs of the plugins' command groups."""
        return [spec for spec in self.specs("command") if isinstance(spec, CommandSpec)]

    def build(self, kind: str, component: Component, **context: Any) -> Any:
        """Import the factory of a component and call it.

        Args:
            kind: the kind of its spec.
            component: its name and its settings.
            context: what the kind's factory takes besides; see `specs`.

        Raises:
            MissingExtraError: if a module that the spec requires is not installed.
        """
        spec = self.component(kind, component.name)
        for module in spec.requires:
            if find_spec(module) is None:
                remedy = spec.extra or module
                raise MissingExtraError(
                    f"{kind} '{spec.name}' needs the module '{module}', which is not "
                    f"installed. Try: pip install '{remedy}'"
                )
        settings = (
            spec.config.load()() if component.config is None else component.config
        )
        return spec.factory.load()(settings, **context)

    def _unknown(self, kind: str, name: str) -> str:
        known = self.names(kind)
        message = f"there is no {kind} '{name}'"
        if near := difflib.get_close_matches(_canonical(name), known, n=3, cutoff=0.6):
            guess = " or ".join(f"'{item}'" for item in near)
            message += f" (did you mean {guess}?)"
        plugin = name.partition("/")[0]
        for record in self.plugins.records:
            if record.name == plugin and record.status != "loaded":
                return (
                    f"{message}. Plugin {record.label} is {record.status}: "
                    f"{record.error}. Details: mdlm plugins doctor {record.name}"
                )
        if plugin in FIRST_PARTY and plugin not in {
            r.name for r in self.plugins.records
        }:
            return (
                f"{message}. '{plugin}' comes with mdlm-{plugin}, which is not "
                f"installed. Try: pip install mdlm-{plugin}"
            )
        return f"{message}. Installed {PLURAL[kind]}: {', '.join(known) or 'none'}"


def _canonical(name: str) -> str:
    return name.strip().replace("_", "-")


@cache
def load_catalog(*imports: str) -> Catalog:
    """Load every installed plugin, once per process, and return the catalog.

    Plugins that did not load are told in one line each on stderr. With
    ``MDLM_STRICT=1`` in the environment they are an error.

    Args:
        imports: modules that are not installed as plugins but hold hook
            implementations, as ``--import`` names them.

    Raises:
        PluginError: if one of `imports` does not load, or if the environment is strict
            and a plugin did not load.
    """
    plugins = Plugins().discover()
    plugins.warn()
    if is_strict() and plugins.failures():
        broken = ", ".join(record.label for record in plugins.failures())
        raise PluginError(f"MDLM_STRICT=1 and a plugin did not load: {broken}")
    for name in imports:
        _import(name, plugins)
    return Catalog(plugins)


def is_strict() -> bool:
    """Return whether a plugin that does not load is an error."""
    return os.environ.get("MDLM_STRICT") == "1"


def _import(name: str, plugins: Plugins) -> None:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f"--import {name}: it does not load: {reason}") from error
    record = plugins.add(name, module)
    if record.status != "loaded":
        raise PluginError(f"--import {name}: {record.error}")
