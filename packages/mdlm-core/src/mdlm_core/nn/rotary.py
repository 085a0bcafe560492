"""Rotary positions: queries and keys turn by angles that grow with the position.

Letters: B batch, L length, H heads, K head size, P position axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_core.errors import ConfigError

Angles = tuple[Tensor, Tensor]
"""Cosine and sine, each ``(B or 1, L, 1, 1, K/2)`` float32."""


def angles(positions: Tensor, head_size: int, *, base: float = 10000.0) -> Angles:
    """Return the cosines and sines of the rotation at each position.

    A head has K/2 planes; plane k of an axis turns by ``position * base^(-k / n)``,
    where n = K / (2 P) is the number of planes that each of the P axes gets (Su et
    al., 2021, arXiv 2104.09864, equation 15, for one axis).

    Args:
        positions: ``(B or 1, L, P)``, any integer or real type.
        head_size: K, a multiple of 2 P.
        base: decides the slowest rotation.

    Raises:
        ConfigError: if the planes cannot be shared out evenly among the axes.
    """
    axes = positions.shape[-1]
    planes, rest = divmod(head_size, 2 * axes)
    if rest or not planes:
        raise ConfigError(
            f"a head of size {head_size} cannot hold {axes} position axes; width / "
            f"heads must be a multiple of {2 * axes}"
        )
    exponents = torch.arange(planes, dtype=torch.float32, device=positions.device)
    frequencies = 1.0 / base ** (exponents / planes)
    turns = (positions.float().unsqueeze(-1) * frequencies).flatten(-2)  # (B, L, K/2)
    turns = turns[:, :, None, None, :]
    return turns.cos(), turns.sin()


def rotate(x: Tensor, by: Angles) -> Tensor:
    """Turn `x` ``(B, L, any, H, K)``; plane k is spanned by entries k and k + K/2.

    The products are formed in float32, the result has the type of `x`.
    """
    cos, sin = by
    low, high = x.chunk(2, dim=-1)
    turned = (
        torch.addcmul(low * cos, high, sin, value=-1),
        torch.addcmul(high * cos, low, sin),
    )
    return torch.cat(turned, dim=-1).to(x.dtype)
