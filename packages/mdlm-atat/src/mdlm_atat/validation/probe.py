"""Check 6: three real optimiser steps, and what they say about the whole phase."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mdlm_core.config import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.train.devices import choose_device
from mdlm_core.train.epochs import in_steps
from mdlm_core.train.optim import build_optimizer, set_learning_rate

from .report import Finding, failed, passed, skipped, warned
from .step import begin
from .subject import Subject

STEPS = 3
SECONDS = 2.0
"""What the measured steps of a variant may take together, if one row allows it."""
_MIB, _GIB = 2**20, 2**30
_ADAM = 16  # bytes for each parameter: weight, gradient and two moments in float32
_AVERAGE = 4  # of the averaged weights
_SAVED = 16  # bytes of a checkpoint for each parameter: weight, average, two moments
_FORWARD = 1 / 3  # of the time of a training step
_FULL = 0.9  # of the memory


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step of a variant takes."""

    seconds: float
    """Of a whole global batch."""
    start: float
    """Of the first step beyond that."""
    state: int
    """Bytes of weights, gradients, moments and averages."""
    row: int
    """Bytes that a row keeps for the backward pass."""
    rows: int
    """Rows of the measured batch."""
    parameters: int


def probe(subject: Subject, budget_minutes: float | None = None) -> Iterator[Finding]:
    """Measure steps; tell the time, memory and disk of all runs of the phase.

    Args:
        subject: the phase.
        budget_minutes: how long all of it may take; None says nothing.
    """
    costs: dict[tuple[object, ...], Cost] = {}
    total, checkpoint, names = 0.0, 0, []
    runs = len(subject.phase.seeds)
    device = choose_device(subject.device)
    for name, config in subject.configs().items():
        kind = _kind(config)
        if kind not in costs:
            costs[kind] = cost = measure(subject, config, device)
            measured = f"{cost.rows} of {config.train.batch_size} rows measured"
            names.append(
                f"{name} {cost.seconds:.3g} s a step ({measured}), {cost.parameters:,} "
                "parameters"
            )
        cost = costs[kind]
        total += runs * _run_seconds(config, cost, subject)
        kept = config.train.keep_last + config.train.keep_best
        checkpoint += runs * kept * _SAVED * cost.parameters
    yield passed(f"on {device}: {'; '.join(names)}")
    yield _time(total, len(subject.configs()) * runs, budget_minutes)
    config = subject.config(subject.variants[0])
    yield _memory(config, max(costs.values(), key=lambda cost: cost.state), device)
    yield _disk(checkpoint)


def _kind(config: RunConfig) -> tuple[object, ...]:
    """Return what decides the cost of a step; the strength of a bias does not."""
    masking = config.masking.config
    importance = getattr(masking, "importance", None)
    return (
        config.masking.name,
        config.task.name,
        config.train.batch_size,
        getattr(importance, "learned", 0) > 0,
        getattr(importance, "context", ""),
        getattr(importance, "target", ""),
        getattr(masking, "objective", ""),
        getattr(masking, "strategy", "") == "time_only",
    )


