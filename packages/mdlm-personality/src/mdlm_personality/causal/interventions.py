"""Three different questions about a persona, under the fitted model.

``intervene`` asks what people are like of whom some nodes are set: their other noise is
new. ``counterfactual`` asks what this persona would be with some nodes set: its noise
stays. ``shift`` moves a node's noise, and leaves its causes at work.

Setting nodes, do(z_S = v), cuts the edges INTO S, and leaves those out of S, so that
descendants move and nothing else. Letters: B batch, n nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_core.errors import UsageError

from .layer import CausalLayer


def intervene(layer: CausalLayer, where: Tensor, value: Tensor, eps: Tensor) -> Tensor:
    """Return ``z | do(z_S = value)`` ``(B, n)`` for the noise eps ``(B, n)``.

    In the linear model ``z = eps' (I - A')^-1``, with the columns S of A' zero and
    ``eps'_S = value``.

    Args:
        layer: the model.
        where: S, ``(B, n)`` or ``(n,)`` bool.
        value: ``(B, n)`` or ``(n,)``; read in S alone.
        eps: the noise of the other nodes: drawn anew, or 0 for expected values.

    Raises:
        UsageError: if a value is not finite, the graph has a cycle, or shapes do not
            fit.
    """
    return layer.solve(eps, held=_checked(where, value), where=where)


def counterfactual(
    layer: CausalLayer, z: Tensor, where: Tensor, value: Tensor
) -> Tensor:
    """Return what the persona z ``(B, n)`` would be with z_S = value.

    Abduction: its noise is ``eps_j = z_j - f_j(pa_j)``. Action: S is set. Prediction:
    the other equations are solved with the same noise. For one node of the linear
    model that is ``z + (value - z_i) T[i, :]``. With the value that a node has anyway,
    z comes back to the bit; what is no descendant of S never moves.

    Args:
        layer: the model.
        z: every node, as known or completed.
        where: S, ``(B, n)`` or ``(n,)`` bool.
        value: ``(B, n)`` or ``(n,)``; read in S alone.

    Raises:
        UsageError: if a value is not finite, the graph has a cycle, or shapes do not
            fit.
    """
    return layer.respond(z, held=_checked(where, value), where=where)


def shift(layer: CausalLayer, z: Tensor, delta: Tensor) -> Tensor:
    """Return z ``(B, n)`` after its noise moved by delta ``(B, n)`` or ``(n,)``.

    A soft intervention: no edge is cut, ``eps' = eps + delta``. In the linear model
    that is ``z + delta T``.

    Raises:
        UsageError: if a number is not finite, the graph has a cycle, or shapes do not
            fit.
    """
    if not torch.isfinite(delta).all():
        raise UsageError("a shift is not a finite number; give numbers")
    return layer.respond(z, delta=delta)


def descendants(layer: CausalLayer, where: Tensor) -> Tensor:
    """Return the nodes ``(n,)`` bool that edges lead to from S, S itself left out.

    Args:
        layer: the model.
        where: S, ``(n,)`` bool.
    """
    reached = where.to(layer.support.device)
    for _ in range(layer.nodes):
        reached = reached | layer.support[reached].any(0)
    return reached & ~where.to(reached.device)


def _checked(where: Tensor, value: Tensor) -> Tensor:
    """Return `value`, if it is finite wherever it is read."""
    read = value.masked_fill(~where.to(value.device), 0.0)
    if not torch.isfinite(read).all():
        raise UsageError(
            "an intervention sets a node to what is not a finite number; give a number"
        )
    return value
