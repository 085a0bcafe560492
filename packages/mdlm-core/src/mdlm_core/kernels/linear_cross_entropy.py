"""The vocabulary head and its cross-entropy in one, a few rows at a time.

The logits of all rows are never there at once: a chunk of rows goes through the head,
its loss and its gradients are taken, and its buffer is used again (Hsu et al., 2024,
"Liger Kernel", arXiv 2410.10989, section 3.2). Letters: N selected positions, V
vocabulary (mask included), D width, R rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 256
"""R at a large vocabulary."""
ENTRIES = 2**22
"""R is larger than that as long as the logits of a chunk are no more numbers."""
BLOCK = 4096
"""Rows of the head whose gradient is made at once in a low precision."""


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    row_weights: Tensor,
    mask_id: int,
    *,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the weighted cross-entropy of a linear head that cannot say "mask".

    ``nll_n = log sum_{v != mask} exp(w_v h_n + b_v) - (w_y h_n + b_y)`` with
    ``y = targets_n``, and ``total = sum_n row_weights_n nll_n``: the SUBS
    parameterisation of Sahoo et al., 2024 (arXiv 2406.07524, section 3.2.3). The
    logarithm is taken in float32; under autocast the products are in its type.

    Args:
        hidden: ``(N, D)``.
        weight: ``(V, D)``.
        bias: ``(V,)`` or None.
        targets: ``(N,)`` int64; the loss of a row whose target is the mask is inf.
        row_weights: ``(N,)``; no gradient goes to them.
        mask_id: the column whose probability is exactly zero.
        residual: ``(N,)`` float32, filled with ``||p_n - onehot(y_n)||_2`` if given.

    Returns:
        total: scalar float32. Its gradients are made in the forward pass, so that it
            can go backward once.
        nll: ``(N,)`` float32, in nats, detached.
    """
    total, nll = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden,
        weight,
        bias,
        targets,
        row_weights,
        mask_id,
        torch.is_grad_enabled(),
        residual,
    )
    return total, nll


@torch.no_grad()
def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask_id: int,
) -> Tensor:
    """Return ``log p(targets_n | hidden_n)``, ``(N,)`` float32, without gradients.

    The arguments are those of :func:`linear_cross_entropy`.
    """
    ones = torch.ones(len(hidden), device=hidden.device)
    _, nll = linear_cross_entropy(hidden, weight, bias, targets, ones, mask_id)
    return -nll


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        row_weights: Tensor,
        mask_id: int,
        training: bool,
        norms: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        needed = [training and need for need in ctx.needs_input_grad[:3]]
        dtype = _product_type(hidden, weight)
        exact = torch.promote_types(dtype, torch.float32)
        h, w = hidden.to(dtype), weight.to(dtype)
        row_weights = row_weights.to(exact)
        nll = row_weights.new_empty(len(h))

        # Gradients are made for row weights of at most one, and scaled at the end: a
        # large weight must not overflow float16.
        scale = row_weights.abs().amax() if len(h) else row_weights.new_ones(())
        scale = torch.where(scale > 0, scale, 1.0)
        share = row_weights / scale
        grad_hidden = torch.empty_like(h) if needed[0] else None
        grad_weight = torch.zeros_like(weight, dtype=exact) if needed[1] else None
        grad_bias = row_weights.new_zeros(len(weight)) if needed[2] else None

        with torch.autocast(h.device.type, enabled=False):
            for rows, logits, products in _chunks(h, w, bias, mask_id, exact):
                nll[rows], total = _exponentiate_(logits, targets[rows])
                if norms is not None:
                    # ||p - onehot||^2 = ||p||^2 - 2 p_y + 1
                    length = torch.linalg.vector_norm(logits, dim=1) / total
                    square = length.square() - 2 * torch.exp(-nll[rows]) + 1
                    norms[rows] = square.clamp(min=0).sqrt()
                if not any(needed):
                    continue
                # d total / d logit_v = share * (p_v - [v = target])
                residual = logits.mul_((share[rows] / total)[:, None])
                index = torch.arange(len(residual), device=h.device)
                residual[index, targets[rows]] -= share[rows]
                if grad_bias is not None:
                    grad_bias += residual.sum(0)
                if products is not residual:
                    residual = products.copy_(residual)
                if grad_hidden is not None:
                    torch.mm(residual, w, out=grad_hidden[rows])
                if grad_weight is not None:
                    _accumulate_(grad_weight, residual, h[rows])
        ctx.gradients = (grad_hidden, grad_weight, grad_bias)
        ctx.scale = scale
        ctx.dtypes = [None if x is None else x.dtype for x in (hidden, weight, bias)]
        ctx.mark_non_differentiable(nll)
        return (row_weights * nll).sum(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "linear_cross_entropy makes its gradients in the forward pass and "
                "gives them away in the backward pass, so that it goes backward once; "
                "call it again for a second pass"
            )
        gradients, ctx.gradients = ctx.gradients, None
        factor = grad_total * ctx.scale
        scaled = [
            None if gradient is None else gradient.mul_(factor).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return *scaled, None, None, None, None, None


def _product_type(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Return the type of the matrix products: autocast's where that is on."""
    device = hidden.device.type
    own = torch.promote_types(hidden.dtype, weight.dtype)
    if torch.is_autocast_enabled(device) and own != torch.float64:
        return torch.get_autocast_dtype(device)
    return own


def _chunks(
    h: Tensor, w: Tensor, bias: Tensor | None, mask_id: int, exact: torch.dtype
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield (rows, their logits ``(R, V)``, a buffer for products), chunk by chunk.

    The logits are of type `exact`, the buffer of the type of `h` and `w`; they are one
    tensor if the types agree. All chunks share them.
    """
    size = min(max(ROWS, ENTRIES // len(w)), len(h))
    if h.device.type == "cpu" and h.dtype == torch.float32:
        products = h.new_empty(len(w), size).t()  # what its matrix product likes best
    else:
        products = h.new_empty(size, len(w))
    logits = products if h.dtype == exact else torch.empty_like(products, dtype=exact)
    for start in range(0, len(h), max(size, 1)):
        rows = slice(start, min(start + size, len(h)))
        here, product = (x[: rows.stop - start] for x in (logits, products))
        torch.mm(h[rows], w.t(), out=product)
        if product is not here:
            here.copy_(product)
        if bias is not None:
            here += bias
        here[:, mask_id] = -torch.inf
        yield rows, here, product


def _exponentiate_(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Turn `logits` ``(R, V)`` into ``exp(logits - max)`` in place.

    Returns:
        nll: ``(R,)``, minus the log-softmax at `targets`.
        total: ``(R,)``, the sums of what `logits` holds now.
    """
    top = logits.amax(dim=1, keepdim=True)
    logits -= top
    chosen = logits.gather(1, targets[:, None]).squeeze(1)
    total = logits.exp_().sum(dim=1)
    return total.log() - chosen, total


def _accumulate_(grad: Tensor, residual: Tensor, h: Tensor) -> None:
    """Add ``residual^T h`` ``(V, D)`` to `grad`, which may be of a higher precision."""
    if grad.dtype == h.dtype:
        grad.addmm_(residual.t(), h)
        return
    for start in range(0, len(grad), BLOCK):
        block = slice(start, start + BLOCK)
        grad[block] += (residual[:, block].t() @ h).to(grad.dtype)
