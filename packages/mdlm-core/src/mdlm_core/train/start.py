"""Start a run, or go on with one: everything before the first step."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch import nn

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.config import RunConfig, read_run
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.protocols import DataSource, Task

from . import checkpoint
from .engine import Engine, start_processes
from .epochs import in_steps
from .folder import (
    RunFolder,
    check_data,
    check_same,
    claim,
    give_back,
    next_folder,
    versions,
    write_config,
    write_data,
)
from .loop import Loop
from .metrics import MetricsFile, truncate_metrics
from .precision import Precision, decide, measure_step
from .processes import on_main
from .progress import display
from .signals import StopSignals
from .state import check_only_tensors
from .trackers import check_trackers, start_trackers, stop_trackers
from .zero import ZeroEngine, wants_zero

MEASURED_ROWS = 8
"""Rows of a batch on which ``precision: auto`` times a step."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    folder: Path
    step: int
    """Optimiser steps done."""
    held_out: dict[str, float]
    """The task's numbers of the last measurement; empty if there was none."""
    samples: list[str]
    """What the model says at the end."""
    signal: signal.Signals | None = None
    """The signal that stopped it before its last step."""
    steps: int = 0
    """Optimiser steps that the run has in all."""


def train(
    config: RunConfig,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    name: str = "run",
    device: str | None = None,
    catalog: Catalog | None = None,
    source: DataSource | None = None,
    task: Task | None = None,
    verbose: bool = False,
) -> Outcome:
    """Train what `config` says, in a run folder.

    Args:
        config: the settings.
        out: the run folder; None makes ``runs/<name>-<number>``.
        resume: go on with the run in `out` from its newest sound checkpoint, or from
            the start if it has none yet. The settings may differ in what does not
            change the steps already done.
        name: see `out`.
        device: "cpu", "cuda", "cuda:1", "xpu"; None takes what is there.
        catalog: where components come from; by default the installed plugins.
        source: the data, instead of ``config.data``.
        task: the task, instead of ``config.task``.
        verbose: whether to show progress on stdout.

    Raises:
        UsageError: if `out` holds a run and `resume` is false, or the other way round.
        ConfigError: if a setting cannot work here, or differs from the run's.
        TrainingError: if another process trains there, or the loss is not finite.
        CheckpointError: if there is no sound checkpoint to go on with, one cannot be
            written, or the module has state that none would hold.
    """
    if resume and out is None:
        raise UsageError("--resume needs the run folder: add --out RUN")
    check_trackers(config.train.report_to)
    state = start_processes(device)
    catalog = catalog or load_catalog()
    with ExitStack() as stack:

        def take() -> RunFolder:
            path = Path(out) if out is not None else next_folder(name)
            made = not path.exists()
            folder, lock = claim(path, resume=resume)
            stack.callback(lock.release)
            stack.callback(give_back, path, made=made)
            if resume:
                check_same(read_run(path, catalog), config)
            return folder

        folder = on_main(take)
        with state.local_main_process_first():  # one process fills the caches
            source = source or catalog.build("dataset", config.data)
            config = in_steps(completed(config, source), source)
            task = task or catalog.build(
                "task", config.task, run=config, catalog=catalog
            )
        say = _Say(verbose and state.is_main_process)
        if resume:
            on_main(lambda: check_data(folder, source))
        loop = _prepare(config, folder, catalog, source, task, resume, say)
        # Not before: settings that cannot work here must not make a folder a run.
        on_main(lambda: _record(folder, config, catalog, source))
        return _go(loop, stack, say)


def completed(config: RunConfig, source: DataSource) -> RunConfig:
    """Return the settings with what the data decided; see `protocols.DataSource`."""
    complete = getattr(source, "completed", None)
    if complete is None:
        return config
    return replace(
        config, data=replace(config.data, config=complete(config.data.config))
    )


def describe(config: RunConfig, catalog: Catalog) -> list[str]:
    """Build data and model, train nothing, and say in lines what they are."""
    source: DataSource = catalog.build("dataset", config.data)
    config = in_steps(completed(config, source), source)
    task: Task = catalog.build("task", config.task, run=config, catalog=catalog)
    module = _build(config, source, task)
    train, length = config.train, source.length
    count = sum(parameter.numel() for parameter in module.parameters())
    rows = source.size("train")
    lines = [
        f"model {config.model.name}: {count:,} parameters, "
        f"{source.tokenizer.vocab_size} token ids",
        f"data {config.data.name}: rows of {length} tokens",
        f"training: {train.steps} steps of {train.batch_size} rows, "
        f"{train.steps * train.batch_size * length:,} tokens",
    ]
    if rows is not None:
        next(iter(source.batches("train", size=train.batch_size, seed=config.seed)))
        epochs = train.steps * train.batch_size / rows
        lines[1] += f", {rows:,} to learn from, {source.size('validation'):,} held out"
        lines[2] += f", {epochs:.1f} times the data"
    return lines


class _Say:
    """Print, or not."""

    def __init__(self, aloud: bool) -> None:
        self.aloud = aloud

    def __call__(self, text: str) -> None:
        if self.aloud:
            print(text, flush=True)  # noqa: T201


