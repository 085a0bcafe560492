"""Settings of a run, as ``--set`` takes them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdlm_core.config import RunConfig


def setting(path: str, value: object) -> str:
    """Return ``path=value`` with the value as YAML."""
    return f"{path}={json.dumps(value)}"


def given(*settings: tuple[str, object]) -> list[str]:
    """Return the settings of the options that were given: those that are not None."""
    return [setting(path, value) for path, value in settings if value is not None]


def settings_of(
    run: RunConfig, *names: str, leave_out: Collection[str] = ()
) -> list[str]:
    """Return the settings of some components of a run.

    Args:
        run: see `config_of`.
        names: such as ``model``.
        leave_out: settings that the new run has for itself.
    """
    found = []
    for name in names:
        component: Any = getattr(run, name)
        found.append(setting(f"{name}.name", component.name))
        found += [
            setting(f"{name}.{field.name}", getattr(component.config, field.name))
            for field in fields(component.config)
            if field.name not in leave_out
        ]
    return found


def config_of(run: Path, imports: Sequence[str] | None) -> RunConfig:
    """Return what a run folder was made with."""
    from mdlm_core.catalog import load_catalog
    from mdlm_core.config import read_run

    return read_run(run.expanduser(), load_catalog(*(imports or ())))
