"""How far a command is, and how it is stopped. Light: imports nothing heavy."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer


class Progress:
    """Says how far it is, at most once a second if `paced`.

    Args:
        say: prints a line.
        paced: whether to leave out lines; on a terminal all are shown.
        clock: seconds.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        paced: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.say = say
        self.paced = paced
        self.clock = clock
        self.last = ""
        """What was to be said last, also if it was left out."""
        self._when = float("-inf")

    def __call__(self, text: str) -> None:
        """Say a line, or remember it."""
        self.last = text
        now = self.clock()
        if not self.paced or now - self._when >= 1:
            self.say(text)
            self._when = now


@contextmanager
def stoppable(progress: Progress, *, force: bool = False) -> Iterator[None]:
    """Say how to go on when SIGINT or SIGTERM stops what is inside.

    Args:
        progress: knows how far it is.
        force: whether --force is given, which would begin anew.

    Raises:
        typer.Exit: with 130 or 143.
    """
    caught = signal.SIGINT

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal caught
        caught = signal.SIGTERM
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        without = " without --force" if force else ""
        told = progress.last or "stopped before the first answer"
        progress.say(f"{told}; the same command{without} goes on")
        raise typer.Exit(128 + caught) from None
    finally:
        signal.signal(signal.SIGTERM, before)
