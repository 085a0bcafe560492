"""Subfamilies: rows that are alike, by the chain of their neighbours.

Density clustering (DBSCAN; Ester et al., 1996, "A density-based algorithm for
discovering clusters") on the distance 1 - id_L, with the radius chosen so that most
clusters come out, as in AF-Cluster (Wayment-Steele et al., 2024). Letters: R rows, L
columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .alphabet import Ids
from .identity import Planes, equal_columns

MIN_ROWS = 3
"""Rows within the radius, the row itself included, that make a row a core."""

_STEPS = 12
_AT_MOST = 4000
_BLOCK = 512

Labels = NDArray[np.int64]


def clusters(states: Ids, *, min_rows: int = MIN_ROWS) -> Labels:
    """Return the subfamily ``(R,)`` of each row, 0 being the one with most rows.

    Of radii from the 1st percentile of the distances to their median, the one with the
    most clusters is taken, and of several the smallest. Rows in no cluster then join
    the one with the nearest core. In a family of more than 4000 rows the first 4000
    decide. If no row is a core, all rows are one subfamily.

    Args:
        states: ``(R, L)``, see `Alignment.states`.
        min_rows: see `MIN_ROWS`.
    """
    first = states[:_AT_MOST]
    planes = Planes.of(first)
    distance = planes.length - equal_columns(planes, planes)
    apart = distance[np.triu_indices(len(first), 1)]
    if not len(apart):
        return np.zeros(len(states), np.int64)
    low, high = np.quantile(apart, [0.01, 0.5])
    best, count = np.full(len(first), -1, np.int64), 0
    for radius in np.unique(np.linspace(low, high, _STEPS).astype(np.int64)).tolist():
        found = dbscan(distance, radius, min_rows)
        if found.max(initial=-1) + 1 > count:
            best, count = found, int(found.max()) + 1
    if not count:
        return np.zeros(len(states), np.int64)
    labels = _nearest(states, first[best >= 0], best[best >= 0])
    sizes = np.bincount(labels, minlength=count)
    rank = np.empty(count, np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(count)
    return rank[labels]


def dbscan(distance: NDArray[np.int32], radius: int, min_rows: int) -> Labels:
    """Return the cluster ``(R,)`` of each row of a table ``(R, R)``; -1 for none.

    A row with `min_rows` rows within `radius` is a core; cores within the radius of
    each other are in one cluster, and so is a row within the radius of a core: in that
    of its nearest core.
    """
    near = distance <= radius
    cores = (near.sum(1) >= min_rows).nonzero()[0]
    labels = np.full(len(distance), -1, np.int64)
    if not len(cores):
        return labels
    links = coo_array(near[np.ix_(cores, cores)])
    of_core = connected_components(links, directed=False)[1].astype(np.int64)
    closest = distance[:, cores].argmin(1)
    inside = distance[np.arange(len(distance)), cores[closest]] <= radius
    labels[inside] = of_core[closest[inside]]
    labels[cores] = of_core
    return labels


def _nearest(states: Ids, known: Ids, labels: Labels) -> Labels:
    """Return for each row of `states` the label of the row of `known` nearest to it."""
    planes, others = Planes.of(states), Planes.of(known)
    found = np.empty(len(planes), np.int64)
    for top in range(0, len(planes), _BLOCK):
        part = planes.select(slice(top, top + _BLOCK))
        found[top : top + _BLOCK] = labels[equal_columns(part, others).argmax(1)]
    return found
