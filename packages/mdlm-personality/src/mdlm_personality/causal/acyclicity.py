"""Functions that are 0 where a weighted graph has no cycle, and positive elsewhere.

Each is a smooth function of ``M = W o W`` that sums closed walks. Nodes on no cycle
add nothing: in a suitable order M is block triangular, and its trace and determinant
are those of the blocks. They are left out before anything is computed, so that the
value is exactly 0 for a graph without cycles, and so is its gradient. Everything is in
float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdlm_core.errors import UsageError

MARGIN = 0.95
"""How near to the edge of DAGMA's domain a graph may be, as a share of s."""


def notears_h(weights: Tensor) -> Tensor:
    """Return ``tr(exp(W o W)) - d``, for W ``(d, d)``.

    Zheng et al., 2018 (arXiv 1803.01422). Its gradient is ``exp(W o W)^T o 2W``.
    """
    inner = _inner(weights)
    walks: Tensor = torch.linalg.matrix_exp(inner)
    return walks.trace() - len(inner)


def polynomial_h(weights: Tensor, c: float = 1.0) -> Tensor:
    """Return ``tr((I + (c / d) W o W)^d) - d``, for W ``(d, d)``.

    Yu et al., 2019 (DAG-GNN, arXiv 1904.10098), used by CausalVAE (arXiv 2004.08697).
    """
    inner, d = _inner(weights), len(weights)
    step = torch.eye(len(inner)).to(inner) + c / d * inner
    walks: Tensor = torch.linalg.matrix_power(step, d)
    return walks.trace() - len(inner)


def dagma_h(weights: Tensor, s: float = 1.0) -> Tensor:
    """Return ``-logdet(sI - W o W) + d log s``, for W ``(d, d)``.

    Bello et al., 2022 (arXiv 2209.08037). Its gradient is
    ``2W o (sI - W o W)^-T``.

    Raises:
        UsageError: if the spectral radius of ``W o W`` is not below s, where this is
            not defined; `project` scales W back.
    """
    inner = _inner(weights)
    radius = _radius(inner)
    if not radius < s:
        raise UsageError(
            f"the spectral radius of W o W is {radius:g}; DAGMA's function needs one "
            f"below s = {s:g}: scale W with project"
        )
    inside = torch.eye(len(inner)).to(inner) - inner / s
    found: Tensor = torch.linalg.slogdet(inside)[1]
    return 0.0 - found


def spectral_radius(weights: Tensor) -> float:
    """Return the largest absolute eigenvalue of ``W o W``, for W ``(d, d)``."""
    return _radius(_inner(weights))


def project(weights: Tensor, s: float = 1.0, *, margin: float = MARGIN) -> Tensor:
    """Return W ``(d, d)``, with the edges on cycles scaled into DAGMA's domain.

    If the spectral radius r of ``W o W`` is above ``margin s``, edges between nodes on
    cycles are multiplied by ``sqrt(margin s / r)``, which makes it that. The factor
    carries no gradient. Other edges stay as they are.
    """
    radius = spectral_radius(weights)
    if radius <= margin * s:
        return weights
    cyclic = between_cycles(weights != 0)
    factor = math.sqrt(margin * s / radius)
    return torch.where(cyclic, weights * factor, weights)


def on_cycles(mask: Tensor) -> Tensor:
    """Return the edges ``(n, n)`` bool that are part of a cycle of `mask`."""
    reached = mask
    for _ in range(max(1, math.ceil(math.log2(max(2, len(mask)))))):
        reached = reached | ((reached.double() @ reached.double()) > 0)
    return mask & reached.T


def between_cycles(mask: Tensor) -> Tensor:
    """Return the edges ``(n, n)`` bool between nodes that neither end cuts off.

    What is left when nodes without parents, and nodes without children, are taken away
    again and again. All edges on cycles are among them.
    """
    kept = _core(mask)
    return mask & kept.unsqueeze(1) & kept


def _core(mask: Tensor) -> Tensor:
    """Return the nodes ``(n,)`` bool that are left by `between_cycles`."""
    left = torch.ones(len(mask), dtype=torch.bool, device=mask.device)
    while True:
        kept = left & mask[left].any(0) & mask[:, left].any(1)
        if torch.equal(kept, left):
            return left
        left = kept


def _inner(weights: Tensor) -> Tensor:
    """Return ``W o W`` in float64, of the nodes that may be on cycles."""
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise UsageError(
            f"a graph's weights are a square, and not {tuple(weights.shape)}"
        )
    squares = weights.double().square()
    kept = _core(squares.detach() > 0)
    return squares[kept][:, kept]


@torch.no_grad()
def _radius(inner: Tensor) -> float:
    if not len(inner):
        return 0.0
    return float(torch.linalg.eigvals(inner).abs().max())
