"""Turn SIGTERM and Ctrl-C into a wish to stop, which the loop reads between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_WATCHED = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which the first signal is a wish and the second is an order.

    The first SIGINT or SIGTERM is kept in `received` and `notify` is called with its
    name; the previous handlers are then in place again, so that a second one stops
    the process at once.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.received: signal.Signals | None = None
        self._notify = notify
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        # Python lets only the main thread install handlers.
        if threading.current_thread() is threading.main_thread():
            for number in _WATCHED:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()
        self._notify(self.received.name)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
