"""Random graphs and data of linear structural equations: causal models that are known.

The convention of the causal layer: A[i, j] != 0 means i -> j, and a row of data is
z = A^T z + eps. Letters: d nodes, n rows. float64 throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import UsageError
from mdlm_core.kernels import Noise

from .compare import propagate

Array = NDArray[np.float64]
Law = Literal["gaussian", "uniform", "exponential"]


def random_dag(
    nodes: int,
    edges_per_node: float,
    noise: Noise,
    *,
    weights: tuple[float, float] = (0.5, 2.0),
) -> Array:
    """Draw a weighted acyclic graph, as NOTEARS does (arXiv 1803.01422, section 5).

    Every pair is joined with the same probability (Erdos and Renyi), directed by a
    random order, and weighted uniformly in +-[low, high].

    Args:
        nodes: d.
        edges_per_node: expected edges divided by d; at most (d - 1) / 2.
        noise: decides the graph.
        weights: low and high of the absolute weights.

    Returns:
        A of shape (d, d).

    Raises:
        UsageError: if there are not so many pairs.
    """
    most = (nodes - 1) / 2
    if not 0 <= edges_per_node <= most:
        raise UsageError(
            f"{nodes} nodes have between 0 and {most:g} edges for each node; "
            f"edges_per_node is {edges_per_node:g}"
        )
    rng = _generator(noise, "graph")
    chance = edges_per_node / most if most else 0.0
    upper = np.triu(rng.random((nodes, nodes)) < chance, 1)
    low, high = weights
    size = rng.uniform(low, high, (nodes, nodes)) * rng.choice((-1.0, 1.0), upper.shape)
    order = rng.permutation(nodes)
    found = np.zeros((nodes, nodes))
    found[np.ix_(order, order)] = np.where(upper, size, 0.0)
    return found


def linear_data(
    weight: Array,
    rows: int,
    noise: Noise,
    *,
    scales: Sequence[float] | float = 1.0,
    law: Law = "gaussian",
    do: Mapping[int, float] | None = None,
) -> Array:
    """Draw rows of z = A^T z + eps, or of the same model under interventions.

    Args:
        weight: A (d, d), acyclic.
        rows: n.
        noise: decides eps; the same noise with and without `do` gives pairs.
        scales: standard deviation of eps, of all nodes or of each.
        law: of eps, always with mean 0.
        do: node -> value. Its column of A is zero and its eps is the value.

    Returns:
        Z (n, d) = E (I - A)^-1.
    """
    nodes = len(weight)
    rng = _generator(noise, "rows")
    if law == "gaussian":
        unit = rng.standard_normal((rows, nodes))
    elif law == "uniform":
        unit = rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), (rows, nodes))
    else:
        unit = rng.exponential(1.0, (rows, nodes)) - 1.0
    eps = unit * np.asarray(scales, dtype=float)
    weight = np.array(weight, dtype=float)
    for node, value in (do or {}).items():
        weight[:, node] = 0.0
        eps[:, node] = value
    return propagate(weight, eps)


def _generator(noise: Noise, *path: str) -> np.random.Generator:
    return np.random.default_rng(noise.child(*path).integer())
