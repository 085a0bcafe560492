"""The answers that are learned from, kept from one inner step to the next.

Letters: N prompts of the global batch, g answers to each, G their length, I inner
steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn

from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise


class Held(NamedTuple):
    """What is known about the answers to B prompts."""

    answers: Tensor
    """``(B, g, G)`` int64."""
    rewards: Tensor
    """``(B, g)`` float32."""
    old: Tensor
    """``(B, I, g, G)`` float32: log-probabilities under the model that wrote them."""
    reference: Tensor
    """``(B, I, g, G)`` float32: the same under the reference."""


class Rollouts(nn.Module):
    """Buffers with the answers of the whole global batch, the same on all processes.

    They have one shape for the whole run, so that a checkpoint in the middle of the
    inner steps holds all that the next step needs.
    """

    answers: Tensor
    rewards: Tensor
    old: Tensor
    reference: Tensor
    keys: Tensor
    """``(N,)`` int64: for which round of which generator a row was made; -1: none."""
    asked: Tensor
    """``(N,)`` int64: the sample ids of the prompts."""

    def __init__(
        self, rows: int, *, inner_steps: int, group: int, length: int, reference: bool
    ) -> None:
        """Make room.

        Args:
            rows: N.
            inner_steps: I.
            group: g.
            length: G.
            reference: whether there is one.
        """
        super().__init__()
        scores = (rows, inner_steps, group, length)
        empty = torch.full((rows,), -1, dtype=torch.int64)
        self.register_buffer("answers", torch.zeros(rows, group, length).long())
        self.register_buffer("rewards", torch.zeros(rows, group))
        self.register_buffer("old", torch.zeros(scores))
        held = scores if reference else (rows, 0, group, length)
        self.register_buffer("reference", torch.zeros(held))
        self.register_buffer("keys", empty)
        self.register_buffer("asked", empty.clone())

    def hold(self, rows: Tensor, asked: Tensor, noise: Noise) -> bool:
        """Return whether all these rows were made by `noise` for these prompts.

        Args:
            rows: ``(B,)`` indices in the global batch.
            asked: ``(B,)`` the prompts' sample ids.
            noise: the generator of a round of inner steps.

        Raises:
            UsageError: if the global batch is larger than what there is room for.
        """
        if int(rows.max()) >= len(self.keys):
            raise UsageError(
                f"row {int(rows.max())} of a global batch is learned from, but there "
                f"is room for train.batch_size={len(self.keys)} rows; make the task "
                f"with the batch size that it is trained with"
            )
        same = (self.keys[rows] == noise.integer()) & (self.asked[rows] == asked)
        return bool(same.all())

    def keep(self, rows: Tensor, asked: Tensor, noise: Noise, found: Held) -> None:
        """Write what was found for some rows; all processes call it together."""
        values = {**found._asdict(), "asked": asked}
        values["keys"] = torch.full_like(asked, noise.integer())
        touched = _summed(torch.zeros_like(self.keys).index_fill(0, rows, 1)) > 0
        for name, value in values.items():
            buffer = self.get_buffer(name)
            everyone = _summed(torch.zeros_like(buffer).index_copy(0, rows, value))
            buffer[touched] = everyone[touched]

    def of(self, rows: Tensor) -> Held:
        """Return what is known about the prompts `rows` ``(B,)``."""
        return Held(*(self.get_buffer(name)[rows] for name in Held._fields))


def _summed(value: Tensor) -> Tensor:
    """Return the sum over all processes, each of which has written rows of its own."""
    if PartialState().num_processes > 1:
        dist.all_reduce(value)
    return value
