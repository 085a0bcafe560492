"""One optimiser step over all processes, on accelerate.

`accelerate launch` decides what a process is: alone, one of DDP's, or one of FSDP2's.
The module goes through ``accelerator.prepare``, so that its ``forward`` synchronises
gradients; batches do not, because a `DataSource` already hands each process its rows.

Letters: B rows of this process, n the processes.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn

from mdlm_core.config.schema import TrainConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss
from mdlm_core.errors import ConfigError, TrainingError, UsageError
from mdlm_core.kernels.ema import Ema
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise, global_seed

from . import state as live
from .checkpoint import EMA, MODEL, OPTIMIZER
from .devices import choose_device
from .optim import build_optimizer, scale_gradients, set_learning_rate
from .processes import gather_lists, sum_over_processes


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimiser step was."""

    total: float
    """The loss summed over the global batch, in nats."""
    count: float
    """What to divide it by."""
    tokens: int
    """Free tokens of the global batch."""
    grad_norm: float
    """Of the gradient of ``total / count``, before clipping."""
    stop: bool
    """Whether any process was asked to stop."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """The means over rows of `Loss.extra`."""


def start_processes(device: str | None) -> PartialState:
    """Join the other processes of the run, if any, on `device`.

    Args:
        device: "cpu", "cuda", "cuda:1", "xpu"; None or "auto" takes what is there.

    Raises:
        UsageError: if there is no such device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 and PartialState._shared_state:
        # An earlier run of this process may have used another device or precision.
        AcceleratorState._reset_state(reset_partial_state=True)
    chosen = choose_device(device).type
    if device in (None, "auto"):
        # Told nothing, accelerate takes MPS, and joins no processes without a GPU.
        device = "cpu" if chosen == "cpu" else None
    if device is not None and ":" in device and world == 1:
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    try:
        state = PartialState(cpu=device == "cpu")
    finally:
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
    if state.num_processes != world:
        raise UsageError(
            f"the launcher started {world} processes, but accelerate sees "
            f"{state.num_processes}; on a machine without a GPU add --device cpu"
        )
    return state


