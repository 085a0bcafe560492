"""Answers while they are being written: drafts, and tokens that stay.

The protocol is that of transformers' `TextDiffusionStreamer`, which can be used here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol, TextIO

import torch
from torch import Tensor

from mdlm_core.protocols import Tokenizer
from mdlm_core.samplers.live import printable

_SAVE, _BACK, _DRAFT, _PLAIN = "\0337", "\0338\033[J", "\033[33m", "\033[0m"
_UNFINISHED = "�"


class Streamer(Protocol):
    """What is told how an answer grows."""

    def put(self, value: Tensor) -> None:
        """Take tokens ``(n,)`` that stay: first the prompt, then block after block."""
        ...

    def put_draft(self, value: Tensor) -> None:
        """Take a draft ``(n,)`` of what follows; the next one replaces it."""
        ...

    def end(self) -> None:
        """The answer is complete."""
        ...


class Relay:
    """Tells a streamer of one answer what an observer of `decode` sees.

    Args:
        streamer: is told.
        prompt: the ids of the prompt.
        mask_id: what stands where nothing is proposed yet.
        ends: ids that end an answer; what follows one is not told.
    """

    def __init__(
        self,
        streamer: Streamer,
        prompt: Sequence[int],
        *,
        mask_id: int,
        ends: Sequence[int],
    ) -> None:
        self.streamer = streamer
        self.mask_id = mask_id
        self.ends = set(ends)
        self.told = len(prompt)
        self.ended = False
        streamer.put(torch.tensor(prompt, dtype=torch.int64))

    def __call__(self, tokens: Tensor, draft: Tensor, settled: Tensor) -> None:
        """Take canvas and draft ``(1, L)``, and what is settled ``(1,)``."""
        until = int(settled[0])
        if until > self.told and not self.ended:
            self._put(tokens[0, self.told : until].tolist())
            self.told = until
        rest = draft[0, self.told :]
        proposed = int((rest != self.mask_id).long().cumprod(0).sum())
        if proposed and not self.ended:
            self.streamer.put_draft(rest[:proposed].cpu())

    def end(self) -> None:
        """Say that the answer is complete."""
        self.streamer.end()

    def _put(self, ids: list[int]) -> None:
        """Tell tokens that stay, up to the end of the answer."""
        stop = next((i for i, id_ in enumerate(ids) if id_ in self.ends), len(ids))
        self.ended = stop < len(ids)
        if stop:
            self.streamer.put(torch.tensor(ids[:stop]))


class TextStreamer:
    """Prints an answer while it grows; on a terminal with its drafts in yellow.

    Args:
        tokenizer: decodes.
        file: where to print; standard output if not given.
        drafts: whether drafts are shown; None means on a terminal only.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        file: TextIO | None = None,
        drafts: bool | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.file = sys.stdout if file is None else file
        self.terminal = self.file.isatty()
        self.drafts = self.terminal if drafts is None else drafts
        self._ids: list[int] = []
        self._printed = 0
        self._drafted = False
        self._begun = False

    def put(self, value: Tensor) -> None:
        """Print what is new; the first tokens are the prompt and are not printed."""
        if not self._begun:
            self._begun = True
            return
        self._clear()
        self._ids += value.flatten().tolist()
        text = self.tokenizer.decode(self._ids)
        # The last character may be of bytes of which some are still to come.
        self._print(text.rstrip(_UNFINISHED)[self._printed :])

    def put_draft(self, value: Tensor) -> None:
        """Show a draft in the place of the last one."""
        if not self.drafts:
            return
        self._clear()
        ids = [*self._ids, *value.flatten().tolist()]
        text = self._shown(self.tokenizer.decode(ids)[self._printed :])
        self.file.write(f"{_SAVE}{_DRAFT}{text}{_PLAIN}")
        self.file.flush()
        self._drafted = True

    def end(self) -> None:
        """Print what is left, and a line break."""
        self._clear()
        self._print(self.tokenizer.decode(self._ids)[self._printed :] + "\n")
        self._ids, self._printed, self._begun = [], 0, False

    def _print(self, text: str) -> None:
        self.file.write(self._shown(text))
        self.file.flush()
        self._printed += len(text)

    def _shown(self, text: str) -> str:
        return printable(text) if self.terminal else text

    def _clear(self) -> None:
        if self._drafted:
            self.file.write(_BACK)
            self._drafted = False
