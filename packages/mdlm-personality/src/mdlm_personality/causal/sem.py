"""Linear structural equations of a table, by least squares, with bootstrap intervals.

z_j = c_j + sum_i A[i, j] z_i + eps_j, each node on its parents, over the rows in which
the node and all its parents are known. Total effects T = (I - A)^-1: T[i, j] is the
change of E[z_j] under do(z_i) by one unit. All of it holds under the fitted model: the
graph is assumed, not tested, and causes that are not in the table bias every number.
Letters: N rows, K columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels import Noise

from .compare import expected, total_effects
from .tables import Table

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
LEAST = 0.05
"""Standardised weight from which an edge is told of."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearSEM:
    """Structural equations in the units of the table."""

    names: tuple[str, ...]
    tiers: tuple[str, ...]
    support: Mask
    """(K, K): the parents that each node was fitted on."""
    weight: Array
    """A (K, K): row parent, column child."""
    intercept: Array
    """c (K,)."""
    scale: Array
    """(K,): standard deviation of eps, with the degrees of freedom taken off."""
    r2: Array
    """(K,): share of the variance that the parents explain."""
    rows: NDArray[np.int64]
    """(K,): rows that each equation was fitted on."""
    std: Array
    """(K,): standard deviation of the known values of each column."""

    def total(self) -> Array:
        """Return the total effects T (K, K), ones on the diagonal."""
        return total_effects(self.weight)

    def standardised(self) -> Array:
        """Return A (K, K) in standard deviations of child per one of the parent."""
        return self.weight * self.std[:, None] / self.std[None, :]

    def expected(self, do: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return E[z | do] of every node, in its units; without `do`, E[z].

        Raises:
            UsageError: if a name is no node.
        """
        for name in do or {}:
            if name not in self.names:
                raise UsageError(
                    f"'{name}' is no node; there are {', '.join(self.names)}"
                )
        places = {self.names.index(name): float(v) for name, v in (do or {}).items()}
        found = expected(self.weight, places, self.intercept)
        return dict(zip(self.names, found.tolist(), strict=True))

    def edges(self, least: float = LEAST) -> list[tuple[int, int]]:
        """Return the edges (parent, child) of at least that standardised weight."""
        strong = self.support & (np.abs(self.standardised()) >= least)
        return [(int(i), int(j)) for i, j in np.argwhere(strong)]


def fit(table: Table, support: Mask) -> LinearSEM:
    """Fit the equations of a graph by least squares.

    Args:
        table: values (N, K).
        support: (K, K) bool, the parents of each node; acyclic.

    Returns:
        The equations. Each uses the rows in which its own columns are known, so that
        `rows` differs from node to node; that is right if values are missing at random
        given the parents.

    Raises:
        UsageError: if the graph has a cycle; it is named.
        DataError: if a column has one value only, an equation has too few rows, or its
            parents are linearly dependent.
    """
    import torch

    from .order import check_acyclic

    check_acyclic(torch.from_numpy(np.array(support, dtype=bool)), table.names)
    mean, std = table.moments()
    count = len(table.names)
    weight, intercept, scale = (
        np.zeros((count, count)),
        np.empty(count),
        np.empty(count),
    )
    r2, rows = np.zeros(count), np.empty(count, dtype=np.int64)
    values = (table.values - mean) / std
    for node, name in enumerate(table.names):
        parents = np.flatnonzero(support[:, node])
        used = values[:, [node, *parents]]
        used = used[np.isfinite(used).all(axis=1)]
        rows[node], width = len(used), len(parents) + 1
        if len(used) <= width:
            raise DataError(
                f"'{name}' is known together with its {len(parents)} parents in "
                f"{len(used)} rows of {table.source}; an equation needs more than "
                f"{width}"
            )
        design = np.column_stack((np.ones(len(used)), used[:, 1:]))
        found, _, rank, _ = np.linalg.lstsq(design, used[:, 0], rcond=1e-10)
        if rank < width:
            listed = ", ".join(table.names[i] for i in parents)
            raise DataError(
                f"the parents of '{name}' are linearly dependent in {table.source}: "
                f"{listed}; leave one of them out"
            )
        residual = used[:, 0] - design @ found
        weight[parents, node] = found[1:] * std[node] / std[parents]
        intercept[node] = (
            mean[node] + found[0] * std[node] - mean[parents] @ weight[parents, node]
        )
        scale[node] = np.sqrt(residual @ residual / (len(used) - width)) * std[node]
        r2[node] = 1 - residual.var() / used[:, 0].var() if len(parents) else 0.0
    return LinearSEM(
        names=table.names,
        tiers=table.tiers,
        support=np.array(support, dtype=bool),
        weight=weight,
        intercept=intercept,
        scale=scale,
        r2=r2,
        rows=rows,
        std=std,
    )


def fit_tiered(table: Table, tiers: Mapping[str, str] | None = None) -> LinearSEM:
    """Fit every column on all columns of earlier tiers.

    Args:
        table: values, with the tier of each column.
        tiers: column -> tier, where another one is wanted than the table's.
    """
    if tiers:
        for name in tiers:
            table.column(name)
        changed = tuple(
            tiers.get(name, tier)
            for name, tier in zip(table.names, table.tiers, strict=True)
        )
        table = Table(table.names, changed, table.values, table.source)
    return fit(table, table.allowed())


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """What the fit gives on rows drawn again with replacement."""

    draws: int
    skipped: int
    """Draws of which no model could be fitted."""
    level: float
    weight_low: Array
    weight_high: Array
    """(K, K): percentile interval of A."""
    total_low: Array
    total_high: Array
    """(K, K): percentile interval of T."""
    share: Array
    """(K, K): share of the draws that have the edge, with the sign of the estimate."""


def bootstrap(
    table: Table,
    sem: LinearSEM,
    noise: Noise,
    *,
    draws: int = 200,
    level: float = 0.95,
    least: float = LEAST,
    support: Callable[[Table], Mask] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Bootstrap:
    """Resample rows, find the graph again, fit again (Efron, 1979).

    Args:
        table: what `sem` was fitted on.
        sem: the estimate.
        noise: decides the rows.
        draws: how often; at least 2.
        level: of the percentile intervals.
        least: a draw has an edge if it is in the draw's graph with at least that
            standardised weight and the sign that it has in `sem`.
        support: how the graph is found in a draw; None keeps that of `sem`.
        progress: called after each draw with the number of draws done.

    Raises:
        UsageError: if `draws` or `level` is out of its range.
        DataError: if more than half of the draws cannot be fitted.
    """
    if draws < 2 or not 0 < level < 1:
        raise UsageError(
            f"no bootstrap has {draws} draws and intervals of level {level:g}; "
            f"take at least 2 draws and a level between 0 and 1"
        )
    rng = np.random.default_rng(noise.child("bootstrap").integer())
    weights, totals, strong = [], [], []
    last: DataError | None = None
    for draw in range(draws):
        rows = rng.integers(0, len(table), len(table))
        again = Table(table.names, table.tiers, table.values[rows], table.source)
        try:
            found = fit(again, sem.support if support is None else support(again))
        except DataError as error:
            last = error
        else:
            weights.append(found.weight)
            totals.append(found.total())
            strength = found.standardised()
            strong.append(
                (np.abs(strength) >= least) & (np.sign(strength) == np.sign(sem.weight))
            )
        if progress is not None:
            progress(draw + 1)
    if last is not None and len(weights) < draws / 2:
        raise DataError(f"{draws - len(weights)} of {draws} draws failed; last: {last}")
    tails = ((1 - level) / 2, (1 + level) / 2)
    weight_low, weight_high = np.quantile(weights, tails, axis=0)
    total_low, total_high = np.quantile(totals, tails, axis=0)
    return Bootstrap(
        draws=draws,
        skipped=draws - len(weights),
        level=level,
        weight_low=weight_low,
        weight_high=weight_high,
        total_low=total_low,
        total_high=total_high,
        share=np.mean(strong, axis=0),
    )


def effects(
    sem: LinearSEM, names: Sequence[str] = (), *, least: float = 0.0
) -> list[tuple[int, int]]:
    """Return the pairs (cause, node) along whose paths there is an effect.

    Args:
        sem: the equations.
        names: the causes; none means all.
        least: only effects of at least that many standard deviations of the node for
            one of the cause.
    """
    size = np.abs(sem.total() * sem.std[:, None] / sem.std[None, :])
    reach = (size > 0) & (size >= least) & ~np.eye(len(size), dtype=bool)
    return [
        (int(i), int(j))
        for i, j in np.argwhere(reach)
        if not names or sem.names[i] in names
    ]


__all__ = [
    "LEAST",
    "Bootstrap",
    "LinearSEM",
    "bootstrap",
    "effects",
    "fit",
    "fit_tiered",
]
