"""Fill masks in rows of alignments, canvas by canvas and window by window.

Letters: n canvases, N rows of a canvas, L columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import MdlmError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Sampler, Schedule
from mdlm_core.samplers.text import device_of
from mdlm_msa.alphabet import MASK, TOKENS, Ids
from mdlm_msa.config import GenerationConfig
from mdlm_msa.layout import Canvas, batch, rows_of, size

from .canvases import Window
from .denoise import ColumnDenoiser

View = Callable[[int, list[Ids]], None]
"""Told, after every change, the number of changes and the rows ``(N, L)`` of each
canvas as they are now; `MASK` where nothing is written yet."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A model with all that decides what it writes."""

    backbone: Backbone
    schedule: Schedule
    sampler: Sampler
    config: GenerationConfig
    allowed: NDArray[np.bool_]
    """``(L, V)``: the ids that may be drawn in each column."""
    windows: Sequence[Window]
    noise: Noise
    view: View | None = None

    def write(self, canvases: Sequence[Canvas], ids: Sequence[int]) -> list[Ids]:
        """Return the rows ``(N, L)`` of each canvas, with all masks filled.

        Args:
            canvases: rows with masks; only below the `given` ones are they filled.
            ids: one for each canvas, which keys its draws: a canvas comes out the same
                whatever the others are.

        Raises:
            MdlmError: if a sampler wrote what is not allowed, or changed what was
                given.
        """
        return self.evaluated(canvases, ids)[0]

    def evaluated(
        self, canvases: Sequence[Canvas], ids: Sequence[int]
    ) -> tuple[list[Ids], NDArray[np.int64]]:
        """Return the rows, see `write`, and the forward passes ``(n,)`` of each."""
        rows = [canvas.rows.copy() for canvas in canvases]
        passes = np.zeros(len(rows), np.int64)
        keys = torch.tensor(list(ids))
        for number, window in enumerate(self.windows):
            passes += self._window(rows, canvases, keys, number, window)
        for index, (canvas, after) in enumerate(zip(canvases, rows, strict=True)):
            self._check(canvas, after, ids[index])
        return rows, passes

    def _window(
        self,
        rows: list[Ids],
        canvases: Sequence[Canvas],
        keys: Tensor,
        number: int,
        window: Window,
    ) -> NDArray[np.int64]:
        """Fill one window of all canvases, in place."""
        part = slice(window.start, window.stop)
        columns = window.stop - window.start
        pieces = [
            Canvas(
                mine[:, part],
                canvas.given,
                None if canvas.support is None else canvas.support[:, part],
            )
            for mine, canvas in zip(rows, canvases, strict=True)
        ]
        sizes = [size(*piece.rows.shape) for piece in pieces]
        laid = batch(pieces, keys).to(device_of(self.backbone))

        def seen(step: int, tokens: Tensor) -> None:
            assert self.view is not None
            now = [mine.copy() for mine in rows]
            for mine, line, length in zip(now, tokens.cpu(), sizes, strict=True):
                mine[:, part] = rows_of(line[:length], columns)
            self.view(step, now)

        found = self.sampler(
            ColumnDenoiser.of(self.backbone, self.allowed[part], self.config),
            laid,
            schedule=self.schedule,
            noise=self.noise.child("window", number),
            steps=self.config.steps,
            callback=None if self.view is None else seen,
        )
        self._unchanged(laid, found.tokens, columns, canvases=keys)
        for mine, piece, line, length in zip(
            rows, pieces, found.tokens.cpu(), sizes, strict=True
        ):
            written = rows_of(line[:length], columns)
            empty = piece.rows == MASK
            empty[: piece.given] = False
            mine[:, part] = np.where(empty, written, piece.rows)
        passes: NDArray[np.int64] = found.nfe.cpu().numpy()
        return passes

    def _unchanged(
        self, laid: Batch, tokens: Tensor, columns: int, *, canvases: Tensor
    ) -> None:
        """Refuse canvases ``(B, L)`` that differ where there was nothing to write."""
        given = laid.frozen | (laid.tokens != MASK)
        wrong = (tokens != laid.tokens) & given & ~laid.pad
        if not bool(wrong.any()):
            return
        b, j = wrong.nonzero()[0].tolist()
        row, column = divmod(max(0, j - 1), columns + 1)
        where = f"column {column} of row {row}" if j and column else "a special token"
        raise MdlmError(
            f"canvas {int(canvases[b])}: the sampler '{self.config.sampler}' changed "
            f"{where} from '{TOKENS[laid.tokens[b, j]]}' to '{TOKENS[tokens[b, j]]}', "
            f"where there was nothing to write; take another sampler"
        )

    def _check(self, canvas: Canvas, after: Ids, number: int) -> None:
        """Refuse what is not allowed where it was written."""
        empty = canvas.rows == MASK
        empty[: canvas.given] = False
        column = np.broadcast_to(np.arange(after.shape[1]), after.shape)
        wrong = empty & ~self.allowed[column, after]
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            raise MdlmError(
                f"canvas {number}: the sampler '{self.config.sampler}' wrote "
                f"'{TOKENS[after[row, place]]}' in column {place + 1} of row {row}, "
                f"which is not allowed there; it does not ask its denoiser for laws, "
                f"so take another sampler"
            )
