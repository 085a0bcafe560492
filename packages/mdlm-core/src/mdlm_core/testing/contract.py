"""From laws and components to cases, and from cases to pytest or a list of verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.errors import PluginError
from mdlm_core.plugins import PluginRecord, Plugins
from mdlm_core.specs import ComponentSpec, Spec

from .law import KINDS, Law, laws_of
from .subject import Given, Settings, Subject, label, obstacle


@dataclass(frozen=True, slots=True)
class Case:
    """One law about one component."""

    id: str
    law: Law
    catalog: Catalog
    plugin: PluginRecord
    spec: Spec | None
    given: Given
    settings: Settings

    @property
    def skipped(self) -> str:
        """Why the law cannot be checked here, or an empty string."""
        if not self.law.rule.builds:
            return ""
        return obstacle(self.catalog, self.spec, self.settings)

    def run(self) -> None:
        """Check the law.

        Raises:
            BrokenLaw: if the component does not keep it.
        """
        subject = Subject(
            self.catalog, self.plugin, self.spec, self.given, self.settings
        )
        self.law.function(**{n: subject.argument(n) for n in self.law.arguments})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one case."""

    id: str
    """``<kind>-<component>-<law>``."""
    law: str
    """The sentence that is the law."""
    status: Literal["kept", "broken", "skipped"]
    reason: str = ""
    """What was seen, or why the law could not be checked."""


def fresh_plugins(*modules: object) -> Plugins:
    """Return core and the given plugin modules, whatever else is installed.

    A plugin is named after its module's package without ``mdlm_``; any object with
    hook implementations will do for a module.
    """
    plugins = Plugins()
    for module in modules:
        name = str(getattr(module, "__name__", type(module).__name__))
        package = name.partition(".")[0].removeprefix("mdlm_")
        plugins.add(package.lower().replace("_", "-"), module)
    return plugins


def cases(
    name: str,
    *,
    catalog: Catalog | None = None,
    given: Given | None = None,
    settings: Settings | None = None,
) -> list[Case]:
    """Return every law about every component of the plugin `name`.

    Raises:
        PluginError: if the plugin is not installed or did not load, or `settings`
            names a component that it does not have.
    """
    catalog = catalog or load_catalog()
    record = _record(catalog, name)
    given, settings = given or {}, settings or {}
    if unknown := sorted(set(settings) - {label(spec) for spec in record.specs}):
        raise PluginError(f"plugin '{name}' has no component '{unknown[0]}'")
    return [
        Case(
            f"{kind}-{component}-{law.name}",
            law,
            catalog,
            record,
            spec,
            given,
            settings,
        )
        for kind in KINDS
        for law in laws_of(kind)
        for component, spec in _components(kind, record)
        if law.rule.applies(spec if spec is not None else record)
    ]


def _record(catalog: Catalog, name: str) -> PluginRecord:
    known = {record.name: record for record in catalog.plugins.records}
    if name not in known:
        raise PluginError(
            f"there is no plugin '{name}'; installed are {', '.join(sorted(known))}"
        )
    if known[name].status != "loaded":
        raise PluginError(
            f"plugin '{name}' is {known[name].status}: {known[name].error}"
        )
    return known[name]


def _components(kind: str, record: PluginRecord) -> Iterator[tuple[str, Spec | None]]:
    if kind == "plugin":
        yield record.name, None
    for spec in record.specs:
        if kind == "config" and isinstance(spec, ComponentSpec):
            yield label(spec), spec
        elif spec.kind == kind:
            yield spec.name, spec


def contract(
    name: str,
    *,
    broken: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    given: Given | None = None,
    catalog: Catalog | None = None,
) -> Callable[..., None]:
    """Return a pytest test of everything the plugin `name` promises.

    A plugin's whole contract test is::

        from mdlm_core.testing import contract

        test_contract = contract("haiku")

    It has one case for each law and component, such as
    ``test_contract[masking-haiku-frozen_tokens_stay]``.

    Args:
        name: of the plugin: its entry point; ``"core"`` for core's own components.
        broken: case ids that are known to fail, each with its reason. Such a case is
            an expected failure; if it passes, the test fails.
        settings: more settings for components, by ``<kind>-<name>``, such as
            ``{"dataset-text": {"path": "poems.txt"}}``: a data set that needs a file
            of the user's is skipped without.
        given: functions that make what laws ask for, by the law's parameter, where
            what core makes does not fit; see `Subject`. ``{"batch": make}`` is called
            as ``make(length=..., vocab_size=..., mask_id=...)``.
        catalog: where the plugin is; by default all that is installed.

    Raises:
        PluginError: if the plugin did not load, an id in `broken` is unknown, or its
            reason is empty.
    """
    import pytest

    broken = dict(broken or {})
    every = cases(name, catalog=catalog, given=given, settings=settings)
    _check_broken(name, broken, every)
    parameters = []
    for case in every:
        marks = []
        if reason := case.skipped:
            marks.append(pytest.mark.skip(reason=f"{case.id}: {reason}"))
        if case.id in broken:
            mark = pytest.mark.xfail(reason=broken[case.id], strict=True)
            marks.append(mark)
        parameters.append(pytest.param(case, id=case.id, marks=marks))

    @pytest.mark.parametrize("case", parameters)
    def test_contract(case: Case) -> None:
        case.run()

    return test_contract


def _check_broken(name: str, broken: Mapping[str, str], every: list[Case]) -> None:
    known = {case.id for case in every}
    for case_id, reason in broken.items():
        if case_id not in known:
            raise PluginError(
                f"contract('{name}') has no case '{case_id}', which `broken` names"
            )
        if not reason.strip():
            raise PluginError(f"'{case_id}' is broken without a reason; give one")


def check(
    name: str, *, catalog: Catalog | None = None, costly: bool = False
) -> list[Verdict]:
    """Check the laws of the plugin `name` without pytest.

    Args:
        name: of the plugin; ``"core"`` for core's own components.
        catalog: where the plugin is; by default all that is installed.
        costly: whether to check the laws that take seconds, too.

    Raises:
        PluginError: if the plugin is not installed or did not load.
    """
    every = cases(name, catalog=catalog)
    return [_verdict(case) for case in every if costly or not case.law.rule.costly]


def _verdict(case: Case) -> Verdict:
    def verdict(status: Any, reason: str = "") -> Verdict:
        return Verdict(case.id, case.law.text, status, " ".join(reason.split()))

    if reason := case.skipped:
        return verdict("skipped", reason)
    try:
        case.run()
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return verdict("broken", f"{kind}{error}")
    return verdict("kept")
