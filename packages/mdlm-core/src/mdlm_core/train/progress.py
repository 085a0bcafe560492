"""What a person sees while a model trains: a bar in a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


class Display(Protocol):
    """Shows how far a run is."""

    def say(self, text: str) -> None:
        """Show one line that stays."""
        ...

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show the newest numbers: loss, bits_per_byte, tokens_per_second."""
        ...

    def close(self) -> None:
        """Take down what moves."""
        ...


class Silent:
    """Shows nothing: all processes but the main one, and the library's default."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """A line now and then, for logs and pipes."""

    EVERY = 10.0
    """Seconds between two lines about steps."""

    def __init__(self, start: int, steps: int) -> None:
        self._start, self._steps = start, steps
        self._began = time.monotonic()
        self._last = float("-inf")

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)  # noqa: T201

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Print the numbers, if the last ones are some seconds old."""
        now = time.monotonic()
        if now - self._last < self.EVERY and step < self._steps:
            return
        self._last = now
        done = max(1, step - self._start)
        left = (now - self._began) / done * (self._steps - step)
        self.say(f"step {step}/{self._steps}  {describe(numbers)}  left {clock(left)}")

    def close(self) -> None:
        """Do nothing: nothing moves."""


class Bar:
    """A progress bar that rewrites itself."""

    def __init__(self, start: int, steps: int) -> None:
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=Console(),
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(
            "", total=steps, completed=start, numbers=""
        )
        self._progress.start()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(Text(text), soft_wrap=True)

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step, numbers=describe(numbers))

    def close(self) -> None:
        """Stop the bar where it is."""
        self._progress.stop()


def display(start: int, steps: int) -> Bar | Lines:
    """Return a bar if somebody looks at a terminal, plain lines otherwise."""
    return Bar(start, steps) if sys.stdout.isatty() else Lines(start, steps)


def describe(numbers: Mapping[str, float]) -> str:
    """Say the numbers of a step in one line."""
    parts = []
    if "loss" in numbers:
        parts.append(f"loss {numbers['loss']:.3f}")
    for unit in ("byte", "residue"):
        if (name := f"bits_per_{unit}") in numbers:
            parts.append(f"held out {numbers[name]:.3f} bits/{unit}")
    if "tokens_per_second" in numbers:
        parts.append(f"{numbers['tokens_per_second']:,.0f} tokens/s")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as h:mm:ss, or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
