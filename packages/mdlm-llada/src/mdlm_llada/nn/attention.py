"""Attention with a mask made once for all blocks, or none.

Letters: B batch, N queries, M keys, H heads, K head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mdlm_core.nn.attention import EAGER_LENGTH, resolve_backend

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From q ``(B, H, N, K)`` and k, v ``(B, G, M, K)`` to ``(B, H, N, K)``; G divides H
and a key head belongs to H / G query heads in a row."""


# Not traced by torch.compile: it looks at what is installed.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def attention(see: Tensor | None, like: Tensor) -> Attention:
    """Return the attention of one forward pass.

    Args:
        see: bool, broadcastable to ``(B, 1, N, M)``; True means that the query sees
            the key, and every query sees one at least. None means that all see all.
        like: any tensor with the device and type of the queries.
    """
    name = resolve_backend("auto", like.device, like.dtype)
    return _eager(see) if name == "eager" else _fused(see)


def _fused(see: Tensor | None) -> Attention:
    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if k.shape[1] == q.shape[1]:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=see)
        if see is None:
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        times = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(times, dim=1) for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=see)

    return run


def _eager(see: Tensor | None) -> Attention:
    """The products written out for short rows, SDPA for long ones."""
    hidden = None if see is None else ~see
    fused = _fused(see)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows, heads, queries, size = q.shape
        groups, keys = k.shape[1], k.shape[2]
        if queries * keys > EAGER_LENGTH**2:
            return fused(q, k, v)
        with torch.autocast(q.device.type, enabled=False):
            if k.stride(2) != size:  # heads apart: the products are faster
                k, v = k.contiguous(), v.contiguous()
            # The heads of a group are stacked, so that keys are not copied.
            stacked = (q * size**-0.5).reshape(rows, groups, -1, size)
            scores = stacked @ k.mT  # (B, G, H / G * N, M)
            if hidden is not None:
                scores = scores.view(rows, heads, queries, keys)
                scores = scores.masked_fill(hidden, -torch.inf)
                scores = scores.view(rows, groups, -1, keys)
            out: Tensor = scores.softmax(dim=-1) @ v
            return out.view(q.shape)

    return run
