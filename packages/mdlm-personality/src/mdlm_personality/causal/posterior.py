"""What the columns that are not known are expected to be, given those that are.

Linear equations with Gaussian noise, ``z = A^T z + eps`` with eps_j of standard
deviation s_j, make the columns jointly Gaussian. With ``B = I - A`` of the columns, c
what nodes without noise add, and D the variances, a row z of the columns has the scores
``(z B - c) / s`` and the precision ``P = B D^-1 B^T``, so that the unknown columns U
have, given the known ones O,

    mean  P_UU^-1 ((c D^-1 B^T)_U - P_UO z_O),        covariance  P_UU^-1:

effects tell of their causes as causes do of their effects. Latent nodes have no noise
besides what is given, and follow from the columns. Everything is in float64.

Letters: B batch, K columns, n nodes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .layer import CausalLayer


class Posterior(NamedTuple):
    """The columns of each row given what is known of it."""

    mean: Tensor
    """``(B, K)`` float64: what is known as it is, the others expected."""
    root: Tensor
    """``(B, K, K)``: lower Cholesky factor of P_UU, and the identity elsewhere."""
    scores: Tensor
    """``(B, K)``: the columns' noise at the mean over its standard deviation."""


def exact(layer: CausalLayer) -> bool:
    """Return whether this applies: linear equations, and no cycle."""
    return layer.mechanism == "linear" and layer.acyclic


def posterior(
    layer: CausalLayer,
    columns: Tensor,
    eps: Tensor,
    held: Tensor,
    where: Tensor,
    cut: Tensor | None = None,
) -> Posterior:
    """Return the law of the columns given some nodes.

    Args:
        layer: for which `exact` holds.
        columns: ``(K,)`` int64, the nodes that have noise of their own.
        eps: ``(B, n)``, expected noise.
        held: ``(B, n)``, read where `where` holds alone.
        where: ``(B, n)`` bool: what is known of each row.
        cut: ``(n,)`` bool, nodes that an intervention sets to `held`; they count as
            known, and tell nothing of their causes.
    """
    a = layer.adjacency().double()
    eps = eps.double()
    weight = (-2 * layer.log_scale.double()[columns]).exp()
    known = where[:, columns]
    if cut is not None:
        a = a.masked_fill(cut, 0.0)
        eps = torch.where(cut, held.double(), eps)
        weight = weight.masked_fill(cut[columns], 0.0)
        known = known | cut[columns]
    between, added = a[columns][:, columns], eps[:, columns]
    latent = torch.ones_like(layer.level, dtype=torch.bool)
    latent[columns] = False
    into = a[latent][:, columns]
    if bool((into != 0).any()):  # a column may depend on others through latent nodes
        inside = torch.eye(len(into)).to(a) - a[latent][:, latent]
        effects = torch.linalg.solve(inside, into)
        between = between + a[columns][:, latent] @ effects
        added = added + eps[:, latent] @ effects
    b = torch.eye(len(columns)).to(a) - between
    precision = (b * weight) @ b.T
    free = ~known
    seen = held[:, columns].double().masked_fill(free, 0.0)
    rest = ((added * weight) @ b.T - seen @ precision).masked_fill(known, 0.0)
    both = free.unsqueeze(2) & free.unsqueeze(1)
    root = torch.linalg.cholesky(
        torch.where(both, precision, torch.eye(len(columns)).to(a))
    )
    mean = seen + torch.cholesky_solve(rest.unsqueeze(2), root).squeeze(2)
    return Posterior(mean, root, (mean @ b - added) * weight.sqrt())


def drawn(law: Posterior, free: Tensor, normal: Tensor) -> Tensor:
    """Return one draw of the columns ``(B, K)``, made of standard normal numbers.

    Args:
        law: of the columns.
        free: ``(B, K)`` bool, those that are neither known nor set.
        normal: ``(B, K)``.
    """
    steps = normal.double().masked_fill(~free, 0.0).unsqueeze(2)
    moved: Tensor = torch.linalg.solve_triangular(law.root.mT, steps, upper=True)
    return law.mean + moved.squeeze(2)


def marginal_nll(
    layer: CausalLayer, columns: Tensor, eps: Tensor, held: Tensor, where: Tensor
) -> Tensor:
    """Return -log p of every row's known columns, ``(B,)`` in nats.

    The others are integrated out: with them at their posterior mean,

        sum over j of scores_j^2 / 2 + log s_j,  plus  log det P_UU / 2,

    and log(2 pi) / 2 for each known column. Where all are known, or those that are not
    have no known effect, these are the terms of each node given its parents.
    """
    law = posterior(layer, columns, eps, held, where)
    log_det = law.root.diagonal(dim1=1, dim2=2).log().sum(1)
    count = where[:, columns].sum(1)
    total = law.scores.square().sum(1) / 2 + layer.log_scale.double()[columns].sum()
    found: Tensor = total + log_det + count * (math.log(2 * math.pi) / 2)
    return found.to(layer.weight.dtype)
