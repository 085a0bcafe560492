"""Find plugins and load each on its own, so that a bad one never stops the rest.

One entry point in the group ``mdlm.plugins`` is one plugin. For each of them:

1. the allow list ``MDLM_PLUGINS`` and the deny list ``MDLM_DISABLE_PLUGINS`` (names
   separated by commas; an empty allow list means no plugin),
2. the version fence: its own requirement on mdlm-core against the core that runs,
3. the import, the registration and a check for hooks that do not exist,
4. every hook by itself: what one raises drops the items of that plugin only.

Whatever goes wrong is kept in a `PluginRecord` and told in one line.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal, Protocol

import pluggy

from . import builtin, hooks
from .specs import Spec

CORE = "mdlm-core"

Status = Literal["loaded", "failed", "incompatible", "disabled"]


class EntryPoint(Protocol):
    """What is read of an `importlib.metadata.EntryPoint`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def value(self) -> str: ...  # noqa: D102
    @property
    def dist(self) -> Any: ...  # noqa: D102
    def load(self) -> Any: ...  # noqa: D102


@dataclass(slots=True)
class PluginRecord:
    """What became of one plugin."""

    name: str
    target: str
    dist: str = ""
    version: str = ""
    status: Status = "loaded"
    error: str = ""
    """One line, empty if all is well."""
    details: str = ""
    """The traceback, for ``mdlm plugins doctor``."""
    specs: list[Spec] = field(default_factory=list)
    ms: float = 0.0
    """Milliseconds spent on the import and the hooks."""

    @property
    def label(self) -> str:
        """The name with its distribution."""
        return f"'{self.name}' ({self.dist} {self.version})" if self.dist else self.name

    def fail(self, status: Status, error: BaseException | str) -> None:
        """Keep `error` and drop what the plugin had offered."""
        self.status = status
        if isinstance(error, BaseException):
            text = f"{type(error).__name__}: {error}"
            self.details = "".join(traceback.format_exception(error))
        else:
            text = error
        self.error = " ".join(text.split())


class Plugins:
    """The plugins of this process, core's own components first."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)
        self.records: list[PluginRecord] = []
        from . import __version__

        record = PluginRecord("core", builtin.__name__, CORE, __version__)
        self.add("core", builtin, record=record)

    def discover(self) -> Plugins:
        """Load every installed plugin, and return self."""
        points = metadata.entry_points(group=hooks.ENTRY_POINT_GROUP)
        for point in sorted(points, key=lambda point: point.name):
            self.load(point)
        return self

    def load(self, point: EntryPoint) -> PluginRecord:
        """Load one entry point; what goes wrong is in the record."""
        record = PluginRecord(point.name, point.value)
        self.records.append(record)
        start = time.perf_counter()
        try:
            if point.dist is not None:
                record.dist, record.version = point.dist.name, point.dist.version
            if reason := _switched_off(point.name):
                record.fail("disabled", reason)
            elif reason := _fence(point):
                record.fail("incompatible", reason)
            else:
                self._register(point.name, point.load(), record)
        except (Exception, SystemExit) as error:
            record.fail("failed", error)
        record.ms = 1000 * (time.perf_counter() - start)
        return record

    def add(
        self, name: str, module: object, record: PluginRecord | None = None
    ) -> PluginRecord:
        """Register a module (or any object with hook implementations)."""
        record = record or PluginRecord(name, getattr(module, "__name__", repr(module)))
        self.records.append(record)
        try:
            self._register(name, module, record)
        except (Exception, SystemExit) as error:
            record.fail("failed", error)
        return record

    def _register(self, name: str, module: object, record: PluginRecord) -> None:
        """Register `module` and keep its specs; if one hook fails, none is kept."""
        self._manager.register(module, name=name)
        try:
            self._manager.check_pending()
            for hook in hooks.HOOK_OF_KIND.values():
                record.specs += self._collect(hook, module)
        except (Exception, SystemExit):
            record.specs.clear()
            self._manager.unregister(module)
            raise

    def _collect(self, hook: str, module: object) -> list[Spec]:
        caller = getattr(self._manager.hook, hook)
        items: list[Spec] = []
        for implementation in caller.get_hookimpls():
            if implementation.plugin is module:
                items += _checked(hook, implementation.function())
        return items

    def failures(self) -> list[PluginRecord]:
        """Return the records of plugins that should have loaded and did not."""
        return [r for r in self.records if r.status in ("failed", "incompatible")]

    def warn(self) -> None:
        """Tell each failure in one line on stderr."""
        for record in self.failures():
            print(  # noqa: T201
                f"warning: plugin {record.label} did not load: {record.error}. "
                f"Details: mdlm plugins doctor {record.name}",
                file=sys.stderr,
            )


def _checked(hook: str, items: Iterable[Spec]) -> list[Spec]:
    """Run a hook to its end and check that it yields specs of its kind."""
    expected = {kind for kind, name in hooks.HOOK_OF_KIND.items() if name == hook}
    result = list(items)
    for item in result:
        if getattr(item, "kind", None) not in expected:
            raise TypeError(
                f"{hook} yielded {item!r}; it must yield specs of kind "
                f"'{', '.join(expected)}'"
            )
    return result


def _switched_off(name: str) -> str:
    allowed = os.environ.get("MDLM_PLUGINS")
    if allowed is not None and name not in _names(allowed):
        return "not in MDLM_PLUGINS"
    if name in _names(os.environ.get("MDLM_DISABLE_PLUGINS", "")):
        return "in MDLM_DISABLE_PLUGINS"
    return ""


def _names(value: str) -> set[str]:
    return {name.strip() for name in value.split(",") if name.strip()}


def _fence(point: EntryPoint) -> str:
    """Return why the plugin does not fit this core, or an empty string."""
    if point.dist is None:
        return ""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    from . import __version__

    for line in point.dist.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            return f"its requirement '{line}' cannot be read: {error}"
        if canonicalize_name(requirement.name) != CORE:
            continue
        if not requirement.specifier.contains(__version__, prereleases=True):
            return (
                f"it needs {CORE}{requirement.specifier}, but {__version__} is "
                f"installed; upgrade whichever is older"
            )
    return ""
