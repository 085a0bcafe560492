"""Rotary positions: queries and keys turn by angles that grow with the position.

Letters: B batch, N tokens, H heads, K head size, R entries that turn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .key_values import Places

Angles = tuple[Tensor, Tensor]
"""Cosine and signed sine, each ``(B or 1, 1, N, R)`` float32."""

_KEPT = 4096
"""Positions in the first table; a longer row makes a longer one."""


class Rotary:
    """The angles of a model, from a table that is made once for each device.

    Plane k of a head is spanned by its entries k and k + R/2 and turns by ``position
    * theta^(-2k / R)`` (Su et al., 2021, arXiv 2104.09864, equation 15); R is the
    rotary size, and the other entries of a head stay.
    """

    def __init__(self, size: int, theta: float) -> None:
        self.size = size
        self.theta = theta
        self._tables: dict[torch.device, Angles] = {}

    # Not traced by torch.compile: it keeps what it has made.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def angles(self, places: Places, device: torch.device) -> Angles:
        """Return the angles at `places`.

        Args:
            places: one run of positions for all rows, or ``(B or 1, N)`` int64.
            device: where the angles are needed.
        """
        if isinstance(places, slice):
            cos, sin = self._table(places.stop, device)
            return cos[:, :, places], sin[:, :, places]
        count = int(places.max()) + 1 if places.numel() else 1
        cos, sin = self._table(count, device)
        return cos[0, 0][places][:, None], sin[0, 0][places][:, None]

    def _table(self, count: int, device: torch.device) -> Angles:
        """Return the angles of positions 0 to `count` - 1, or more."""
        table = self._tables.get(device)
        if table is None or table[0].shape[2] < count:
            size = max(_KEPT, 1 << (count - 1).bit_length())
            with torch.inference_mode(False):
                table = self._make(size, device)
            self._tables[device] = table
        return table

    def _make(self, count: int, device: torch.device) -> Angles:
        # On the CPU, so that the angles are the same on every device.
        exponents = torch.arange(0, self.size, 2, device="cpu").float() / self.size
        frequencies = 1.0 / self.theta**exponents
        turns = torch.arange(count, device="cpu").float()[:, None] * frequencies
        cos, sin = turns.cos(), turns.sin()  # (count, R/2)
        cos = torch.cat((cos, cos), dim=-1)
        sin = torch.cat((-sin, sin), dim=-1)
        return cos[None, None].to(device), sin[None, None].to(device)

    def __getstate__(self) -> dict[str, object]:
        """Leave the tables out of copies; they are made again when needed."""
        return {"size": self.size, "theta": self.theta, "_tables": {}}


def rotate(x: Tensor, by: Angles) -> Tensor:
    """Turn `x` ``(B, H, N, K)``; products in float32, the result in the type of `x`."""
    cos, sin = by
    size = cos.shape[-1]
    turning = x if size == x.shape[-1] else x[..., :size]
    low, high = turning.chunk(2, dim=-1)
    # The sine carries the sign of the half that it meets.
    turned = turning * cos
    turned += torch.cat((high, low), dim=-1) * sin
    turned = turned.to(x.dtype)
    if size == x.shape[-1]:
        return turned
    return torch.cat((turned, x[..., size:]), dim=-1)
