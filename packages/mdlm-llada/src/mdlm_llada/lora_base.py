"""The weights below adapters: a run does not save them, but it knows them again."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor, nn

from mdlm_core.errors import CheckpointError


class LoraBase(nn.Module):
    """Holds a checksum of the weights below the adapters, which is saved with them.

    Adapters are learned for one base and mean nothing on another. `check` compares the
    checksum of what was built with the one of the checkpoint. It is made when a
    state is loaded, and before the first evaluation, since a run that goes on is
    filled tensor by tensor.
    """

    checksum: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Take the checksum of `weights`, by name."""
        super().__init__()
        self._built = checksum_of(weights)
        self._checked = False
        self.register_buffer("checksum", torch.tensor(self._built))

    def check(self) -> None:
        """Refuse adapters of another base.

        Raises:
            CheckpointError: what to do.
        """
        if int(self.checksum) != self._built:
            raise CheckpointError(
                "the adapters were trained on other weights than model.path has now; "
                "bring back the checkpoint that they were trained on (its path is in "
                "the run's config.yaml), or start a new run with another --out"
            )

    def loaded(self, backbone: nn.Module, _: object) -> None:
        """Check after a state of `backbone` was loaded: a hook."""
        if self in backbone.children():  # its adapters may have been merged
            self.check()

    def before(self, *_: object) -> None:
        """Check before the first evaluation: a hook."""
        if not self._checked and not torch.compiler.is_compiling():
            self.check()
            self._checked = True


def checksum_of(weights: Mapping[str, Tensor]) -> int:
    """Return a number of 48 bits that depends on every bit and name of `weights`."""
    total = sum((crc32(n.encode()) | 1) * checksum(w) for n, w in weights.items())
    return total % 2**48


def checksum(value: Tensor) -> int:
    """Return a number of 48 bits that depends on every bit of a tensor."""
    bits = value.detach().contiguous().flatten().view(torch.uint8)
    odd = -bits.numel() % 2  # such a tensor is of single bytes
    words = torch.nn.functional.pad(bits, (0, odd)).view(torch.int16)
    return int(words.sum(dtype=torch.int64)) % 2**48
