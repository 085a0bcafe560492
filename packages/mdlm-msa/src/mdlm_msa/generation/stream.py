"""Canvases in the terminal, redrawn as they fill in.

Letters: N rows of a canvas, L columns.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mdlm_msa.alphabet import MASK, Ids, decode

BLANK = "▒"
"""Shown where nothing is written yet."""


class CanvasView:
    """A `View` of `generate` that shows rows; use it as a context manager.

    On a terminal it draws the first canvas of those that are written together. Into a
    file or a pipe it writes a line for each tenth that is done, if `lines` is set.

    Args:
        rows: how many rows to show, from the query on.
        file: where to draw; standard error if not given, so that what is printed can
            still be piped.
        force: draw whatever `file` is.
        lines: say how far it is if `file` is no terminal.
    """

    def __init__(
        self,
        *,
        rows: int = 24,
        file: TextIO | None = None,
        force: bool = False,
        lines: bool = False,
    ) -> None:
        self.rows = rows
        self._file = file or sys.stderr
        self._console = Console(file=self._file, force_terminal=True if force else None)
        self.active = force or self._console.is_terminal
        self._lines = lines and not self.active
        self._said = -1
        self._first = 0
        self._live = Live(
            console=self._console, auto_refresh=False, vertical_overflow="crop"
        )

    def __call__(self, step: int, canvases: list[Ids]) -> None:
        """Show rows ``(N, L)`` of canvases after change number `step`."""
        if self.active:
            self._live.update(self.render(step, canvases), refresh=True)
        elif self._lines:
            self._say(step, canvases)

    def render(self, step: int, canvases: Sequence[Ids]) -> Text:
        """Return what is shown: what is not written yet is dim."""
        rows = canvases[0]
        left = sum(int((canvas == MASK).sum()) for canvas in canvases)
        view = Text(
            f"step {step}, {left} left on {len(canvases)} canvases"
            if len(canvases) > 1
            else f"step {step}, {left} left",
            style="bold",
        )
        for row in rows[: self.rows]:
            line = Text(letters(row), style="not bold", no_wrap=True)
            line.highlight_regex(f"{BLANK}+", "dim")
            view.append("\n").append_text(line)
        if len(rows) > self.rows:
            view.append(f"\n({len(rows) - self.rows} more rows)", style="dim")
        return view

    def _say(self, step: int, canvases: Sequence[Ids]) -> None:
        left = sum(int((canvas == MASK).sum()) for canvas in canvases)
        if step == 1:
            self._first, self._said = max(left, 1), -1
        tenth = 10 - -(-10 * left // self._first)
        if tenth > self._said:
            self._said = tenth
            print(f"step {step}: {10 * tenth} % written", file=self._file)

    def __enter__(self) -> CanvasView:
        if self.active:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.active:
            self._live.stop()


def letters(row: Ids) -> str:
    """Return a row ``(L,)`` as text, with `BLANK` for masks."""
    return decode(row).replace("*", BLANK)
