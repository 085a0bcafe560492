"""Whether a graph depends on the units of the columns.

Scores of least squares are not invariant to scale: in other units the same data can
give another graph (Kaiser and Sipos, arXiv 2104.05441; Reisach et al., arXiv
2102.13647). A structure that is assumed, tiered or fixed, cannot change; its
standardised weights do not either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdlm_core.kernels import Noise

from .compare import shd, varsortability
from .sem import LEAST, LinearSEM, fit
from .tables import Table

Mask = NDArray[np.bool_]
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Stability:
    """Graphs of the same rows in different units."""

    raw: Mask
    """(K, K): in the units of the table."""
    standardised: Mask
    """(K, K): with variance 1 everywhere."""
    rescaled: Array
    """(K, K): share of the random units with the edge."""
    distance: int
    """SHD of raw and standardised."""
    distances: tuple[int, ...]
    """SHD of each graph in random units from the standardised one."""
    varsortability: float
    """Of the table in its own units and the raw graph; NaN without edges."""

    @property
    def stable(self) -> bool:
        """Whether all units gave the same graph."""
        return self.distance == 0 and not any(self.distances)

    def warning(self) -> str | None:
        """Return what a user has to know if units decide about edges."""
        if self.stable:
            return None
        moved = sum(distance > 0 for distance in self.distances)
        return (
            f"the graph depends on units: raw and standardised columns give graphs "
            f"{self.distance} edges apart, and {moved} of {len(self.distances)} random "
            f"rescalings give another graph than standardised columns, by up to "
            f"{max(self.distances, default=0)} edges. Take no direction of these edges "
            f"for a finding"
        )


def check_scale(
    table: Table,
    graph: Callable[[Table], Mask],
    noise: Noise,
    *,
    draws: int = 5,
    spread: float = 10.0,
    least: float = LEAST,
) -> Stability:
    """Find a graph on raw, standardised and randomly rescaled columns.

    Args:
        table: values (N, K).
        graph: the method, given a table in some units.
        noise: decides the units.
        draws: random rescalings of the standardised columns.
        spread: factors are between 1 / spread and spread, uniform in their logarithm.
        least: edges count if their standardised weight, fitted on the graph, is at
            least this.
    """
    whole = table.standardised()
    rng = np.random.default_rng(noise.child("rescale").integer())

    def edges(seen: Table) -> Mask:
        return _edges(fit(seen, graph(seen)), least)

    raw, standardised = edges(table), edges(whole)
    factors = np.exp(
        rng.uniform(-np.log(spread), np.log(spread), (draws, len(table.names)))
    )
    rescaled = [edges(whole.scaled(factor)) for factor in factors]
    known = table.values[np.isfinite(table.values).all(axis=1)]
    return Stability(
        raw=raw,
        standardised=standardised,
        rescaled=np.mean(rescaled, axis=0) if rescaled else np.zeros(raw.shape),
        distance=shd(raw, standardised),
        distances=tuple(shd(found, standardised) for found in rescaled),
        varsortability=varsortability(known, raw),
    )


def _edges(sem: LinearSEM, least: float) -> Mask:
    found = np.zeros_like(sem.support)
    for edge in sem.edges(least):
        found[edge] = True
    return found


__all__ = ["Stability", "check_scale"]
