"""``mdlm train``: train a model; the result is a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig, to_yaml
from mdlm_core.errors import UsageError
from mdlm_core.specs import TaskSpec

from .options import (
    Configs,
    Device,
    DryRun,
    DumpConfig,
    Imports,
    Out,
    Plugin,
    Preset,
    Resume,
    Seed,
    Sets,
    Tiny,
    settings,
)

if TYPE_CHECKING:
    from mdlm_core.train import Outcome


def train(
    plugin: Plugin = None,
    preset: Preset = None,
    configs: Configs = None,
    sets: Sets = None,
    imports: Imports = None,
    tiny: Tiny = False,
    seed: Seed = None,
    out: Out = None,
    resume: Resume = False,
    device: Device = None,
    dry_run: DryRun = False,
    dump_config: DumpConfig = False,
) -> None:
    """Train a model; the result is a run folder.

    With no options: a small model of the Python documentation, in minutes on a CPU.
    Without --out the folder is runs/NAME-NUMBER. Ctrl-C or SIGTERM finishes the step,
    saves and exits with 130 or 143; --out RUN --resume goes on, bit for bit. Several
    processes: accelerate launch -m mdlm_core train ...
    """
    if resume and out is None:
        raise UsageError("--resume needs the run folder: add --out RUN")
    files = [_recorded(out), *(configs or [])] if resume and out else configs
    catalog, resolved = settings(
        plugin=plugin,
        preset=preset,
        configs=files,
        sets=sets,
        imports=imports,
        tiny=tiny,
        seed=seed,
    )
    config = resolved.config
    if dump_config:
        print(to_yaml(config), end="")
        return
    if dry_run:
        _plan(config, catalog)
        return

    from mdlm_core.train import train as start

    outcome = start(
        config,
        out=out,
        resume=resume,
        name=_name(config, plugin, preset),
        device=device,
        catalog=catalog,
        verbose=True,
    )
    task = catalog.get("task", config.task.name)
    assert isinstance(task, TaskSpec)
    steps = getattr(config.task.config, "next_steps", task.next_steps)
    _report(outcome, config, steps)


def _recorded(out: Path) -> Path:
    """Return the settings of the run to go on with; they are the lowest layer."""
    path = out / "config.yaml"
    if not path.is_file():
        raise UsageError(
            f"there is no run in '{out}' to go on with; leave out --resume to start "
            f"one there"
        )
    return path


def _name(config: RunConfig, plugin: str | None, preset: str | None) -> str:
    return (preset or plugin or config.data.name).replace("/", "-")


def _plan(config: RunConfig, catalog: Catalog) -> None:
    """Build data and model, say what they are, and write nothing."""
    from mdlm_core.train.start import describe

    for line in describe(config, catalog):
        print(line)


def _twice(outcome: Outcome, config: RunConfig) -> str:
    """Return the setting that makes a run twice as long."""
    if config.train.epochs:
        return f"train.epochs={2 * config.train.epochs:g}"
    return f"train.steps={2 * outcome.steps}"


def _report(outcome: Outcome, config: RunConfig, next_steps: tuple[str, ...]) -> None:
    """Say how a run ended, and what can be done next."""
    from accelerate import PartialState

    from mdlm_core.train.loop import held_out_text
    from mdlm_core.train.processes import leave

    state = PartialState()
    if state.is_main_process:
        if outcome.signal is not None:
            print(
                f"stopped by {outcome.signal.name} and saved after step "
                f"{outcome.step} of {outcome.steps}; go on with:\n"
                f"  mdlm train --out {outcome.folder} --resume"
            )
        else:
            for index, text in enumerate(outcome.samples, 1):
                print(f"--- sample {index} ---\n{text}")
            if outcome.held_out:
                print(f"--- after {outcome.step} steps ---")
                print(held_out_text(outcome.held_out))
            print("next:")
            for command in next_steps:
                print("  " + command.replace("{run}", str(outcome.folder)))
            print(
                f"  mdlm train --out {outcome.folder} --resume "
                f"--set {_twice(outcome, config)}"
            )
    leave()
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)
