"""How far a graph is from the true one: edges, and what interventions would do.

A[i, j] != 0 means i -> j. Letters: d nodes, n rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import UsageError

Array = NDArray[np.float64]
Edges = NDArray[np.bool_] | Array
"""A (d, d): weights, or whether there is an edge."""


def shd(estimated: Edges, truth: Edges) -> int:
    """Count the edges to add, take away or turn round (structural Hamming distance).

    A pair of nodes counts once, however it differs: a reversed edge is 1, not 2
    (Tsamardinos et al., 2006).
    """
    differs = (np.asarray(estimated) != 0) != (np.asarray(truth) != 0)
    return int(np.triu(differs | differs.T, 1).sum())


@dataclass(frozen=True, slots=True)
class EdgeScores:
    """Edges found against edges that there are; a reversed edge is not found."""

    found: int
    """Edges of the estimate."""
    true: int
    """Edges that there are."""
    right: int
    """Edges of the estimate that there are, in their direction."""
    reversed: int
    """Edges of the estimate that there are in the other direction."""

    @property
    def precision(self) -> float:
        """Share of the edges found that are right; NaN if none was found."""
        return self.right / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the true edges that were found; NaN if there are none."""
        return self.right / self.true if self.true else float("nan")


def edge_scores(estimated: Edges, truth: Edges) -> EdgeScores:
    """Compare the edges of two graphs of the same nodes, both (d, d)."""
    guess, real = np.asarray(estimated) != 0, np.asarray(truth) != 0
    return EdgeScores(
        found=int(guess.sum()),
        true=int(real.sum()),
        right=int((guess & real).sum()),
        reversed=int((guess & real.T & ~real).sum()),
    )


def propagate(weight: Array, eps: Array) -> Array:
    """Solve Z = E + Z A by substitution, parents first; both (N, d).

    Nodes that nothing reaches keep their eps to the bit, as they do not with LU.

    Raises:
        UsageError: if A has a cycle.
    """
    found = np.array(eps, dtype=np.float64)
    graph = nx.from_numpy_array((weight != 0).astype(int), create_using=nx.DiGraph)
    if not nx.is_directed_acyclic_graph(graph):
        cycle = " -> ".join(str(edge[0]) for edge in nx.find_cycle(graph))
        raise UsageError(f"the graph has a cycle through the nodes {cycle}")
    for node in nx.topological_sort(graph):
        parents = np.flatnonzero(weight[:, node])
        if len(parents):
            found[:, node] += found[:, parents] @ weight[parents, node]
    return found


def total_effects(weight: Array) -> Array:
    """Return T = (I - A)^-1 of shape (d, d): the effect on j of one unit more of i.

    Exactly 0 where no path leads from i to j, and 1 on the diagonal.
    """
    return propagate(weight, np.eye(len(weight)))


def expected(
    weight: Array, do: Mapping[int, float], intercept: Array | None = None
) -> Array:
    """Return E[z | do(z_S = v)] of shape (d,) for z = A^T z + c + eps, E[eps] = 0.

    Columns S of A are zero and c_S = v: then E[z] = (I - A^T)^-1 c. Nodes of S are v,
    and those that no path from S leads to keep E[z], both to the bit.
    """
    cut = np.array(weight, dtype=np.float64)
    centre = np.zeros(len(weight)) if intercept is None else np.array(intercept)
    for node, value in do.items():
        cut[:, node] = 0.0
        centre[node] = value
    return propagate(cut, centre[None, :]).reshape(-1)


def intervention_error(estimated: Array, truth: Array, value: float = 1.0) -> Array:
    """Return ||E[z | do(z_i = value)] - truth||_2 for every node i, of shape (d,).

    Both models have mean 0 without interventions.
    """
    return np.array(
        [
            np.linalg.norm(
                expected(estimated, {i: value}) - expected(truth, {i: value})
            )
            for i in range(len(truth))
        ]
    )


def varsortability(data: Array, graph: Edges) -> float:
    """Return the share of directed paths along which the variance grows.

    1 says that sorting by variance gives the causal order, 0.5 that variance says
    nothing; scores of least squares, as those of NOTEARS and DAGMA, profit from values
    near 1, which the units of the columns alone decide. Paths are counted as in
    equation 2 of Reisach et al. (2021, arXiv 2102.13647): for every length k, the
    pairs that are joined by a path of k edges. Equal variances count one half.

    Args:
        data: (n, d), no value missing.
        graph: (d, d), acyclic.

    Returns:
        A number in [0, 1]; NaN if there is no edge.
    """
    edges = (np.asarray(graph) != 0).astype(float)
    variance = np.asarray(data).var(axis=0)
    ratio = variance[None, :] / np.where(variance > 0, variance, 1.0)[:, None]
    score = np.where(ratio > 1 + 1e-9, 1.0, np.where(ratio < 1 - 1e-9, 0.0, 0.5))
    sorted_, paths = 0.0, 0.0
    joined = edges
    for _ in range(len(edges) - 1):
        at = joined > 0
        sorted_ += float(score[at].sum())
        paths += float(at.sum())
        joined = (joined @ edges > 0).astype(float)
    return sorted_ / paths if paths else float("nan")
