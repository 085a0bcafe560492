"""Keys and values kept between forward passes.

Letters: B batch, N tokens, M slots, G key heads, K head size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mdlm_llada.architecture import Architecture

Places = slice | Tensor
"""Where tokens stand: one run of positions for all rows, or ``(B or 1, N)`` int64."""


class KeyValues:
    """M slots in every row and block; the token at position i has slot i.

    A forward pass with it writes the keys and values of its tokens, then attends over
    all slots. So one structure serves for a prefix that stays, for the surroundings
    of a block that is being decoded, and for the finished blocks of block diffusion.

    Attributes:
        keys: for each block of the model ``(B, G, M, K)``.
        values: the same for the values.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor]) -> None:
        self.keys = keys
        self.values = values

    @classmethod
    def empty(
        cls,
        architecture: Architecture,
        rows: int,
        slots: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> KeyValues:
        """Return zeros for `rows` rows of `slots` slots, to be written.

        A slot that has not been written must not be seen.
        """
        shape = (rows, architecture.kv_heads, slots, architecture.head_size)

        def zeros() -> list[Tensor]:
            count = range(architecture.blocks)
            return [torch.zeros(shape, device=device, dtype=dtype) for _ in count]

        return cls(zeros(), zeros())

    @property
    def rows(self) -> int:
        """B."""
        return self.keys[0].shape[0]

    @property
    def slots(self) -> int:
        """M."""
        return self.keys[0].shape[2]

    def upto(self, slots: int) -> KeyValues:
        """Return the first `slots` slots: a view, which writes to the same memory."""
        return KeyValues(
            [keys[:, :, :slots] for keys in self.keys],
            [values[:, :, :slots] for values in self.values],
        )

    def select(self, rows: Tensor) -> KeyValues:
        """Return a copy of the rows `rows`, an index or a mask."""
        return KeyValues(
            [keys[rows] for keys in self.keys],
            [values[rows] for values in self.values],
        )

    def write(self, block: int, places: Places, k: Tensor, v: Tensor) -> None:
        """Put the keys and values ``(B, G, N, K)`` of block `block` at `places`."""
        for kept, new in ((self.keys[block], k), (self.values[block], v)):
            if isinstance(places, slice):
                kept[:, :, places] = new
            else:
                rows = torch.arange(len(new), device=new.device)[:, None]
                # Indices apart from each other put (B, N) in front.
                kept[rows, :, places] = new.transpose(1, 2).to(kept.dtype)


def places_of(positions: Tensor) -> Places:
    """Return `positions` ``(B, N)`` as one slice, if all rows have the same run."""
    first, count = int(positions[0, 0]), positions.shape[1]
    run = torch.arange(first, first + count, device=positions.device)
    return slice(first, first + count) if bool((positions == run).all()) else positions
