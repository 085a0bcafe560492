"""The model that a trained one is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from mdlm_core.errors import CheckpointError
from mdlm_core.protocols import Backbone


class Reference:
    """A backbone that is never trained, read when it is first asked.

    It is no part of the module that is trained: a checkpoint does not hold it, and a
    trained model can be used where the run that it began with is not. A checkpoint has
    a checksum of it, so that a run goes on with the reference that it began with.
    """

    def __init__(self, make: Callable[[], nn.Module], run: str) -> None:
        """Take what makes it.

        Args:
            make: returns the backbone.
            run: where its weights are from, for errors.
        """
        self._make = make
        self._run = run
        self._backbone: nn.Module | None = None
        self._checksum = 0

    @contextmanager
    def of(self, checksum: Tensor) -> Iterator[Backbone]:
        """Yield the backbone where `checksum` is, without gradients and dropout.

        Args:
            checksum: int64 scalar that a checkpoint holds; negative in a new run, and
                then filled.

        Raises:
            CheckpointError: if it is that of another reference.
        """
        if self._backbone is None:
            self._backbone = self._make().requires_grad_(False).eval()
            self._checksum = checksum_of(self._backbone)
        if int(checksum) < 0:
            checksum.fill_(self._checksum)
        elif int(checksum) != self._checksum:
            raise CheckpointError(
                f"the weights that this run began with, which it is held to, are not "
                f"those of {self._run} any more; bring them back, or start a new run "
                f"with another --out"
            )
        self._backbone.to(checksum.device)
        with torch.no_grad():
            yield cast("Backbone", self._backbone)


def checksum_of(module: nn.Module) -> int:
    """Return a number of 48 bits that depends on every bit of every tensor."""
    total = 0
    for number, value in enumerate(module.state_dict().values(), start=1):
        flat = value.detach().cpu().contiguous().flatten().view(torch.uint8).long()
        place = torch.arange(len(flat)) % 65_521 + 1
        total += number * int((flat * place).sum())
    return total % 2**48
