"""The loop: steps, measurements, samples and checkpoints.

Nothing that happens at a step depends on when the process started: batches, noise and
learning rate are functions of the step, and everything else is in the checkpoint. So a
run that was killed and resumed is the run that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import nn

from mdlm_core.config import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import TrainingError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.protocols import DataSource, Task

from . import checkpoint
from .engine import Engine
from .folder import RunFolder, fingerprint
from .metrics import MetricsFile
from .optim import learning_rate
from .processes import on_main
from .progress import Display, Silent


@dataclass(slots=True)
class Progress:
    """What a run has to remember between two steps, besides tensors."""

    step: int = 0
    """Optimiser steps done."""
    tokens: int = 0
    """Free tokens seen."""
    seconds: float = 0.0
    """Spent in optimiser steps."""
    window: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Loss, what it is divided by, and seconds since the last line of metrics."""
    window_tokens: int = 0
    """Free tokens since then."""
    held_out: dict[str, float] = field(default_factory=dict)
    """The task's numbers of the last measurement."""
    measured: int = -1
    """The step of `held_out`."""
    best: float | None = None
    """The least held-out loss so far."""
    worse: int = 0
    """Measurements since then."""


class Loop:
    """Everything of a run that is going on."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        engine: Engine,
        source: DataSource,
        task: Task,
        *,
        facts: dict[str, Any],
    ) -> None:
        """Set up at step 0; `restore` goes on from a checkpoint.

        Args:
            config: the settings.
            folder: the run folder, claimed.
            engine: module and optimiser.
            source: the data.
            task: measures and samples.
            facts: what else each checkpoint records: precision, versions.
        """
        self.config, self.folder, self.engine = config, folder, engine
        self.source, self.task, self.facts = source, task, facts
        self.noise = Noise(config.seed).child("train")
        self.progress = Progress()
        self.display: Display = Silent()
        self.metrics: MetricsFile | None = None

    def restore(self, start: Path, saved: dict[str, Any]) -> None:
        """Go on from the checkpoint in `start`, whose state is `saved`.

        Raises:
            CheckpointError: if it belongs to another model.
        """
        names = [*self.engine.files, *([checkpoint.EMA] if self.engine.ema else [])]
        tensors = {name: checkpoint.read_tensors(start, name) for name in names}
        self.engine.restore(tensors, f"checkpoint '{start}'")
        self.engine.read_more(start)
        self.engine.restore_counters(saved)
        self.progress = Progress(**saved["progress"])

    def run(self, asked_to_stop: Callable[[], bool]) -> list[str]:
        """Train to the last step, or until asked to stop; return the last samples.

        Raises:
            TrainingError: if the loss is not finite, or the data ends.
        """
        train, progress = self.config.train, self.progress
        batches = self._batches()
        texts: list[str] = []

        def due(every: int | str) -> bool:
            assert not isinstance(every, str)  # `in_steps` has said it in steps
            done = progress.step == train.steps or self.has_stalled()
            return done or (every > 0 and progress.step % every == 0)

        if train.eval_start and progress.step == 0 and progress.measured < 0:
            self._measure()
            self._save()
        while progress.step < train.steps and not self.has_stalled():
            stopped = self._step(next(batches), asked_to_stop)
            if due(train.log_every):
                self._log()
            if due(train.eval_every):
                self._measure()
            if due(train.sample_every):
                texts = self._sample()
            if stopped or due(train.save_every) or self._is_good():
                self._save()
            if stopped:
                break
        return texts

    def has_stalled(self) -> bool:
        """Whether measurements have stopped getting better; see `TrainConfig`."""
        patience = self.config.train.patience
        return 0 < patience <= self.progress.worse

    # ---- parts of a step -----------------------------------------------------

    def _batches(self) -> Iterator[Batch]:
        yield from self.source.batches(
            "train",
            size=self.config.train.batch_size,
            seed=self.config.seed,
            start=self.progress.step,
            rank=self.engine.rank,
            world=self.engine.world,
        )
        raise TrainingError(
            f"the data ended after step {self.progress.step} of "
            f"{self.config.train.steps}; lower train.steps, or give more data"
        )

    def _step(self, batch: Batch, asked_to_stop: Callable[[], bool]) -> bool:
        train, progress, window = self.config.train, self.progress, self.progress.window
        began = perf_counter()
        advance = getattr(self.engine.module, "advance", None)
        if advance is not None:
            advance(progress.step, train.steps)
        self.rate = learning_rate(progress.step, train)
        result = self.engine.step(
            batch,
            step=progress.step,
            lr=self.rate,
            noise=self.noise,
            stop=asked_to_stop,
        )
        self.grad_norm, self.extra = result.grad_norm, result.extra
        seconds = perf_counter() - began
        progress.step += 1
        progress.tokens += result.tokens
        progress.seconds += seconds
        window[0] += result.total
        window[1] += result.count
        window[2] += seconds
        progress.window_tokens += result.tokens
        speed = progress.window_tokens / window[2]
        self.display.update(
            progress.step,
            {"loss": window[0] / window[1], "tokens_per_second": speed}
            | {k: v for k, v in progress.held_out.items() if k == "bits_per_byte"},
        )
        return result.stop

    def _log(self) -> None:
        total, count, seconds = self.progress.window
        tokens = self.progress.window_tokens
        self.progress.window, self.progress.window_tokens = [0.0, 0.0, 0.0], 0
        self._write(
            "train",
            {
                "loss": total / count,
                "lr": self.rate,
                "grad_norm": self.grad_norm,
                "tokens": self.progress.tokens,
                "seconds": self.progress.seconds,
                "tokens_per_second": tokens / seconds,
                **self.extra,
            },
        )

    def _write(self, kind: str, numbers: dict[str, float]) -> None:
        step = self.progress.step
        if self.metrics is not None:
            self.metrics.write({"step": step, "kind": kind, **numbers})
        tracked = {f"{kind}/{name}": value for name, value in numbers.items()}
        self.engine.accelerator.log(tracked, step=step)

    # ---- measuring and showing -----------------------------------------------

    @contextmanager
    def _averaged(self) -> Iterator[nn.Module]:
        """Yield a whole module with the averaged weights, in evaluation mode."""
        twin = None
        if self.engine.sharded:
            with global_seed(Noise(self.config.seed).child("init")):  # as it began
                twin = self.task.build(self.source)
        with self.engine.averaged(twin) as module:
            yield module

    def _measure(self) -> None:
        progress = self.progress
        with self._averaged() as module:
            progress.held_out = dict(self.task.evaluate(module, self.source))
        progress.measured = progress.step
        value = self._score()
        if value is not None and (progress.best is None or value < progress.best):
            progress.best, progress.worse = value, 0
        else:
            progress.worse += 1
        self._write("validation", progress.held_out)
        self.display.say(f"step {progress.step}: {held_out_text(progress.held_out)}")

    def _sample(self) -> list[str]:
        with self._averaged() as module:
            texts = on_main(
                lambda: self.task.samples(module, self.source, seed=self.config.seed)
            )
        if texts:
            on_main(lambda: self.folder.write_samples(self.progress.step, texts))
        return texts

    # ---- saving --------------------------------------------------------------

    def _score(self) -> float | None:
        if self.progress.measured != self.progress.step:
            return None
        value = self.progress.held_out.get("loss", math.nan)
        return value if math.isfinite(value) else None

    def _is_good(self) -> bool:
        """Whether this step was measured, and is one of the best so far."""
        value = self._score()
        return value is not None and on_main(
            lambda: checkpoint.is_among_best(
                self.folder.checkpoints, value, self.config.train.keep_best
            )
        )

    def _save(self) -> None:
        place = self.folder.checkpoints
        tensors = self.engine.collect()  # by all processes together
        self.engine.write_more(checkpoint.temporary(place, self.progress.step))
        state = {
            "score": self._score(),
            "progress": asdict(self.progress),
            "world": self.engine.world,
            "length": self.source.length,
            "settings": fingerprint(self.config),
            **self.engine.counters(),
            **self.facts,
        }

        def write() -> None:
            train, step = self.config.train, self.progress.step
            checkpoint.write_checkpoint(place, step, tensors, state)
            checkpoint.rotate(
                place, step, keep_last=train.keep_last, keep_best=train.keep_best
            )

        on_main(write)


_OWN_UNIT = "nats_per_"


def held_out_text(numbers: dict[str, float]) -> str:
    """Say a task's held-out numbers in one line, each with its standard error.

    "loss" is in nats per token, unless there is a log-loss or a number whose name says
    the unit, such as "nats_per_row": then it is what the task chooses by, and not said.
    """
    parts = []
    own = [name for name in numbers if name.startswith(_OWN_UNIT)]
    if own or "log_loss" in numbers:
        numbers = {name: n for name, n in numbers.items() if name != "loss"}
    for name, unit in (
        ("bits_per_byte", "bits/byte"),
        ("bits_per_residue", "bits/residue"),
        *((name, f"nats/{name.removeprefix(_OWN_UNIT)}") for name in own),
        ("loss", "nats/token"),
        ("log_loss", "log-loss"),
        ("perplexity", "perplexity"),
    ):
        if name in numbers:
            error = numbers.get(f"{name}_se")
            shown = f"{numbers[name]:.4f}"
            shown += f" ± {error:.4f}" if error is not None else ""
            parts.append(f"{shown} {unit}")
    if "accuracy" in numbers:
        parts.append(f"{numbers['accuracy']:.1%} right")
    return "held out " + (", ".join(parts) or "nothing")
