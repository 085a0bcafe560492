"""The model that a trained one is held to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_core.errors import CheckpointError
from mdlm_core.kernels.modes import evaluating
from mdlm_core.protocols import Backbone
from mdlm_core.train.state import like, whole
from mdlm_llada.lora import adapters


class Reference(nn.Module):
    """A backbone as it was: when the task built it, or when `follow` was last called.

    Without adapters it is a copy that is never trained. A model with adapters is
    its own reference, with the adapters as they were: off if they do not move, so that
    nothing is kept at all.

    A copy that does not move is what the task builds again, so that checkpoints do not
    hold it (`external_tensors`), but a checksum of it.
    """

    checksum: Tensor

    def __init__(self, backbone: nn.Module, *, moves: bool = False) -> None:
        """Keep the backbone as it is now.

        Args:
            backbone: what is trained; it is no part of this module.
            moves: whether `follow` will be called.
        """
        super().__init__()
        self.moves = moves
        self.copy: nn.Module | None = None
        self._built: int | None = None
        if not adapters(backbone):
            self.copy = deepcopy(backbone).requires_grad_(False)
            if not moves:
                held = self.copy.state_dict()
                self.external_tensors = frozenset(f"copy.{name}" for name in held)
                self._built = sum(map(_checksum, held.values()))
                self.register_buffer("checksum", torch.tensor(self._built))
        elif moves:
            for index, value in enumerate(_learned(backbone).values()):
                self.register_buffer(f"kept_{index}", value.detach().clone())
        self.eval()

    def train(self, mode: bool = True) -> Reference:
        """Stay in evaluation mode, whatever the module around it does."""
        super().train(False)
        return self

    @contextmanager
    def of(self, backbone: nn.Module) -> Iterator[Backbone]:
        """Yield the reference of `backbone`, without gradients and dropout.

        If the two share weights, `backbone` is the reference inside the block.

        Raises:
            CheckpointError: if the run was resumed with another reference.
        """
        if self._built is not None and int(self.checksum) != self._built:
            raise CheckpointError(
                "the weights that the run began with, which it is held to, are not "
                "those of model.path any more; bring them back, or start a new run "
                "with another --out"
            )
        with torch.no_grad():
            if self.copy is not None:
                yield cast("Backbone", self.copy)
                return
            with evaluating(backbone), self._as_it_was(backbone):
                yield cast("Backbone", backbone)

    @contextmanager
    def _as_it_was(self, backbone: nn.Module) -> Iterator[None]:
        if not self.moves:
            with _without_adapters(backbone):
                yield
            return
        learned = _learned(backbone)
        own = [value.detach().clone() for value in learned.values()]
        try:
            for index, value in enumerate(learned.values()):
                value.copy_(like(self.get_buffer(f"kept_{index}"), value))
            yield
        finally:
            for value, before in zip(learned.values(), own, strict=True):
                value.copy_(before)

    @torch.no_grad()
    def follow(self, backbone: nn.Module) -> None:
        """Become what `backbone` is now; all processes call it together."""
        if self.copy is not None:
            values = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
            mine = dict(self.copy.named_parameters()) | dict(self.copy.named_buffers())
            for name, value in mine.items():
                value.copy_(values[name])
            return
        for index, value in enumerate(_learned(backbone).values()):
            self.get_buffer(f"kept_{index}").copy_(whole(value))


def _checksum(value: Tensor) -> int:
    """Return a number of 48 bits that depends on every bit of a tensor."""
    bits = value.detach().contiguous().flatten().view(torch.uint8)
    odd = -bits.numel() % 2  # such a tensor is of single bytes
    words = torch.nn.functional.pad(bits, (0, odd)).view(torch.int16)
    return int(words.sum(dtype=torch.int64)) % 2**48


def _learned(backbone: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are trained, by name."""
    return {n: p for n, p in backbone.named_parameters() if p.requires_grad}


@contextmanager
def _without_adapters(backbone: nn.Module) -> Iterator[None]:
    """Switch the adapters off inside the block."""
    layers: list[Any] = list(adapters(backbone).values())
    learned = _learned(backbone).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for value in learned:
            value.requires_grad_(True)