def measure(subject: Subject, config: RunConfig, device: torch.device) -> Cost:
    """Do steps on more and more rows, as time allows, and measure the last `STEPS`."""
    module = subject.module(config).to(device)
    begin(module, config)
    optimizer = build_optimizer(module, config.train)
    set_learning_rate(optimizer, config.train.lr)
    source = subject.data
    size = config.train.batch_size
    whole = next(iter(source.batches("train", size=size, seed=config.seed)))
    whole = whole.to(device)
    saved = _Saved()
    with saved:
        first = _step(module, optimizer, whole.select(slice(0, 1)), config)
    once = last = _step(module, optimizer, whole.select(slice(0, 1)), config)
    rows, most = 1, config.train.micro_batch or size
    while rows < most and last < SECONDS / STEPS / 2:
        rows = min(4 * rows, most)
        last = _step(module, optimizer, whole.select(slice(0, rows)), config)
    part = whole.select(slice(0, rows))
    repeats = STEPS if last < SECONDS else 1  # a model that is too large for here
    seconds = statistics.median(
        _step(module, optimizer, part, config) for _ in range(repeats)
    )
    parameters = sum(p.numel() for p in module.parameters())
    each = _ADAM + (_AVERAGE if config.train.ema else 0)
    return Cost(
        seconds=seconds * size / rows,
        start=max(first - once, 0.0),
        state=each * parameters,
        row=saved.bytes,
        rows=rows,
        parameters=parameters,
    )


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: RunConfig,
) -> float:
    """Do an optimiser step and return its seconds."""
    device = batch.tokens.device
    rows = torch.arange(len(batch), device=device)
    noise = Noise(config.seed).child("validate", "probe")
    bf16 = config.train.precision == "bf16"
    _wait(device)
    start = time.perf_counter()
    with global_seed(noise), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        loss = module(batch, Draw(noise=noise, rows=rows, of=len(batch)))
    (loss.total / loss.count).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Saved:
    """Count the bytes that autograd keeps, each storage once, parameters aside."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, _same)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        own = tensor.is_leaf and tensor.requires_grad
        if not own and storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *details: object) -> None:
        self._hooks.__exit__(*details)


def _same(tensor: Tensor) -> Tensor:
    return tensor


# ---- what it comes to -------------------------------------------------------


def _run_seconds(config: RunConfig, cost: Cost, subject: Subject) -> float:
    """Return the seconds of a run: its steps, and the measurements on held-out rows."""
    train, task = in_steps(config, subject.data).train, config.task.config
    assert not isinstance(train.eval_every, str)  # it is said in steps now
    every = train.eval_every or train.steps
    rows = getattr(task, "eval_rows", 0) or (subject.data.size("validation") or 0)
    measured = rows * getattr(task, "eval_draws", 1) * -(-train.steps // every)
    measured += subject.phase.eval_windows * subject.phase.eval_draws
    each = cost.seconds / train.batch_size * _FORWARD
    return train.steps * cost.seconds + cost.start + measured * each


def _time(seconds: float, runs: int, budget_minutes: float | None) -> Finding:
    text = f"{runs} runs, one after the other, take about {_duration(seconds)}"
    if budget_minutes is None:
        return passed(text)
    if seconds > 60 * budget_minutes:
        return failed(
            f"{text}; the budget is {budget_minutes:g} minutes",
            "fewer variants or seeds, --set train.steps=N, a smaller phase, or a "
            "faster machine",
        )
    return passed(f"{text}, within {budget_minutes:g} minutes")


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _memory(config: RunConfig, cost: Cost, device: torch.device) -> Finding:
    rows = config.train.micro_batch or config.train.batch_size
    needed = cost.state + rows * cost.row
    text = (
        f"a step keeps about {_size(needed)}: {_size(cost.state)} of weights, "
        f"gradients and moments, {_size(cost.row)} for each of {rows} rows"
    )
    there = _memory_of(device)
    if there is None:
        return skipped(f"{text}; how much there is cannot be seen here")
    text += f"; {_size(there)} on {device}"
    if needed > _FULL * there:
        fits = int((_FULL * there - cost.state) / max(cost.row, 1))
        fix = (
            f"--set train.micro_batch={fits} gives the same result in parts"
            if fits >= 1
            else "it does not fit, not even with one row; choose a smaller model"
        )
        return failed(text, fix)
    return passed(text)


def _memory_of(device: torch.device) -> int | None:
    """Return the bytes of memory behind a device; None if that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _disk(needed: int) -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"checkpoints of all runs take up to {_size(needed)}; {_size(free)} are free"
    if needed > free:
        return failed(text, "--set train.keep_best=0 --set train.keep_last=1, or --out")
    if needed > free / 2:
        return warned(text, "--set train.keep_best=0 --set train.keep_last=1")
    return passed(text)


def _size(count: float) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / _MIB:.0f} MiB"
