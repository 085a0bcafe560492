"""Attention in both directions, behind one switch.

Who sees whom is decided once per forward pass (:func:`plan`), then used by every
block. A position sees the positions of its own document that are not padding; what
comes out at padded positions is finite and means nothing. Letters: B batch, L length,
H heads, K head size.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mdlm_core.errors import ConfigError, MissingExtraError

from .packed import Attention, flash, flex

Backend = Literal["sdpa", "flex", "flash", "eager"]

EAGER_LENGTH = 512
"""Rows up to this length are short: their scores fit in memory."""


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
    run: Attention = plan(pad=pad, documents=documents, like=q, backend=backend)
    return run(q, k, v)


# Not traced by torch.compile: it looks at values, and at what is installed.
@torch.compiler.disable  # type: ignore[untyped-decorator]
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
        backend,
        like.device,
        like.dtype,
        documents=documents is not None,
        gradients=torch.is_grad_enabled(),
    )
    if name == "flash":
        return flash(pad, documents)
    if name == "flex" and not (pad is None and documents is None):
        return flex(pad, documents)
    mask = _mask(pad, documents)
    return _eager(mask) if name == "eager" else _sdpa(mask)


@lru_cache
def resolve_backend(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    documents: bool = False,
    gradients: bool = True,
) -> Backend:
    """Return the backend that `name` stands for on this machine.

    "auto" is FlexAttention for packed documents where it compiles to a fused kernel
    (CUDA with Triton), which skips what no document sees. It is "eager", the products
    written out, for bfloat16 on a CPU: at L = 128, forward and backward together, it
    takes a third of the time of SDPA there. Otherwise it is SDPA.

    "flash" has no float32, in which models are measured and sampled from: with float32
    and without `gradients` it is SDPA, and with gradients an error. So a model that
    was trained with flash-attn can be measured where it is not installed.

    Raises:
        MissingExtraError: if flash-attn is asked for and not installed.
        ConfigError: if it cannot run here, or the name is none of the four.
    """
    if name == "auto":
        fused = device.type == "cuda" and find_spec("triton") is not None
        if documents and fused:
            return "flex"
        return "eager" if (device.type, dtype) == ("cpu", torch.bfloat16) else "sdpa"
    if name == "flash":
        if dtype == torch.float32 and not gradients:
            return "sdpa"
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
    if name == "eager":
        return "eager"
    if name == "sdpa":
        return "sdpa"
    raise ConfigError(
        f"model.attention is '{name}'; it must be auto, sdpa, flex or flash"
    )


def _mask(pad: Tensor | None, documents: Tensor | None) -> Tensor | None:
    """Return who sees whom, ``(B, 1, L, L)``, or ``(B, 1, 1, L)`` without documents."""
    if documents is None:
        if pad is None:
            return None
        seen = ~pad | pad.all(dim=1, keepdim=True)  # nobody sees nothing
        return seen[:, None, None, :]
    mask = documents[:, :, None] == documents[:, None, :]
    if pad is not None:
        itself = torch.eye(pad.shape[1], dtype=torch.bool, device=pad.device)
        mask = mask & ~pad[:, None, :] | itself
    return mask[:, None]


def _sdpa(mask: Tensor | None) -> Attention:
    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return run


def _eager(mask: Tensor | None) -> Attention:
    """The products written out for short rows, SDPA for long ones."""
    hidden = None if mask is None else ~mask

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.shape[2] > EAGER_LENGTH:
            return _sdpa(mask)(q, k, v)
        with torch.autocast(q.device.type, enabled=False):
            scores = q * q.shape[-1] ** -0.5 @ k.mT  # (B, H, L, L)
            if hidden is not None:
                scores = scores.masked_fill(hidden, -torch.inf)
            out: Tensor = scores.softmax(dim=-1) @ v
            return out

    return run
