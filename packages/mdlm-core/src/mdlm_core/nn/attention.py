"""Attention in both directions, behind one switch.

Who sees whom is decided once per forward pass (:func:`plan`), then used by every
block. A position sees the positions of its own document that are not padding, and
always itself. Letters: B batch, L length, H heads, K head size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mdlm_core.errors import ConfigError, MissingExtraError

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From q, k, v to the output, all ``(B, H, L, K)``."""

Backend = Literal["sdpa", "flex", "flash"]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    pad: Tensor | None = None,
    documents: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return ``softmax(q k^T / sqrt(K)) v`` over the visible positions.

    Args:
        q: ``(B, H, L, K)``, and so are `k`, `v` and the result.
        k: the keys.
        v: the values.
        pad: ``(B, L)`` bool, positions that nobody sees.
        documents: ``(B, L)`` int64, positions see equal values only.
        backend: "sdpa", "flex", "flash", or "auto".

    Raises:
        MissingExtraError: if flash-attn is asked for and not installed.
        ConfigError: if the backend cannot run these tensors.
    """
    return plan(pad=pad, documents=documents, like=q, backend=backend)(q, k, v)


def plan(
    *,
    pad: Tensor | None,
    documents: Tensor | None,
    like: Tensor,
    backend: str = "auto",
) -> Attention:
    """Return the attention of one forward pass, its mask built once.

    `like` is any tensor with the device and type of the queries.
    """
    if pad is not None and not pad.any():
        pad = None
    name = resolve_backend(
        backend, like.device, like.dtype, documents=documents is not None
    )
    if pad is None and documents is None and name != "flash":
        return F.scaled_dot_product_attention
    if name == "flex":
        return _flex(pad, documents)
    if name == "flash":
        return _flash(pad, documents)
    return _dense(pad, documents)


@lru_cache
def resolve_backend(
    name: str, device: torch.device, dtype: torch.dtype, *, documents: bool = False
) -> Backend:
    """Return the backend that `name` stands for on this machine.

    "auto" is FlexAttention for packed documents where it compiles to a fused kernel
    (CUDA with Triton), which skips what no document sees; otherwise SDPA.

    Raises:
        MissingExtraError: if flash-attn is asked for and not installed.
        ConfigError: if it cannot run here, or the name is none of the four.
    """
    if name == "auto":
        fused = device.type == "cuda" and find_spec("triton") is not None
        return "flex" if documents and fused else "sdpa"
    if name == "flash":
        if find_spec("flash_attn") is None:
            raise MissingExtraError(
                "model.attention=flash needs flash-attn, which is not installed: pip "
                "install 'mdlm-core[flash-attn]', or set model.attention=sdpa"
            )
        if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
            kind = str(dtype).removeprefix("torch.")
            raise ConfigError(
                f"model.attention=flash runs float16 or bfloat16 on CUDA, not {kind} "
                f"on {device.type}: set train.precision=bf16, or model.attention=sdpa"
            )
        return "flash"
    if name == "flex":
        return "flex"
    if name == "sdpa":
        return "sdpa"
    raise ConfigError(
        f"model.attention is '{name}'; it must be auto, sdpa, flex or flash"
    )


def _dense(pad: Tensor | None, documents: Tensor | None) -> Attention:
    """SDPA with a mask ``(B, 1, L, L)``, or ``(B, 1, 1, L)`` without documents."""
    if documents is None:
        assert pad is not None
        seen = ~pad | pad.all(dim=1, keepdim=True)  # a row of padding sees itself
        mask = seen[:, None, None, :]
    else:
        mask = documents[:, :, None] == documents[:, None, :]
        if pad is not None:
            self_only = torch.eye(pad.shape[1], dtype=torch.bool, device=pad.device)
            mask = mask & ~pad[:, None, :] | self_only
        mask = mask[:, None]

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return run


def _flex(pad: Tensor | None, documents: Tensor | None) -> Attention:
    """FlexAttention with a block mask; fused on CUDA, written out on a CPU."""
    from torch.nn.attention.flex_attention import create_block_mask

    some = documents if documents is not None else pad
    assert some is not None
    rows, length = some.shape

    def visible(b: Tensor, _: Tensor, i: Tensor, j: Tensor) -> Tensor:
        seen = torch.ones_like(i, dtype=torch.bool) & (j >= 0)
        if documents is not None:
            seen = seen & (documents[b, i] == documents[b, j])
        if pad is not None:
            seen = seen & ~pad[b, j] | (i == j)
        return seen

    mask = create_block_mask(visible, rows, None, length, length, device=some.device)
    fused = some.device.type == "cuda"
    function = _flex_function(fused=fused)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not fused and torch.is_grad_enabled() and q.requires_grad:
            raise ConfigError(
                f"model.attention=flex has no gradients on {q.device.type}: set "
                "model.attention=sdpa to train here"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*without torch.compile.*")
            out: Tensor = function(q, k, v, block_mask=mask)
        return out

    return run


@lru_cache
def _flex_function(*, fused: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    function: Any = flex_attention
    return torch.compile(function) if fused else function


def _flash(pad: Tensor | None, documents: Tensor | None) -> Attention:
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
