"""A live view: the canvas in the terminal, redrawn as it fills in."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch import Tensor

from mdlm_core.protocols import Tokenizer

MASK = "▒"
_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), "�")
del _CONTROL[ord("\n")], _CONTROL[ord("\t")]


def printable(text: str) -> str:
    """Return `text` with control characters replaced, safe to show in a terminal."""
    return text.translate(_CONTROL)


class LiveView:
    """A sampler's callback that shows the canvas; use it as a context manager.

    It draws to a terminal only, unless `force` says otherwise, so that it can stay
    in place when the output goes to a file.

    Args:
        tokenizer: decodes the canvas.
        rows: how many rows to show, from the first.
        file: where to draw; standard error if not given, so that what is printed
            can still be piped.
        force: draw whatever `file` is.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        rows: int = 4,
        file: TextIO | None = None,
        force: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.rows = rows
        self._console = Console(
            file=file or sys.stderr, force_terminal=True if force else None
        )
        self.active = force or self._console.is_terminal
        self._live = Live(
            console=self._console, auto_refresh=False, vertical_overflow="crop"
        )

    def __call__(self, step: int, tokens: Tensor) -> None:
        """Show the canvas ``(B, L)`` after evaluation number `step`."""
        if self.active:
            self._live.update(self.render(step, tokens), refresh=True)

    def render(self, step: int, tokens: Tensor) -> Text:
        """Return what is shown: the masks dim, one row below the other."""
        masked = int((tokens == self.tokenizer.mask_id).sum())
        view = Text(f"evaluation {step}, {masked} masked", style="bold")
        for ids in tokens[: self.rows].tolist():
            row = Text(
                printable(self.tokenizer.decode(ids, mask=MASK)), style="not bold"
            )
            row.highlight_regex(f"{MASK}+", "dim")
            view.append("\n").append_text(row)
        if len(tokens) > self.rows:
            view.append(f"\n({len(tokens) - self.rows} more rows)", style="dim")
        return view

    def __enter__(self) -> LiveView:
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
