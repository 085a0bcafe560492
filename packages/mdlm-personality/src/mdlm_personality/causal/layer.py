"""The causal layer: structural equations between the nodes of a persona.

``A[i, j] != 0`` means i -> j: row parent, column child. Every node is what its parents
make of it, and a noise of its own,

    z_j = f_j(pa_j) + eps_j,        linear:  z = A^T z + eps,

so that rows of nodes are ``Z = E (I - A)^-1``, and ``T = (I - A)^-1`` holds the total
effects: T[i, j] is the change of j for one unit of i. Letters: B batch, n nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mdlm_core.errors import UsageError

from .mechanisms import Mechanism, build_mechanism
from .order import check_acyclic, levels

_START = 0.1


class CausalLayer(nn.Module):
    """A structural causal model with additive noise; see the module.

    Which edges there are is in the buffer `support`, so that it is saved with the
    weights. A graph with cycles is allowed while edges are searched for;
    `losses.settle` ends that. Everything is computed outside autocast.

    Args:
        allowed: ``(n, n)`` bool, the edges that may be.
        mechanism: "linear", or "mask" for small networks, as in CausalVAE.

    Raises:
        UsageError: if `allowed` is not a square of bools, or a node is its own parent.
    """

    support: Tensor
    """``(n, n)`` bool: the edges."""
    level: Tensor
    """``(n,)`` int64: parents are on lower levels; all -1 if there is a cycle."""

    def __init__(self, allowed: Tensor, *, mechanism: Mechanism = "linear") -> None:
        super().__init__()
        shape = tuple(allowed.shape)
        if len(shape) != 2 or shape[0] != shape[1] or allowed.dtype != torch.bool:
            raise UsageError(
                f"the allowed edges have shape {shape} and type {allowed.dtype}; they "
                f"are a square of bools"
            )
        if allowed.diagonal().any():
            own = int(allowed.diagonal().nonzero()[0, 0])
            raise UsageError(f"node {own} is allowed as its own parent; it must not be")
        nodes = shape[0]
        self.mechanism = mechanism
        self.weight = nn.Parameter(_START * torch.randn(nodes, nodes) * allowed)
        self.log_scale = nn.Parameter(torch.zeros(nodes))
        self.function = build_mechanism(mechanism, nodes)
        self.register_buffer("support", allowed.clone())
        self.register_buffer("level", _levels(allowed))

    @property
    def nodes(self) -> int:
        """The number of nodes, n."""
        return len(self.weight)

    @property
    def acyclic(self) -> bool:
        """Whether the graph has no cycle."""
        return bool(self.level[0] >= 0)

    def adjacency(self) -> Tensor:
        """Return A ``(n, n)``: 0 where there is no edge."""
        return self.weight * self.support

    def scale(self) -> Tensor:
        """Return the standard deviations ``(n,)`` of the nodes' own noise."""
        return self.log_scale.exp()

    def means(self, z: Tensor) -> Tensor:
        """Return f_j(pa_j) ``(B, n)``: what the parents in z ``(B, n)`` make."""
        with torch.autocast(z.device.type, enabled=False):
            every = torch.arange(self.nodes, device=z.device)
            made: Tensor = self.function(self._typed(z), self.adjacency(), every)
            return made

    def noise(self, z: Tensor) -> Tensor:
        """Return eps ``(B, n)``, what is left of z ``(B, n)``: abduction."""
        return self._typed(z) - self.means(z)

    def solve(
        self, eps: Tensor, *, held: Tensor | None = None, where: Tensor | None = None
    ) -> Tensor:
        """Return the nodes z ``(B, n)`` that belong to the noise eps ``(B, n)``.

        Nodes in `where` are set to `held`, exactly, whatever their parents are: their
        incoming edges are cut, the outgoing ones stay.

        While the graph has a cycle, linear equations are solved for their equilibrium,
        and others are iterated n times.

        Args:
            eps: not read where a node is held.
            held: ``(B, n)`` or ``(n,)``; read where `where` holds alone.
            where: ``(B, n)`` or ``(n,)`` bool.

        Raises:
            UsageError: if only one of `held` and `where` is given, or they do not fit.
        """
        if (held is None) != (where is None):
            raise UsageError("solve takes both held and where, or neither")
        with torch.autocast(eps.device.type, enabled=False):
            eps = self._typed(eps)
            if held is not None and where is not None:
                held, where = self._rows(held, eps), self._rows(where, eps)
            if not self.acyclic:
                return self._equilibrium(eps, held, where)
            if where is None and self.mechanism == "linear":
                return self._triangular(eps)
            adjacency, z = self.adjacency(), torch.zeros_like(eps)
            for nodes in self._by_level():
                new = self.function(z, adjacency, nodes) + eps[:, nodes]
                if held is not None and where is not None:
                    new = torch.where(where[:, nodes], held[:, nodes], new)
                z = z.index_copy(1, nodes, new)
            return z

    def respond(
        self,
        z: Tensor,
        *,
        held: Tensor | None = None,
        where: Tensor | None = None,
        delta: Tensor | None = None,
    ) -> Tensor:
        """Return what z ``(B, n)`` becomes when nodes are held or their noise moves.

        The noise is that of z: ``eps_j = z_j - f_j(pa_j)``, so that

            z'_j = z_j + (f_j(pa'_j) - f_j(pa_j)) + delta_j,        or held_j,

        which leaves every node that nothing above it changes as it is, to the bit.

        Args:
            z: known nodes.
            held: ``(B, n)`` or ``(n,)``; read where `where` holds alone.
            where: ``(B, n)`` or ``(n,)`` bool.
            delta: ``(B, n)`` or ``(n,)``, added to the noise.

        Raises:
            UsageError: if the graph has a cycle, or arguments do not fit.
        """
        if (held is None) != (where is None):
            raise UsageError("respond takes both held and where, or neither")
        check_acyclic(self.support)
        with torch.autocast(z.device.type, enabled=False):
            z = self._typed(z)
            if held is not None and where is not None:
                held, where = self._rows(held, z), self._rows(where, z)
            delta = None if delta is None else self._rows(delta, z)
            adjacency, after = self.adjacency(), z
            for nodes in self._by_level():
                made = self.function(after, adjacency, nodes)
                new = z[:, nodes] + (made - self.function(z, adjacency, nodes))
                if delta is not None:
                    new = new + delta[:, nodes]
                if held is not None and where is not None:
                    new = torch.where(where[:, nodes], held[:, nodes], new)
                after = after.index_copy(1, nodes, new)
            return after

    def total_effects(self, z: Tensor | None = None) -> Tensor:
        """Return T ``(n, n)``: the change of node j for one unit of node i.

        ``T = (I - A)^-1`` where equations are linear. Otherwise it is the derivative at
        the persona z ``(n,)``, by default the one without noise.
        """
        with torch.autocast(self.weight.device.type, enabled=False):
            if self.mechanism == "linear":
                return self.solve(torch.eye(self.nodes).to(self.weight))
            if z is None:
                eps = torch.zeros_like(self.log_scale)
            else:
                eps = self.noise(z.unsqueeze(0))[0].detach()
            rate: Tensor = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
                lambda noise: self.solve(noise.unsqueeze(0))[0], eps
            )
            return rate.T

    @torch.no_grad()
    def set_support(self, support: Tensor) -> None:
        """Keep the edges of `support` ``(n, n)`` bool alone; the others are gone.

        Raises:
            UsageError: if it has an edge that there was not, or a cycle; it is named.
        """
        support = support.to(self.support)
        if (support & ~self.support).any():
            parent, child = (support & ~self.support).nonzero()[0].tolist()
            raise UsageError(
                f"the edge from node {parent} to node {child} was not allowed; a layer "
                f"can lose edges, and not gain them"
            )
        check_acyclic(support)
        self.support.copy_(support)
        self.level.copy_(_levels(support))
        self.weight.mul_(support)

    def _triangular(self, eps: Tensor) -> Tensor:
        """Solve ``Z (I - A) = E``, upper triangular once the nodes are in order."""
        order = self.level.argsort(stable=True)
        inside = torch.eye(self.nodes).to(eps) - self.adjacency()[order][:, order]
        sorted_z: Tensor = torch.linalg.solve_triangular(
            inside, eps[:, order], upper=True, left=False, unitriangular=True
        )
        return sorted_z[:, order.argsort()]

    def _equilibrium(
        self, eps: Tensor, held: Tensor | None, where: Tensor | None
    ) -> Tensor:
        """Solve equations with cycles; see `solve`."""
        if held is not None and where is not None:
            eps = torch.where(where, held, eps)
        if self.mechanism == "linear":
            a = self.adjacency().expand(len(eps), -1, -1)
            if where is not None:
                a = a.masked_fill(where.unsqueeze(1), 0.0)
            inside = torch.eye(self.nodes).to(eps) - a
            balanced: Tensor = torch.linalg.solve(inside.mT, eps.unsqueeze(2))
            return balanced.squeeze(2)
        z = eps
        for _ in range(self.nodes):
            new = self.means(z) + eps
            z = new if where is None else torch.where(where, eps, new)
        return z

    def _by_level(self) -> Iterator[Tensor]:
        for step in range(int(self.level.max()) + 1):
            yield (self.level == step).nonzero()[:, 0]

    def _typed(self, z: Tensor) -> Tensor:
        """Return z in the weights' type.

        Raises:
            UsageError: if it is not rows of n nodes.
        """
        if z.ndim != 2 or z.shape[1] != self.nodes:
            raise UsageError(
                f"the causal layer was given a tensor of shape {tuple(z.shape)}; it "
                f"takes (B, {self.nodes}), a value for each node"
            )
        return z.to(self.weight.dtype)

    def _rows(self, values: Tensor, like: Tensor) -> Tensor:
        """Return `values` ``(B, n)`` or ``(n,)`` as ``(B, n)``."""
        if values.ndim not in (1, 2) or values.shape[-1] != self.nodes:
            raise UsageError(
                f"held, where and delta have a value for each of {self.nodes} nodes, "
                f"and not the shape {tuple(values.shape)}"
            )
        if values.ndim == 2 and len(values) not in (1, len(like)):
            raise UsageError(
                f"held, where and delta have {len(values)} rows for {len(like)} rows "
                f"of nodes; give one, or as many"
            )
        if values.dtype != torch.bool:
            values = values.to(like)
        return values.to(like.device).expand(like.shape)

    def extra_repr(self) -> str:
        """Return sizes for the printed module."""
        edges = int(self.support.sum())
        return f"nodes={self.nodes}, edges={edges}, mechanism={self.mechanism}"


def _levels(mask: Tensor) -> Tensor:
    """Return the levels ``(n,)`` where `mask` is, all -1 if there is a cycle."""
    found = levels(mask)
    if found is None:
        found = torch.full((len(mask),), -1)
    return found.to(mask.device)
