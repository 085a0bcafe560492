"""Topological orders of a directed graph, and a cycle where there is none.

``mask[i, j]`` says that there is an edge i -> j: row parent, column child.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdlm_core.errors import UsageError


def levels(mask: Tensor) -> Tensor | None:
    """Return the level of every node: edges of the longest path that ends there.

    Args:
        mask: ``(n, n)`` bool.

    Returns:
        ``(n,)`` int64 on the CPU: 0 for nodes without parents. All parents of a node
        are on lower levels. None if the graph has a cycle.
    """
    edges = mask.detach().cpu()
    level = torch.full((len(edges),), -1)
    for step in range(len(edges)):
        waiting = level < 0
        ready = waiting & ~edges[waiting].any(0)
        if not ready.any():
            break
        level[ready] = step
    return None if (level < 0).any() else level


def topological_order(mask: Tensor) -> Tensor | None:
    """Return the nodes ``(n,)`` int64, parents first, or None if there is a cycle."""
    level = levels(mask)
    return None if level is None else level.argsort(stable=True)


def find_cycle(mask: Tensor) -> tuple[int, ...]:
    """Return the nodes of one cycle, each the parent of the next; empty if none."""
    edges = mask.detach().cpu()
    left = torch.ones(len(edges), dtype=torch.bool)
    while True:  # nodes without a parent among those left are on no cycle
        kept = left & edges[left].any(0)
        if bool((kept == left).all()):
            break
        left = kept
    if not left.any():
        return ()
    path = [int(left.nonzero()[0, 0])]
    while True:  # every node left has a parent left: go from child to parent
        parent = int((edges[:, path[-1]] & left).nonzero()[0, 0])
        if parent in path:
            return tuple(reversed(path[path.index(parent) :]))
        path.append(parent)


def check_acyclic(mask: Tensor, names: Sequence[str] | None = None) -> None:
    """Raise unless the graph has no cycle.

    Args:
        mask: ``(n, n)`` bool.
        names: of the nodes, for the message.

    Raises:
        UsageError: if it has one; the cycle is named, ``a -> b -> a``.
    """
    if cycle := find_cycle(mask):
        named = [names[i] if names is not None else f"node {i}" for i in cycle]
        raise UsageError(
            f"the graph has the cycle {' -> '.join([*named, named[0]])}; causes must "
            f"not depend on their effects: leave one of these edges out"
        )