class Engine:
    """A module, its optimiser and its averaged weights, over all processes."""

    def __init__(
        self,
        module: nn.Module,
        accelerator: Accelerator,
        config: TrainConfig,
        precision: str = "fp32",
    ) -> None:
        """Prepare `module`, which is as the task built it, on the CPU.

        Args:
            module: what is trained.
            accelerator: made for `precision`.
            config: how.
            precision: "fp32", "bf16" or "fp16".

        Raises:
            ConfigError: if the launcher's set-up is none that is supported.
        """
        self.accelerator = accelerator
        self.config = config
        self.precision = precision
        self.rank = accelerator.process_index
        self.world = accelerator.num_processes
        self._check_launch()
        module.to(accelerator.device)
        if getattr(module, "learns_in_parts", False):
            # What a step does not use gets no gradient, as on one process.
            accelerator.ddp_handler = DistributedDataParallelKwargs(
                find_unused_parameters=True
            )
        self.model, self.optimizer = accelerator.prepare(
            self.wrapped(module), build_optimizer(module, config)
        )
        self.module: nn.Module = self.unwrapped(accelerator.unwrap_model(self.model))
        self.ema = (
            Ema(self.module.named_parameters(), config.ema) if config.ema else None
        )

    def wrapped(self, module: nn.Module) -> nn.Module:
        """Return what accelerate prepares; here the module itself."""
        return module

    def unwrapped(self, module: nn.Module) -> nn.Module:
        """Return the module that `wrapped` was given."""
        return module

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def sharded(self) -> bool:
        """Whether a process holds only parts of the parameters."""
        return bool(self.accelerator.distributed_type == DistributedType.FSDP)

    def _check_launch(self) -> None:
        kind = self.accelerator.distributed_type
        if kind == DistributedType.FSDP and not self.accelerator.is_fsdp2:
            raise ConfigError(
                "FSDP version 1 is not supported; add --fsdp_version 2 to "
                "'accelerate launch'"
            )
        if kind == DistributedType.FSDP and self.config.optimizer == "muon":
            raise ConfigError(
                "train.optimizer is muon, which needs whole matrices, and FSDP cuts "
                "them; use train.optimizer=adamw, or DDP"
            )
        if self.config.batch_size % self.world:
            raise ConfigError(
                f"train.batch_size is {self.config.batch_size}; it must be a multiple "
                f"of the number of processes, which is {self.world}"
            )

    # ---- one step ------------------------------------------------------------

    def step(
        self,
        batch: Batch,
        *,
        step: int,
        lr: float,
        noise: Noise,
        stop: Callable[[], bool],
    ) -> StepResult:
        """Do one optimiser step on this process's rows of a global batch.

        The gradient is that of the summed loss over the free tokens of the *global*
        batch, or over what the module's ``count(batch)`` returns, summed: neither the
        number of processes nor how a batch is cut for accumulation changes a weight.

        Args:
            batch: the rows.
            step: optimiser steps done before.
            lr: the learning rate.
            noise: the run's generator.
            stop: tells whether this process was asked to stop.

        Raises:
            TrainingError: if the loss or the gradient is not finite.
        """
        rows = self.rank * len(batch) + torch.arange(len(batch))
        parts = [
            (batch.select(cut).to(self.device), rows[cut].to(self.device))
            for cut in self._cuts(len(batch))
        ]
        counted = getattr(self.module, "count", None)
        mine = batch.free.sum() if counted is None else counted(batch)
        free, divisor = sum_over_processes(
            [float(batch.free.sum()), float(mine)], self.device
        )
        if (free if counted is None else divisor) == 0:
            raise TrainingError(
                f"step {step + 1}: the batch has no free token to learn"
            )
        losses = []
        for index, (part, its_rows) in enumerate(parts):
            draw = Draw(
                noise=noise, rows=its_rows, of=self.config.batch_size, step=step
            )
            loss = self._forward_backward(
                part,
                draw,
                dropout=noise.child("dropout", step, index, self.rank),
                scale=self.world / divisor,  # gradients are averaged over processes
                last=index == len(parts) - 1,
            )
            losses.append(loss)

        total, count, stops = sum_over_processes(
            [
                float(sum(loss.total.detach().double() for loss in losses)),
                float(sum(loss.count for loss in losses)),
                float(stop()),
            ],
            self.device,
        )
        if not math.isfinite(total):
            self._refuse("loss", step, [part for part, _ in parts], losses)
        # A task may count otherwise than it told before.
        norm = self._update(lr, rescale=divisor / count if count > 0 else 1.0)
        if not math.isfinite(norm) and self.accelerator.scaler is None:
            self._refuse("gradient", step, [part for part, _ in parts], losses)
        if self.ema is not None:
            self.ema.update()
        extra = self._means(parts, losses)
        return StepResult(total, max(count, 1.0), int(free), norm, stops > 0, extra)

    def _means(
        self, parts: list[tuple[Batch, Tensor]], losses: list[Loss]
    ) -> dict[str, float]:
        """Return the means over the rows of the global batch of `Loss.extra`."""
        names = sorted(losses[0].extra)
        if not names:
            return {}
        sums = [
            sum(
                float(loss.extra[name]) * len(part)
                for (part, _), loss in zip(parts, losses, strict=True)
            )
            for name in names
        ]
        rows = float(sum(len(part) for part, _ in parts))
        *totals, everyone = sum_over_processes([*sums, rows], self.device)
        return {n: value / everyone for n, value in zip(names, totals, strict=True)}

    def _cuts(self, rows: int) -> list[slice]:
        """Return the slices of near-equal size that accumulation works through."""
        count = math.ceil(rows / (self.config.micro_batch or rows))
        edges = [index * rows // count for index in range(count + 1)]
        return [slice(*edge) for edge in itertools.pairwise(edges)]

    def _forward_backward(
        self, part: Batch, draw: Draw, *, dropout: Noise, scale: float, last: bool
    ) -> Loss:
        """Add the gradient of ``scale * total``; synchronise it if it is the last."""
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            with global_seed(dropout):
                loss: Loss = self.model(part, draw)
            self.accelerator.backward(loss.total * scale)
        return loss

    def _update(self, lr: float, *, rescale: float) -> float:
        """Clip, step, clear; return the norm before clipping.

        If the norm is not finite and no scaler watches for that, there is no step.
        """
        if rescale != 1.0:
            scale_gradients(self.module, rescale)
        norm = self.accelerator.clip_grad_norm_(
            self.module.parameters(), self.config.clip or math.inf
        )
        if hasattr(norm, "full_tensor"):
            norm = norm.full_tensor()
        if self.accelerator.scaler is None and not math.isfinite(float(norm)):
            return float(norm)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _refuse(
        self, what: str, step: int, parts: list[Batch], losses: list[Loss]
    ) -> None:
        ids = gather_lists(_culprits(parts, losses))
        shown = ", ".join(str(i) for i in ids[:8]) + (", ..." if len(ids) > 8 else "")
        raise TrainingError(
            f"the {what} of step {step + 1} is not finite (rows with sample_id {shown}"
            f"); nothing was saved after the last checkpoint. Lower train.lr, raise "
            f"train.warmup, or use train.precision=fp32"
        )

    # ---- what is saved -------------------------------------------------------

    files: ClassVar[tuple[str, ...]] = (MODEL, OPTIMIZER)
    """What `restore` wants besides the averaged weights."""

    def write_more(self, place: Path) -> None:
        """Write what is no named tensor to a checkpoint's folder; here nothing."""

    def read_more(self, place: Path) -> None:
        """Read what `write_more` wrote."""

    def weights(self) -> dict[str, Tensor]:
        """Return the weights, whole, on the CPU; every process must call it."""
        return live.collect(live.named_tensors(self.module))

    def collect(self) -> dict[str, dict[str, Tensor]]:
        """Return everything a checkpoint holds, whole, on the CPU.

        Every process must call it.
        """
        tensors = {
            MODEL: self.weights(),
            OPTIMIZER: live.collect_optimizer(self.optimizer.optimizer, self.module),
        }
        if self.ema is not None:
            tensors[EMA] = live.collect(self.ema.weights)
        return tensors

    def restore(self, tensors: Mapping[str, Mapping[str, Tensor]], what: str) -> None:
        """Put back what `collect` returned.

        Raises:
            CheckpointError: if it belongs to another model.
        """
        live.restore(live.named_tensors(self.module), tensors[MODEL], what)
        live.restore_optimizer(
            self.optimizer.optimizer, self.module, tensors[OPTIMIZER], what
        )
        if self.ema is not None:
            live.restore(self.ema.weights, tensors[EMA], f"{what} (its EMA)")

    @contextmanager
    def averaged(self, twin: nn.Module | None = None) -> Iterator[nn.Module]:
        """Yield the module with its averaged weights, in evaluation mode.

        Args:
            twin: a new, whole module of the same kind, needed if this one is sharded.
        """
        if twin is not None:
            values = self.weights()
            if self.ema is not None:
                values |= live.collect(self.ema.weights)
            live.load(twin, values)
            yield twin.to(self.device).eval()
            return
        swap = self.ema.swapped(self.module) if self.ema else nullcontext()
        with swap, evaluating(self.module):
            yield self.module

    def counters(self) -> dict[str, Any]:
        """Return what else a checkpoint holds: EMA's count, fp16's loss scale."""
        scaler = self.accelerator.scaler
        return {
            "ema_updates": self.ema.updates if self.ema else 0,
            "scaler": None if scaler is None else dict(scaler.state_dict()),
        }

    def restore_counters(self, saved: Mapping[str, Any]) -> None:
        """Put back what `counters` returned."""
        if self.ema is not None:
            self.ema.updates = int(saved["ema_updates"])
        if saved["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(dict(saved["scaler"]))


def _culprits(parts: list[Batch], losses: list[Loss]) -> list[int]:
    """Return the ids of the rows whose loss is not finite, or of all if none is."""
    found: list[int] = []
    for part, loss in zip(parts, losses, strict=True):
        wrong = loss.masked.nonzero()[:, 0][~loss.nll.isfinite()] % len(part)
        found += part.sample_id[sorted(set(wrong.tolist()))].tolist()
    return found or [i for part in parts for i in part.sample_id.tolist()]
