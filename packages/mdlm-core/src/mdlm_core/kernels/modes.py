"""Evaluation mode for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: object) -> Iterator[None]:
    """Put a module into evaluation mode inside the block, as ``module.eval()`` does.

    Afterwards every part is in the mode it was in: a part that was in evaluation mode
    before, because it is frozen, stays there.

    Args:
        module: a backbone or any other `nn.Module`; nothing is done to other objects.
    """
    parts = list(module.modules()) if isinstance(module, nn.Module) else []
    modes = [(part, part.training) for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
