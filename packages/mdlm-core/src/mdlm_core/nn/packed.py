"""Attention kernels that skip what nobody sees: FlexAttention and flash-attn.

Letters: B batch, L length, H heads, K head size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mdlm_core.errors import ConfigError

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From q, k, v to the output, all ``(B, H, L, K)``."""


def flex(pad: Tensor | None, documents: Tensor | None) -> Attention:
    """FlexAttention with a block mask; fused on CUDA, written out on a CPU."""
    from torch.nn.attention.flex_attention import create_block_mask

    some = documents if documents is not None else pad
    assert some is not None
    rows, length = some.shape

    def visible(b: Tensor, _: Tensor, i: Tensor, j: Tensor) -> Tensor:
        seen = j >= 0
        if documents is not None:
            seen = seen & (documents[b, i] == documents[b, j])
        if pad is not None:
            seen = seen & ~pad[b, j]
        return seen

    mask = create_block_mask(visible, rows, None, length, length, device=some.device)
    fused = some.device.type == "cuda"
    function = _flex_function(fused=fused)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = function(q, k, v, block_mask=mask)
        return out

    def run_unfused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if torch.is_grad_enabled() and q.requires_grad:
            raise ConfigError(
                f"model.attention=flex has no gradients on {q.device.type}: set "
                "model.attention=sdpa to train here"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*without torch.compile.*")
            return run(q, k, v)

    return run if fused else run_unfused


@lru_cache
def _flex_function(*, fused: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    function: Any = flex_attention
    return torch.compile(function) if fused else function


def flash(pad: Tensor | None, documents: Tensor | None) -> Attention:
    """flash-attn over sequences of any length: one per row, or one per document."""
    from flash_attn import flash_attn_func, flash_attn_varlen_func

    if pad is None and documents is None:

        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            out: Tensor = flash_attn_func(q, k, v)
            return out.transpose(1, 2)

        return run

    order, bounds, longest = sequences(pad, documents)

    def run_packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows, heads, length, size = q.shape
        flat = [x.transpose(1, 2).reshape(-1, heads, size) for x in (q, k, v)]
        packed = [x[order] for x in flat]  # (positions that are there, H, K)
        seen = flash_attn_varlen_func(*packed, bounds, bounds, longest, longest)
        out = torch.zeros_like(flat[0]).index_copy(0, order, seen)
        return out.view(rows, length, heads, size).transpose(1, 2)

    return run_packed


def sequences(
    pad: Tensor | None, documents: Tensor | None
) -> tuple[Tensor, Tensor, int]:
    """Sort the positions of a batch into sequences that see only themselves.

    Returns:
        order: int64 indices into the B * L positions, padding left out, one sequence
            after the other; the sequences are the documents of the rows.
        bounds: int32 starts of the sequences in `order`, and its size at the end.
        longest: the length of the longest sequence.
    """
    some = documents if documents is not None else pad
    assert some is not None
    there = torch.ones_like(some, dtype=torch.bool) if pad is None else ~pad
    order = there.flatten().nonzero().squeeze(1)
    if not len(order):
        return order, order.new_zeros(1, dtype=torch.int32), 0
    row = order // some.shape[1]
    new = row.diff() != 0
    if documents is not None:
        document = documents.flatten()[order]
        by_document = document.argsort(stable=True)
        by_both = by_document[row[by_document].argsort(stable=True)]
        order, document = order[by_both], document[by_both]
        new = new | (document.diff() != 0)  # rows are as many as before, in order
    starts = F.pad(new.nonzero().squeeze(1) + 1, (1, 0))
    bounds = F.pad(starts, (0, 1), value=len(order)).int()
    return order, bounds, int(bounds.diff().max())
