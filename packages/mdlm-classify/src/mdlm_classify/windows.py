"""Windows of texts as batches, the long ones first. Letters: B rows, L length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch

from .data.document import Document

Rows = list[tuple[int, ...]]


def batches_of(
    documents: Sequence[Document],
    tokens: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Tensor, Rows]]:
    """Yield windows of similar length, and of which text ``(B,)`` each one is.

    Args:
        documents: the texts.
        tokens: how many a batch has, at most, padding included.
        progress: told how many tokens are done, and of how many.
    """
    windows = [
        (index, window)
        for index, document in enumerate(documents)
        for window in document.windows
        if window
    ]
    windows.sort(key=lambda row: -len(row[1]))
    of, done = sum(len(window) for _, window in windows), 0
    first = 0
    while first < len(windows):
        group = windows[first : first + max(1, tokens // len(windows[first][1]))]
        yield (
            torch.tensor([index for index, _ in group]),
            [window for _, window in group],
        )
        first += len(group)
        done += sum(len(window) for _, window in group)
        if progress is not None:
            progress(done, of)


def padded(rows: Sequence[Sequence[int]], *, device: torch.device) -> Batch:
    """Return rows of ids as a batch, padded at their ends."""
    length = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.int64)
    pad = torch.ones(len(rows), length, dtype=torch.bool)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
        pad[index, : len(row)] = False
    return Batch.of(tokens, pad=pad).to(device)
