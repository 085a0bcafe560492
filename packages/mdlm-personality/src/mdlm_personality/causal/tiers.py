"""Who comes before whom: the tiers of the nodes, their names, and the edges allowed.

The nodes are in four tiers of n / 4: personality, beliefs, intentions, actions. Nodes
0 to 4 are the standardised traits. Observed labels take the first free nodes of their
tier. All other nodes are latent, called by tier and place in it, "beliefs.3".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mdlm_core.errors import ConfigError
from mdlm_personality.config.data import TIERS
from mdlm_personality.config.model import Structure
from mdlm_personality.traits import TRAITS

from .graph import Graph, read_edges


def tier_of(node: int, nodes: int) -> str:
    """Return the tier of node number `node` of `nodes`."""
    return TIERS[node * len(TIERS) // nodes]


def node_names(nodes: int, labels: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the names of all nodes: traits, labels, and "beliefs.3" for latent ones.

    Args:
        nodes: n, a multiple of 4 and at least 20.
        labels: observed columns besides the traits, and the tier of each.

    Raises:
        ConfigError: if a tier has no node left for a label, or a name is taken.
    """
    size = nodes // len(TIERS)
    names = [f"{tier}.{place}" for tier in TIERS for place in range(size)]
    names[: len(TRAITS)] = TRAITS
    free = {tier: TIERS.index(tier) * size for tier in TIERS}
    free["personality"] = len(TRAITS)
    for label, tier in (labels or {}).items():
        node = free[tier]
        if node >= (TIERS.index(tier) + 1) * size:
            raise ConfigError(
                f"the label '{label}' finds no node in the tier {tier}, which has "
                f"{size} of {nodes} nodes; raise model.latent_dim"
            )
        if label in names:
            raise ConfigError(
                f"the label '{label}' is called as another node; rename the column"
            )
        names[node] = label
        free[tier] += 1
    return tuple(names)


def observed_nodes(
    names: Sequence[str], labels: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    """Return the nodes of the observed columns: the traits, then the labels."""
    return tuple(names.index(column) for column in (*TRAITS, *(labels or {})))


def tiered_mask(nodes: int) -> Tensor:
    """Return ``(n, n)`` bool: edges from every tier to all later ones.

    Acyclic by construction; six blocks of (n / 4)^2 edges.
    """
    tier = torch.arange(nodes) * len(TIERS) // nodes
    return tier.unsqueeze(1) < tier


def mask_for(
    structure: Structure,
    names: Sequence[str],
    *,
    observed: Sequence[int],
    edges: Sequence[str] = (),
) -> Tensor:
    """Return the edges ``(n, n)`` bool that a structure allows.

    tiered: from every tier to later ones, except from a latent node to an observed
    one. A latent node is a function of what is observed, so that no data could tell its
    effect from theirs. dagma and notears: likewise, and between any two observed nodes
    of one tier, in both directions until the search has settled. fixed: those of
    `edges`, and no others.

    Args:
        structure: its name.
        names: of all n nodes.
        observed: the nodes that data tell.
        edges: of the structure fixed; as `graph.read_edges` takes them.

    Raises:
        UsageError: if fixed edges have a cycle; it is named.
        UnknownNameError: if an edge names no node.
    """
    if structure == "fixed":
        return Graph.of(names, read_edges(edges)).mask
    mask = tiered_mask(len(names))
    seen = torch.zeros(len(names), dtype=torch.bool)
    seen[list(observed)] = True
    mask &= seen.unsqueeze(1) | ~seen
    if structure in ("dagma", "notears"):
        tier = torch.arange(len(names)) * len(TIERS) // len(names)
        same = tier.unsqueeze(1) == tier
        pairs = same & seen.unsqueeze(1) & seen
        mask |= pairs.fill_diagonal_(False)
    return mask
