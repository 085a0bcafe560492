"""A persona: what is known of a person, and what the causal layer makes of it.

The nodes z are standardised. Observed columns have nodes of their own, the traits the
first five; what is known is put there. With linear equations the other columns are
expected given all that is known, causes and effects (`causal.posterior`); with networks
given their causes alone. Nodes that nobody observes are what their parents make of
them, plus their noise: zero, or with the encoder the mean of what it says about the
five traits. A counterfactual keeps the noise of a persona and changes some of its
nodes; an intervention forgets it. Both are statements about the fitted model.

Letters: B batch, K observed columns (the five traits, then labels), n nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mdlm_core.errors import ConfigError, UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise

from .causal import interventions, posterior
from .causal.layer import CausalLayer
from .causal.tiers import mask_for, node_names, observed_nodes
from .config.data import TIERS
from .encoder import BetaVAE
from .traits import TRAITS, check_value, trait_index

if TYPE_CHECKING:
    from .config import PersonalityDiTConfig


class Persona(nn.Module):
    """The encoder and the causal layer, with the scale of what is observed."""

    mean: Tensor
    std: Tensor
    column_nodes: Tensor
    latent_nodes: Tensor

    def __init__(self, config: PersonalityDiTConfig) -> None:
        """Draw new weights from torch's global generator.

        Raises:
            ConfigError: if a tier has more labels than nodes, or no node is left.
            UsageError: if a fixed structure goes round in a circle.
            UnknownNameError: if it has an edge of a node that does not exist.
        """
        super().__init__()
        self.nodes = config.latent_dim
        self.columns = (*TRAITS, *config.labels)
        """The names of the K observed columns."""
        self.node_names = node_names(config.latent_dim, config.labels)
        """The names of the n nodes."""
        where = observed_nodes(self.node_names, config.labels)
        latent = [node for node in range(self.nodes) if node not in where]
        if not latent:
            raise ConfigError(
                f"all {self.nodes} nodes are traits or labels, and at least one is of "
                f"what nobody observes; raise model.latent_dim"
            )
        self.register_buffer("column_nodes", torch.tensor(where))
        self.register_buffer("latent_nodes", torch.tensor(latent), persistent=False)
        self.register_buffer("mean", torch.full((len(where),), 0.5))
        self.register_buffer("std", torch.ones(len(where)))
        self.layer = CausalLayer(
            mask_for(
                config.structure, self.node_names, observed=where, edges=config.edges
            ),
            mechanism=config.mechanism,
        )
        self.encoder: BetaVAE | None = None
        if config.encoder == "beta-vae":
            self.encoder = BetaVAE(
                len(TRAITS),
                len(latent),
                beta=config.beta,
                sigma=config.sigma,
                capacity=config.capacity,
            )

    # ---- names and scales ------------------------------------------------------

    def node(self, name: str) -> int:
        """Return the node of a trait, a label, or a latent such as "beliefs.3".

        Raises:
            UnknownNameError: if there is none; near misses are listed.
        """
        if name in self.node_names:
            return self.node_names.index(name)
        try:
            return trait_index(name)
        except UnknownNameError:
            near = get_close_matches(name, self.node_names, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise UnknownNameError(
                f"'{name}' is no node of this model; there are {', '.join(TRAITS)}"
                f"{''.join(f', {label}' for label in self.columns[len(TRAITS) :])}, "
                f"and latent ones such as {TIERS[1]}.{self.nodes // 4 - 1}.{hint}"
            ) from None

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and standard deviation of the columns, ``(K,)`` or of the first."""
        self.mean[: len(mean)] = mean
        self.std[: len(std)] = std

    def standard(self, name: str, value: float) -> float:
        """Return the node's value for a user's: a latent node's is what it is.

        Raises:
            UsageError: if a trait is not in [0, 1], or the value is not finite.
        """
        node = self.node(name)
        if node < len(TRAITS):
            check_value(TRAITS[node], value)
        if not math.isfinite(value):
            raise UsageError(f"{name} is {value}; it must be a finite number")
        column = self._column(node)
        if column is None:
            return value
        return float((value - self.mean[column]) / self.std[column])

    def value(self, name: str, standard: float) -> float:
        """Return the user's value of a node: the inverse of `standard`."""
        column = self._column(self.node(name))
        if column is None:
            return standard
        return float(standard * self.std[column] + self.mean[column])

    def values(self, z: Tensor) -> Tensor:
        """Return the columns ``(B, K)`` of nodes ``(B, n)``, in a user's units."""
        return z[:, self.column_nodes] * self.std + self.mean

    def _column(self, node: int) -> int | None:
        found = (self.column_nodes == node).nonzero()
        return int(found[0, 0]) if len(found) else None

    def by_node(self, known: Tensor) -> Tensor:
        """Return ``(B, n)`` bool: the known columns ``(B, K)``, by their nodes."""
        if known.shape[1] == self.nodes:
            return known
        nodes = known.new_zeros(len(known), self.nodes)
        nodes[:, self.column_nodes[: known.shape[1]]] = known
        return nodes

    # ---- what a persona is -----------------------------------------------------

    def held(self, values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is observed: standardised nodes ``(B, n)``, and which, bool.

        Fewer than K columns stand for the first ones, such as the traits alone.

        Raises:
            UsageError: if a known value is not finite.
        """
        count = values.shape[1]
        if bool((known & ~values.isfinite()).any()):
            raise UsageError(
                "a persona has a value that is no finite number; mark it as not known"
            )
        scaled = (values - self.mean[:count]) / self.std[:count]
        held = scaled.new_zeros(len(values), self.nodes)
        held[:, self.column_nodes[:count]] = scaled.masked_fill(~known, 0.0)
        return held, self.by_node(known)

    def exogenous(self, held: Tensor, where: Tensor) -> Tensor:
        """Return the noise ``(B, n)`` that is expected before any effect is seen.

        That of the columns is 0: what the encoder says about the traits is in no data
        of the labels.
        """
        eps = torch.zeros_like(held)
        if self.encoder is not None:
            count = len(TRAITS)
            with torch.autocast(held.device.type, enabled=False):
                said = self.encoder.mean(held[:, :count], where[:, :count])
            eps[:, self.latent_nodes] = said
        return eps

    def complete(self, values: Tensor, known: Tensor) -> Tensor:
        """Return the nodes ``(B, n)``: the known ones as observed, the others expected.

        Args:
            values: ``(B, K)`` in the units of the user.
            known: ``(B, K)`` bool; the other values are not read.
        """
        held, where = self.held(values, known)
        eps = self.exogenous(held, where)
        return self._solved(eps, held, where)

    def _solved(
        self,
        eps: Tensor,
        held: Tensor,
        where: Tensor,
        *,
        cut: Tensor | None = None,
        normal: Tensor | None = None,
    ) -> Tensor:
        """Return the nodes ``(B, n)``: see `causal.posterior.posterior`.

        Args:
            eps: the noise that is expected.
            held: ``(B, n)``.
            where: ``(B, n)`` bool: what is known.
            cut: ``(n,)`` bool: what is set.
            normal: ``(B, K)`` numbers that make the columns' noise; None is expected.
        """
        fixed = where if cut is None else where | cut
        nodes = self.column_nodes
        if not posterior.exact(self.layer):
            if normal is not None:
                noise = normal.to(eps) * self.layer.scale()[nodes]
                eps = eps.index_add(1, nodes, noise)
            return self.layer.solve(eps, held=held, where=fixed)
        with torch.autocast(held.device.type, enabled=False):
            law = posterior.posterior(self.layer, nodes, eps, held, where, cut)
            found = law.mean
            if normal is not None:
                found = posterior.drawn(law, ~fixed[:, nodes], normal)
            told = held.index_copy(
                1,
                nodes,
                torch.where(fixed[:, nodes], held[:, nodes], found.to(held)),
            )
            columns = torch.zeros_like(fixed).index_fill(1, nodes, True)
            return self.layer.solve(eps, held=told, where=fixed | columns)

    def abduct(self, z: Tensor) -> Tensor:
        """Return the noise ``(B, n)`` of nodes ``(B, n)``."""
        return self.layer.noise(z)

    # ---- what it would be ------------------------------------------------------

    def counterfactual(self, z: Tensor, do: Mapping[str, float]) -> Tensor:
        """Return the nodes with some set, the noise of all others kept.

        Args:
            z: ``(B, n)``, as observed or completed.
            do: values by name, in the units of the user.
        """
        where, value = self._setting(z, do)
        return interventions.counterfactual(self.layer, z, where, value)

    def intervene(
        self,
        values: Tensor,
        known: Tensor,
        do: Mapping[str, float],
        *,
        noise: Noise | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return nodes ``(B, n)`` with some set, all that is not known being new.

        Args:
            values: ``(B, K)`` what is known of the persons.
            known: ``(B, K)`` bool.
            do: values by name, in the units of the user.
            noise: draws the columns that are neither known nor set, given those that
                are known; None takes what is expected. With networks for equations the
                known effects of a column do not tell of it. Latent nodes have the noise
                that they learned with, which is none, or the encoder's.
            rows: ``(B,)`` int64, the numbers of the rows, for `noise`.

        Raises:
            UsageError: if something is known that depends on what is set: after the
                intervention it need not be so any more.
        """
        held, where = self.held(values, known)
        fixed, value = self._setting(held, do)
        self._check_descendants(where & ~fixed, fixed)
        eps, normal = self.exogenous(held, where), None
        if noise is not None:
            rows = torch.arange(len(held)) if rows is None else rows
            u = noise.uniform(rows.to(held.device), self.nodes)[:, self.column_nodes]
            normal = torch.special.ndtri(u)
        told = torch.where(fixed, value, held)
        return self._solved(eps, told, where, cut=fixed.any(0), normal=normal)

    def shift(self, z: Tensor, by: Mapping[str, float]) -> Tensor:
        """Return the nodes with the noise of some moved, in their own units."""
        delta = torch.zeros_like(z)
        for name, amount in by.items():
            node = self.node(name)
            column = self._column(node)
            scale = 1.0 if column is None else float(self.std[column])
            delta[:, node] += amount / scale
        return interventions.shift(self.layer, z, delta)

    def _setting(self, like: Tensor, do: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """Return which nodes are set ``(B, n)`` bool, and to what ``(B, n)``."""
        where = torch.zeros_like(like, dtype=torch.bool)
        value = torch.zeros_like(like)
        for name, amount in do.items():
            node = self.node(name)
            if bool(where[:, node].any()):
                raise UsageError(f"{self.node_names[node]} is set twice; set it once")
            where[:, node] = True
            value[:, node] = self.standard(name, amount)
        return where, value

    def _check_descendants(self, known: Tensor, fixed: Tensor) -> None:
        reached = interventions.descendants(self.layer, fixed.any(0))
        both = (reached & known.any(0)).nonzero()
        if len(both):
            child = self.node_names[int(both[0, 0])]
            causes = " and ".join(
                self.node_names[i] for i in fixed.any(0).nonzero()[:, 0].tolist()
            )
            raise UsageError(
                f"{child} is given as observed, but it depends on {causes}, on which "
                f"you intervene, so that it need not be so afterwards; leave {child} "
                f"out, set it too, or ask for the counterfactual, which learns from it"
            )
