"""The top of the command line: commands are imported when they are called.

Core's commands stand in a table; the plugins' groups come from the catalog. Help is
made of names and summaries alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from mdlm_core.catalog import FIRST_PARTY, load_catalog
from mdlm_core.errors import MdlmError, PluginError, UsageError
from mdlm_core.refs import Ref
from mdlm_core.specs import CommandSpec

CORE_COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train:train", "Train a model; the result is a run folder."),
    "sample": ("sample:sample", "Write texts with a trained model, or fill in blanks."),
    "evaluate": ("evaluate:evaluate", "Measure a trained model on held-out data."),
    "doctor": ("doctor:doctor", "Check the environment and a run; say what to do."),
    "list": ("list:list_components", "List what can be chosen, and its settings."),
    "config": ("config:app", "Show, check and copy settings."),
    "plugins": ("plugins:app", "List plugins, and find out why one does not load."),
    "new-plugin": ("new_plugin:new_plugin", "Write the files of a new plugin."),
}
"""Name -> where it is in this package, and one line for the help."""


class PluginGroup(TyperGroup):
    """Core's commands and one group per plugin, each loaded on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return [*CORE_COMMANDS, *(name for name, _ in _plugin_rows())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None if there is none, or it does not load."""
        try:
            return load_command(cmd_name)
        except MdlmError:
            return None

    def resolve_command(
        self, ctx: Any, args: list[str]
    ) -> tuple[str | None, Any, list[str]]:
        """Find the command that `args` begin with."""
        if args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        return args[0], load_command(args[0]), args[1:]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the two lists of commands."""
        core = [(name, summary) for name, (_, summary) in CORE_COMMANDS.items()]
        for title, rows in (("Commands", core), ("Plugins", list(_plugin_rows()))):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def load_command(name: str) -> Any:
    """Import a command.

    Raises:
        UsageError: if there is none of that name.
        PluginError: if its module does not load.
    """
    name = name.replace("_", "-")
    if name in CORE_COMMANDS:
        target, _ = CORE_COMMANDS[name]
        return _command(name, Ref(f"mdlm_core.cli.{target}"))
    catalog = load_catalog()
    if not catalog.has("command", name):
        raise _unknown(name)
    spec = catalog.get("command", name)
    assert isinstance(spec, CommandSpec)
    return _plugin_command(spec)


def _plugin_rows() -> Iterator[tuple[str, str]]:
    """Yield name and summary of the plugins' groups, broken plugins included."""
    catalog = load_catalog()
    names = set(CORE_COMMANDS)
    for spec in catalog.commands():
        if spec.name not in names:
            names.add(spec.name)
            missing = _missing_module(spec.app)
            yield spec.name, f"(unavailable: {missing})" if missing else spec.summary
    for record in catalog.plugins.failures():
        if record.name not in names:
            names.add(record.name)
            yield record.name, f"(unavailable: {record.error})"


def _missing_module(ref: Ref) -> str:
    """Say what is missing of `ref`, without importing its module."""
    try:
        return "" if find_spec(ref.module) else f"there is no module '{ref.module}'"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _plugin_command(spec: CommandSpec) -> Any:
    try:
        return _command(spec.name, spec.app)
    except (Exception, SystemExit) as error:
        cause = error.__cause__ if isinstance(error, PluginError) else error
        reason = f"{type(cause).__name__}: {cause}" if cause else str(error)
        raise PluginError(
            f"'mdlm {spec.name}' is unavailable: {reason}. "
            f"Details: mdlm --debug {spec.name}"
        ) from error


def _command(name: str, ref: Ref) -> Any:
    """Import a function or a Typer app, and make a command of it."""
    target = ref.load()
    if isinstance(target, typer.Typer):
        target.rich_markup_mode = None
        group = get_group(target)
        group.name = name
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(target)
    return get_command(app)


def _unknown(name: str) -> MdlmError:
    """Return the error for a name that is no command."""
    records = {record.name: record for record in load_catalog().plugins.records}
    message = f"there is no command '{name}'"
    if record := records.get(name):
        if record.status == "loaded":
            return UsageError(f"{message}: plugin {record.label} adds no commands")
        return PluginError(
            f"{message}: plugin {record.label} is {record.status}: {record.error}. "
            f"Details: mdlm plugins doctor {name}"
        )
    if name in FIRST_PARTY:
        return UsageError(
            f"{message}; it comes with mdlm-{name}, which is not installed. "
            f"Try: pip install mdlm-{name}"
        )
    known = [*CORE_COMMANDS, *records.keys() - {"core"}]
    if near := difflib.get_close_matches(name, {*known, *FIRST_PARTY}, n=3):
        guess = " or ".join(f"'{item}'" for item in near)
        return UsageError(f"{message}; did you mean {guess}?")
    return UsageError(f"{message}; 'mdlm --help' lists them")
