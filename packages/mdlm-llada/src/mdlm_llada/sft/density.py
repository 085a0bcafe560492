"""Piecewise linear densities of times on [0, 1], with an exact inverse.

Times are drawn from the very density that the weights 1 / p are read from, and its
support is all of [0, 1], so that the weighted loss stays unbiased. Letters: n nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Density:
    """A density that is linear between its nodes, positive, and of integral 1."""

    nodes: Tensor
    """``(n,)`` float64, rising: the first and the last are the ends of the support."""
    values: Tensor
    """``(n,)`` float64: the density there."""

    @classmethod
    def of(cls, nodes: Tensor, values: Tensor) -> Density:
        """Return the density through points that need not integrate to 1.

        Args:
            nodes: ``(n,)`` rising, in [0, 1].
            values: ``(n,)`` positive, up to a factor.

        Raises:
            ConfigError: if the nodes do not rise or a value is not positive.
        """
        nodes, values = nodes.double(), values.double()
        if bool((nodes.diff() <= 0).any()) or nodes[0] < 0 or nodes[-1] > 1:
            raise ConfigError("the nodes of a density must rise and lie in [0, 1]")
        if not bool((values.isfinite() & (values > 0)).all()):
            bad = int((~(values.isfinite() & (values > 0))).nonzero()[0])
            raise ConfigError(
                f"the density of times is {float(values[bad])} at "
                f"{float(nodes[bad]):.4f}; it must be positive everywhere, because a "
                f"time is weighted by 1 / density"
            )
        return cls(nodes, values / torch.trapezoid(values, nodes))

    @classmethod
    def uniform(cls, low: float = 0.0, high: float = 1.0) -> Density:
        """Return the uniform density on [low, high]."""
        nodes = torch.tensor([low, high], dtype=torch.float64)
        return cls.of(nodes, torch.ones_like(nodes))

    def mixed(self, share: float) -> Density:
        """Return ``(1 - share) p + share``, the mixture with the uniform density.

        p is normalised already, so that `share` is the share of the draws that come
        from the uniform part, and no weight exceeds ``1 / share``.
        """
        return Density.of(self.nodes, (1 - share) * self.values + share)

    def at(self, t: Tensor) -> Tensor:
        """Return the density at times `t` of any shape; 0 outside the support."""
        cell = self._cell(self.nodes, t)
        left, width = self.nodes[cell], self.nodes.diff()[cell]
        slope = self.values.diff()[cell] / width
        inside = (t >= self.nodes[0]) & (t <= self.nodes[-1])
        found: Tensor = (self.values[cell] + slope * (t - left)) * inside
        return found

    def mass(self, t: Tensor) -> Tensor:
        """Return the distribution function at times `t` of any shape."""
        t = t.clamp(self.nodes[0], self.nodes[-1])
        cell = self._cell(self.nodes, t)
        step = t - self.nodes[cell]
        mean = (self.values[cell] + self.at(t)) / 2
        return self._sums()[cell] + step * mean

    def quantile(self, u: Tensor) -> Tensor:
        """Return the times at which the distribution function is `u`, in [0, 1].

        In a cell of width D with the densities p0 and p1 at its ends, the mass r is
        reached after s with ``p0 s + (p1 - p0) s^2 / (2 D) = r``; the root is written
        so that it also holds for p1 = p0::

            s = 2 r / (p0 + sqrt(p0^2 + 2 (p1 - p0) r / D))
        """
        sums = self._sums()
        cell = self._cell(sums, u)
        rest = (u - sums[cell]).clamp(min=0)
        width = self.nodes.diff()[cell]
        p0 = self.values[cell]
        slope = self.values.diff()[cell] / width
        root = (p0.square() + 2 * slope * rest).clamp(min=0).sqrt()
        step = torch.minimum(2 * rest / (p0 + root), width)
        return self.nodes[cell] + step

    def _sums(self) -> Tensor:
        """Return ``(n,)`` the distribution function at the nodes."""
        sums = torch.zeros_like(self.nodes)
        sums[1:] = torch.cumulative_trapezoid(self.values, self.nodes)
        return sums / sums[-1]

    @staticmethod
    def _cell(edges: Tensor, x: Tensor) -> Tensor:
        """Return the index of the cell of `edges` in which each number lies."""
        found = torch.searchsorted(edges, x.contiguous(), right=True) - 1
        return found.clamp(0, len(edges) - 2)


def midpoints(n: int) -> Tensor:
    """Return ``(n,)`` float64, the middles of n equal parts of [0, 1]."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def with_ends(points: Tensor) -> Tensor:
    """Return the points ``(n,)``, all inside (0, 1), between 0 and 1: ``(n + 2,)``.

    Nodes from the first point to the last alone would leave out times: none is ever
    drawn there, and the weighted loss misses that part of its integral.
    """
    ends = points.new_tensor([0.0, 1.0])
    return torch.cat([ends[:1], points, ends[1:]])


def end_cells(points: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return nodes over all of [0, 1], with the outermost values at its ends."""
    return with_ends(points), torch.cat([values[:1], values, values[-1:]])