def _record(
    folder: RunFolder,
    config: RunConfig,
    catalog: Catalog,
    source: DataSource,
) -> None:
    """Write what the folder says about the run, the settings last."""
    write_data(folder, source)
    write_config(folder, config, catalog)


def _prepare(
    config: RunConfig,
    folder: RunFolder,
    catalog: Catalog,
    source: DataSource,
    task: Task,
    resume: bool,
    say: _Say,
) -> Loop:
    """Build module, engine and loop, and restore the newest sound checkpoint."""
    start = saved = None
    if resume:
        start = on_main(lambda: checkpoint.newest_sound(folder.checkpoints, say))
        saved = checkpoint.read_state(start) if start else None
    module = _build(config, source, task)
    begin = getattr(task, "start", None)
    if begin is not None and start is None:
        with global_seed(Noise(config.seed).child("start")):
            begin(module, source)
    precision = _precision(config, module, source, saved)
    AcceleratorState._reset_state()  # an earlier run's precision is no rule for this
    accelerator = Accelerator(
        mixed_precision="no" if wants_zero() else precision.accelerate,
        log_with=list(config.train.report_to) or None,
        project_dir=folder.path / "trackers",
    )
    facts = {"precision": precision.name, "versions": versions(config, catalog)}
    kind = ZeroEngine if wants_zero() else Engine
    engine = kind(module, accelerator, config.train, precision.name)
    loop = Loop(config, folder, engine, source, task, facts=facts)
    count = sum(parameter.numel() for parameter in engine.module.parameters())
    say(
        f"{folder.path}: {count:,} parameters, {_where(accelerator)}, "
        f"{precision.name} ({precision.reason})"
    )
    if start is not None and saved is not None:
        loop.restore(start, saved)
        done = loop.progress.step
        on_main(lambda: checkpoint.set_aside(folder.checkpoints, done, say))
        say(f"going on after step {done}")
        if saved["world"] != engine.world:
            say(f"note: it ran on {saved['world']} processes before")
    elif resume:
        say("there is no checkpoint yet: starting at the first step")
    return loop


def _where(accelerator: Accelerator) -> str:
    device, world = accelerator.device.type, accelerator.num_processes
    return device if world == 1 else f"{world} processes on {device}"


def _build(config: RunConfig, source: DataSource, task: Task) -> nn.Module:
    with global_seed(Noise(config.seed).child("init")):
        module = task.build(source)
    check_only_tensors(module)
    backbone: Any = module.backbone
    if config.train.checkpoint_activations:
        if not hasattr(backbone, "gradient_checkpointing"):
            raise ConfigError(
                f"train.checkpoint_activations is true, but the model "
                f"'{config.model.name}' cannot recompute its blocks; set it to false"
            )
        backbone.gradient_checkpointing = True
    if config.train.compile:
        backbone.hidden = torch.compile(backbone.hidden)
    return module


def _precision(
    config: RunConfig,
    module: nn.Module,
    source: DataSource,
    saved: dict[str, Any] | None,
) -> Precision:
    """Return the precision of the run, which is decided once."""
    if saved is not None:
        return Precision(saved["precision"], "as it began")

    def measure() -> tuple[float, float]:
        train = config.train
        rows = min(MEASURED_ROWS, train.micro_batch or train.batch_size)
        batches = source.batches("train", size=train.batch_size, seed=config.seed)
        batch = next(iter(batches)).select(slice(rows))
        return measure_step(module, batch, seed=config.seed)

    device = PartialState().device
    return on_main(lambda: decide(config.train.precision, device, measure))


def _go(loop: Loop, stack: ExitStack, say: _Say) -> Outcome:
    """Run the loop, watching for signals, and tell how it ended."""
    progress, steps = loop.progress, loop.config.train.steps
    accelerator = loop.engine.accelerator
    start_trackers(accelerator, loop.config, loop.folder.path)
    stack.callback(stop_trackers, accelerator)
    if accelerator.is_main_process:
        truncate_metrics(loop.folder.metrics, progress.step)
        loop.metrics = MetricsFile(loop.folder.metrics)
        stack.callback(loop.metrics.close)
    if progress.step >= steps:
        name = "epochs" if loop.config.train.epochs else "steps"
        say(f"all {steps} steps are done; to go on, raise train.{name}")
    elif say.aloud:
        loop.display = display(progress.step, steps)
        stack.callback(loop.display.close)

    def notify(name: str) -> None:
        loop.display.say(
            f"{name}: finishing this step, then saving; once more stops at once"
        )

    with StopSignals(notify) as signals:
        texts = loop.run(lambda: signals.received is not None)
    stalled = loop.has_stalled() and progress.step < steps
    if stalled:
        say(
            f"stopped after step {progress.step}: no better in {progress.worse} "
            f"measurements; to go on, raise train.patience"
        )
    return Outcome(
        loop.folder.path,
        progress.step,
        progress.held_out,
        texts,
        signals.received if progress.step < steps and not stalled else None,
        steps,
    )
