"""``mdlm plugins``: what is installed, and why something does not load."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

import typer

from mdlm_core import __version__
from mdlm_core.catalog import FIRST_PARTY, PLURAL, is_strict
from mdlm_core.errors import PluginError, UsageError
from mdlm_core.plugins import PluginRecord, Plugins
from mdlm_core.specs import ComponentSpec

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
    record = _find(name)
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
    broken = 0
    print("\nprovides")
    for spec in record.specs:
        problem = _reference_problem(spec)
        broken += bool(problem)
        state = problem or "all right"
        print(f"  {spec.kind} {spec.name}: {state}")
    if broken:
        raise PluginError(f"{broken} things that {record.label} provides do not load")
    print("\nall right")


@app.command()
def check(name: Name) -> None:
    """Run the quick laws of the plugin contract on a plugin."""
    record = _find(name)
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


def _find(name: str) -> PluginRecord:
    plugins = Plugins().discover()
    for record in plugins.records:
        if record.name == name.removeprefix("mdlm-"):
            return record
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


def _reference_problem(spec: Any) -> str:
    """Import what a spec refers to, and say what goes wrong."""
    refs = [spec.factory, spec.config] if isinstance(spec, ComponentSpec) else []
    if spec.kind == "command":
        refs = [spec.app]
    for ref in refs:
        try:
            ref.load()
        except (Exception, SystemExit) as error:
            return f"'{ref}' does not load: {type(error).__name__}: {error}"
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
