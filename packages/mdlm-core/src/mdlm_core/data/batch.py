"""The one batch: it goes unchanged from data to objective to sampler.

Letters: B batch, L length, P position axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Rows of token ids and what is known about them."""

    tokens: Tensor
    """``(B, L)`` int64."""
    frozen: Tensor
    """``(B, L)`` bool: never noised, never scored, never sampled. Holds `pad`."""
    pad: Tensor
    """``(B, L)`` bool: nothing is there, and attention must not see it."""
    sample_id: Tensor
    """``(B,)`` int64: identifies the row; with `epoch` it keys the row's noise."""
    positions: Tensor | None = None
    """``(B, L, P)`` int64 for P position axes; None means one axis, 0 to L - 1."""
    documents: Tensor | None = None
    """``(B, L)`` int64: attention stays among equal values; None means no walls."""
    condition: Mapping[str, Tensor] = field(default_factory=dict)
    """Named tensors with leading dimension B: labels, traits, features."""
    epoch: int = 0
    """Which pass over the data this is."""

    @classmethod
    def of(
        cls,
        tokens: Tensor,
        *,
        frozen: Tensor | None = None,
        pad: Tensor | None = None,
        sample_id: Tensor | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        condition: Mapping[str, Tensor] | None = None,
        epoch: int = 0,
    ) -> Batch:
        """Fill in what is not given: nothing frozen, no padding, ids 0 to B - 1."""
        none = torch.zeros_like(tokens, dtype=torch.bool)
        pad = none if pad is None else pad
        return cls(
            tokens=tokens,
            frozen=pad if frozen is None else frozen | pad,
            pad=pad,
            sample_id=torch.arange(len(tokens), device=tokens.device)
            if sample_id is None
            else sample_id,
            positions=positions,
            documents=documents,
            condition=dict(condition or {}),
            epoch=epoch,
        )

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """L."""
        return self.tokens.shape[1]

    @property
    def free(self) -> Tensor:
        """``(B, L)`` bool: the positions that are noised, scored and sampled."""
        return ~self.frozen

    def with_tokens(self, tokens: Tensor) -> Batch:
        """Return the same batch over another canvas ``(B, L)``."""
        return replace(self, tokens=tokens)

    def select(self, rows: Tensor | slice) -> Batch:
        """Return the rows `rows`, an index, a mask or a slice."""
        return self._map(lambda tensor: tensor[rows])

    @staticmethod
    def cat(batches: Sequence[Batch]) -> Batch:
        """Return the rows of several batches of one length, one after the other.

        They have the same optional fields and conditions, and the first one's epoch.
        """
        first = batches[0]

        def optional(name: str) -> Tensor | None:
            parts = [getattr(batch, name) for batch in batches]
            return None if parts[0] is None else torch.cat(parts)

        return replace(
            first,
            tokens=torch.cat([batch.tokens for batch in batches]),
            frozen=torch.cat([batch.frozen for batch in batches]),
            pad=torch.cat([batch.pad for batch in batches]),
            sample_id=torch.cat([batch.sample_id for batch in batches]),
            positions=optional("positions"),
            documents=optional("documents"),
            condition={
                name: torch.cat([batch.condition[name] for batch in batches])
                for name in first.condition
            },
        )

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        def optional(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else function(tensor)

        return replace(
            self,
            tokens=function(self.tokens),
            frozen=function(self.frozen),
            pad=function(self.pad),
            sample_id=function(self.sample_id),
            positions=optional(self.positions),
            documents=optional(self.documents),
            condition={name: function(value) for name, value in self.condition.items()},
        )
