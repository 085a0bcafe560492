"""What the causal layer learns from: data first, then few edges, then no cycles.

Every term that shrinks or removes an edge stands beside the likelihood of the nodes
that the edge leads to; an edge to a node that no data tell is left alone by all of
them. Letters: B batch, n nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.errors import UsageError
from mdlm_personality.config.model import Structure

from .acyclicity import dagma_h, notears_h, on_cycles, project
from .layer import CausalLayer

THRESHOLD = 0.3
"""Below this an edge that was searched for is dropped, as in NOTEARS and DAGMA."""
_STEEPEST = 1e3
_LOG_2PI = math.log(2 * math.pi)


def structural_nll(layer: CausalLayer, z: Tensor, known: Tensor) -> Tensor:
    """Return -log p of every row's known nodes given their parents, ``(B,)`` in nats.

    ``sum over known j of ((z_j - f_j(pa_j)) / s_j)^2 / 2 + log s_j + log(2 pi) / 2``,
    with s_j learned. Parents that are not known count as what z says, their expected
    values.

    While the graph has a cycle, edges being searched for, every s_j is 1: the least
    squares that NOTEARS and DAGMA score by. With scales of their own, Gaussian nodes
    are told alike by every order of the nodes, and a node and its parent can be each
    other's sharp prediction.

    Args:
        layer: the model.
        z: ``(B, n)``, completed.
        known: ``(B, n)`` bool.
    """
    log_scale = layer.log_scale if layer.acyclic else torch.zeros_like(layer.log_scale)
    scores = layer.noise(z) / log_scale.exp()
    each = scores.square() / 2 + log_scale + _LOG_2PI / 2
    return torch.where(known, each, 0.0).sum(1)


def label_loss(layer: CausalLayer, labels: Tensor) -> Tensor:
    """Return CausalVAE's l_u, ``E |u - sigmoid(A^T u)|^2``, for u ``(B, n)`` in [0, 1].

    Yang et al., 2021 (arXiv 2004.08697, eq. 11). It is for labels that are yes or no;
    `structural_nll` is what the model of traits learns from.
    """
    guessed = torch.sigmoid(labels.to(layer.weight) @ layer.adjacency())
    return (labels - guessed).square().sum(1).mean()


def mask_loss(layer: CausalLayer, z: Tensor) -> Tensor:
    """Return CausalVAE's l_m, ``E sum_i |z_i - g_i(A_i o z)|^2``, for z ``(B, n)``.

    Yang et al., 2021 (arXiv 2004.08697, eq. 12).
    """
    return layer.noise(z).square().sum(1).mean()


def sparsity(layer: CausalLayer, nodes: Tensor | None = None) -> Tensor:
    """Return the sum of abs(A) over edges into `nodes` ``(n,)`` bool, None for all.

    Give the nodes that data tell: without a likelihood beside it this takes an edge to
    zero whatever is true.
    """
    adjacency = layer.adjacency().abs()
    return adjacency.sum() if nodes is None else adjacency[:, nodes].sum()


def penalty(layer: CausalLayer, structure: Structure, progress: float) -> Tensor:
    """Return what cycles cost, a number, at the share `progress` of the search.

    dagma: ``h(A) / mu``, the central path divided by mu, with s = 1 and mu falling from
    1 to 1e-3. A is taken into the domain by `project` first. notears: ``rho (h + h^2 /
    2)`` with rho = 1 / mu, an augmented Lagrangian whose multiplier grows with the path
    instead of the violation. Nothing for structures that have no cycles.

    mu falls evenly in its logarithm. In stages of a tenth each, as in the papers, which
    start a new optimiser for each, Adam's steps are ten times too long where a stage
    begins, and edges come out the wrong way round.

    Raises:
        UsageError: if `progress` is not in [0, 1].
    """
    if not 0 <= progress <= 1:
        raise UsageError(f"progress is {progress:g}; it is a share, from 0 to 1")
    weight: float = _STEEPEST**progress
    adjacency = layer.adjacency()
    if structure == "dagma":
        return weight * dagma_h(project(adjacency))
    if structure == "notears":
        h = notears_h(adjacency)
        return weight * (h + h.square() / 2)
    return adjacency.new_zeros(())


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the edges that were searched for."""

    kept: int
    """Edges that are left."""
    dropped: tuple[tuple[int, int, float], ...]
    """(parent, child, weight) of those below the threshold."""
    broken: tuple[tuple[int, int, float], ...]
    """Of those that were cut because a cycle was left, the weakest on it."""

    def describe(self, names: Sequence[str]) -> str:
        """Return this in words."""
        said = (
            f"{self.kept} of {self.kept + len(self.dropped) + len(self.broken)} edges "
            f"that were searched for are kept"
        )
        if self.broken:
            cut = ", ".join(
                f"{names[i]} -> {names[j]} ({weight:.2f})"
                for i, j, weight in self.broken
            )
            said += f"; cut to break cycles that were left: {cut}"
        return said


@torch.no_grad()
def settle(layer: CausalLayer, threshold: float = THRESHOLD) -> Settled:
    """End a search: drop weak edges, break cycles that are left, fix the graph.

    Searched for are the edges on cycles of the graph as it is. Those with abs(A) below
    `threshold` go; while there is a cycle, the weakest edge on any goes. Edges that
    are on no cycle stay, whatever their weight.

    Args:
        layer: changed in place.
        threshold: on the standardised scale.

    Raises:
        UsageError: if `threshold` is negative.
    """
    if threshold < 0:
        raise UsageError(f"the threshold is {threshold:g}; it must not be negative")
    weights = layer.adjacency().detach().cpu()
    support = layer.support.cpu()
    searched = on_cycles(support)
    weak = searched & (weights.abs() < threshold)
    support &= ~weak
    broken = []
    while (cyclic := on_cycles(support)).any():
        strengths = weights.abs().masked_fill(~cyclic, torch.inf)
        i, j = divmod(int(strengths.argmin()), len(weights))
        support[i, j] = False
        broken.append((i, j, float(weights[i, j])))
    layer.set_support(support)
    dropped = [(i, j, float(weights[i, j])) for i, j in weak.nonzero().tolist()]
    return Settled(int((searched & support).sum()), tuple(dropped), tuple(broken))
