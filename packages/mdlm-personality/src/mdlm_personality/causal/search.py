"""Which edges a structure gives a table: tiers, a fixed graph, DAGMA or NOTEARS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import UsageError
from mdlm_personality.config.model import Structure

from .discovery import dagma_linear, notears_linear
from .graph import Edge, read_edges
from .order import check_acyclic
from .tables import Table

if TYPE_CHECKING:
    import networkx

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Units = Literal["standardised", "raw"]
THRESHOLD = 0.05
"""Standardised weights below are no edges. Weights of questionnaires are small; the 0.3
of the papers is for simulated ones, which begin at 0.5 in raw units."""
LAMBDA = 0.03
"""Weight of the absolute values, for both searches."""


def find_support(
    table: Table,
    structure: Structure,
    *,
    edges: Sequence[str] | Iterable[Edge] | networkx.DiGraph | None = None,
    units: Units = "standardised",
    threshold: float = THRESHOLD,
    lambda1: float = LAMBDA,
    tiers: bool = True,
) -> Mask:
    """Return the edges (K, K) bool of a structure.

    Args:
        table: values (N, K).
        structure: tiered, all edges from a tier to later ones; fixed, those of `edges`;
            dagma and notears, those found in the rows in which all is known.
        edges: of the structure fixed, as `graph.read_edges` takes them.
        units: what dagma and notears see. Their answer depends on it: see `stability`.
        threshold: for dagma and notears; weights below are no edges, in standard
            deviations of the child for one of the parent, whatever the units are.
        lambda1: for dagma and notears; weight of the absolute values.
        tiers: whether dagma and notears may not point from a tier to an earlier one.

    Raises:
        UsageError: if `edges` do not go with the structure, or have a cycle.
        UnknownNameError: if an edge names no column.
        DataError: if no graph can be found in the table.
    """
    if (edges is not None) != (structure == "fixed"):
        raise UsageError("edges go with the structure fixed, and only with it")
    if structure == "tiered":
        return table.allowed()
    if edges is not None:
        return _fixed(table, edges)
    whole = table.complete()
    std = whole.moments()[1]
    if units == "standardised":
        whole, std = whole.standardised(), np.ones_like(std)
    weight = (dagma_linear if structure == "dagma" else notears_linear)(
        whole.values,
        lambda1=lambda1,
        threshold=threshold * std[None, :] / std[:, None],
        allowed=table.allowed(within=True) if tiers else None,
    )
    return np.asarray(weight != 0)


def _fixed(
    table: Table, edges: Sequence[str] | Iterable[Edge] | networkx.DiGraph
) -> Mask:
    if hasattr(edges, "is_directed"):
        listed = read_edges(edges)
    else:
        given = list(edges)
        listed = [edge for edge in given if isinstance(edge, Edge)]
        texts = [str(edge) for edge in given if not isinstance(edge, Edge)]
        listed += read_edges(texts) if texts else []
    import torch

    mask = np.zeros((len(table.names), len(table.names)), dtype=bool)
    for edge in listed:
        parent, child = table.column(edge.parent), table.column(edge.child)
        if mask[parent, child]:
            raise UsageError(f"the edge {edge} is there twice; give it once")
        mask[parent, child] = True
    check_acyclic(torch.from_numpy(mask), table.names)
    return mask


__all__ = ["LAMBDA", "THRESHOLD", "Units", "find_support"]
