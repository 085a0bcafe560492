"""``mdlm plugins``: what is installed, and why something does not load."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated

import typer

from mdlm_core import __version__
from mdlm_core.catalog import FIRST_PARTY, PLURAL, Catalog, is_strict
from mdlm_core.config.layers import preset_layer
from mdlm_core.errors import MdlmError, PluginError, UsageError
from mdlm_core.plugins import PluginRecord, Plugins
from mdlm_core.specs import CommandSpec, ComponentSpec, PresetSpec, Spec

from .options import Json
from .tables import print_table

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List plugins, and find out why one does not load.",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name.")]


@app.command("list")
def list_plugins(as_json: Json = False) -> None:
    """List plugins with status, version, load time and what each provides."""
    plugins = Plugins().discover()
    if as_json:
        print(json.dumps([_as_dict(record) for record in plugins.records], indent=2))
    else:
        head = ("plugin", "status", "version", "ms", "provides")
        print_table([head, *(_row(record) for record in plugins.records)])
        for record in plugins.records:
            if record.error:
                print(f"{record.name}: {record.error}")
    if is_strict() and plugins.failures():
        raise PluginError("MDLM_STRICT=1 and a plugin did not load")


@app.command()
def doctor(name: Name) -> None:
    """Say what is wrong with a plugin: version fence, import, hooks, references."""
    plugins = Plugins().discover()
    records = _find(name, plugins)
    for record in records:
        _examine(record, plugins)
    print("\nall right")


def _examine(record: PluginRecord, plugins: Plugins) -> None:
    print(f"plugin   {record.name}")
    print(f"target   {record.target}")
    print(f"package  {f'{record.dist} {record.version}'.strip() or 'not installed'}")
    print(f"core     {__version__}; {_fence_text(record)}")
    print(f"status   {record.status}")
    print(f"import   {record.ms:.1f} ms")
    if record.status != "loaded":
        if record.details:
            print("\n" + record.details.rstrip())
        raise PluginError(f"plugin {record.label} is {record.status}: {record.error}")
    broken, catalog = 0, Catalog(plugins)
    print("\nprovides")
    for spec in record.specs:
        problem = _claim_problem(spec, catalog) or _reference_problem(spec)
        broken += bool(problem)
        print(f"  {spec.kind} {spec.name}: {problem or 'all right'}")
    if broken:
        raise PluginError(
            f"{broken} of {len(record.specs)} things that {record.label} provides "
            f"cannot be used"
        )


@app.command()
def check(name: Name) -> None:
    """Run the quick laws of the plugin contract on a plugin."""
    record = _find(name, Plugins().discover())[0]
    if record.status != "loaded":
        raise PluginError(f"plugin {record.label} is {record.status}: {record.error}")
    from mdlm_core.testing import check as run_laws

    verdicts = run_laws(record.name)
    for verdict in verdicts:
        print(f"{verdict.status:<7}  {verdict.id}")
        if verdict.reason:
            print(f"         {verdict.reason}")
    counts = Counter(verdict.status for verdict in verdicts)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"\n{record.name}: {summary or 'no laws'}")
    if counts["broken"]:
        raise PluginError(f"{record.name} breaks {counts['broken']} laws")


def _find(name: str, plugins: Plugins) -> list[PluginRecord]:
    name = name.replace("_", "-").removeprefix("mdlm-")
    if found := [record for record in plugins.records if record.name == name]:
        return found
    if name in FIRST_PARTY:
        raise UsageError(
            f"'{name}' comes with mdlm-{name}, which is not installed. "
            f"Try: pip install mdlm-{name}"
        )
    known = ", ".join(record.name for record in plugins.records)
    raise UsageError(f"there is no plugin '{name}'. Installed: {known}")


def _fence_text(record: PluginRecord) -> str:
    if record.status == "incompatible":
        return record.error
    return "its requirement on mdlm-core is met" if record.dist else "no requirement"


def _claim_problem(spec: Spec, catalog: Catalog) -> str:
    """Say if another plugin claims the name of a spec."""
    try:
        chosen = catalog.get(spec.kind, spec.name)
    except PluginError as error:
        return str(error)
    return "" if chosen is spec else "hidden, because core has one of that name"


def _reference_problem(spec: Spec) -> str:
    """Import or read what a spec refers to, and say what goes wrong."""
    try:
        if isinstance(spec, ComponentSpec):
            spec.config.load()
            spec.factory.load()
        elif isinstance(spec, CommandSpec):
            spec.app.load()
        elif isinstance(spec, PresetSpec):
            preset_layer(spec)
    except MdlmError as error:
        return str(error)
    return ""


def _provides(record: PluginRecord) -> str:
    counts = Counter(spec.kind for spec in record.specs)
    return ", ".join(
        f"{count} {kind if count == 1 else PLURAL[kind]}"
        for kind, count in counts.items()
    )


def _row(record: PluginRecord) -> tuple[str, ...]:
    ms = f"{record.ms:.0f}" if record.ms else ""
    provides = _provides(record) or "-"
    return (record.name, record.status, record.version or "-", ms, provides)


def _as_dict(record: PluginRecord) -> dict[str, object]:
    provides: dict[str, list[str]] = {}
    for spec in record.specs:
        provides.setdefault(spec.kind, []).append(spec.name)
    return {
        "name": record.name,
        "status": record.status,
        "distribution": record.dist,
        "version": record.version,
        "target": record.target,
        "error": record.error,
        "ms": round(record.ms, 2),
        "provides": provides,
    }
