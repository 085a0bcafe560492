"""How far scoring is, and how long it will take. Light: imports nothing heavy."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

PATIENCE = 2.0
"""Seconds before anything is shown: quick work needs no bar."""
EVERY = 10.0
"""Seconds between two lines, where nobody watches a terminal."""


class Progress:
    """Shows done, of and the time left: a bar in a terminal, else a line now and then.

    It is called with how much is done and of how much, in any unit; the whole may
    shrink and grow on the way. As a context it takes its bar down at the end.

    Args:
        what: what is done, in a word or two.
        stream: where it is shown, by default standard error.
        clock: seconds.
    """

    def __init__(
        self,
        what: str,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self.stream = stream or sys.stderr
        self.clock = clock
        self._began = clock()
        self._shown = self._began + PATIENCE - EVERY
        self._bar: tqdm[Any] | None = None

    def __call__(self, done: int, of: int) -> None:
        """Show that `done` of `of` is done, if it is time to."""
        if self.stream.isatty():
            self._move(done, of)
        else:
            self._line(done, of)

    def _move(self, done: int, of: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self.what,
                file=self.stream,
                delay=PATIENCE,
                leave=False,
                dynamic_ncols=True,
                bar_format="{desc} {percentage:3.0f}% |{bar:24}| {elapsed} left "
                "{remaining}",
            )
        self._bar.total = of
        self._bar.n = done
        self._bar.update(0)
        self._bar.refresh()

    def _line(self, done: int, of: int) -> None:
        now = self.clock()
        if now - self._shown < EVERY or done >= of:
            return
        self._shown = now
        left = (now - self._began) / done * (of - done) if done else None
        tail = "" if left is None else f", left {_time(left)}"
        print(f"{self.what}: {done / of:.0%}{tail}", file=self.stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _time(seconds: float) -> str:
    """Return a duration as h:mm:ss, or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
