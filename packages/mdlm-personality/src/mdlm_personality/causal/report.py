"""What a causal graph says, as plain records: of a table, or of a run's layer.

Everything here is a statement about the fitted model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .sem import Bootstrap, LinearSEM

if TYPE_CHECKING:
    from mdlm_personality.persona import Persona

    from .cross_check import Found
    from .stability import Stability

Array = NDArray[np.float64]
Do = Mapping[str, float | None]
"""Nodes to intervene on, and their values; None asks for the effect of one unit."""


def of_table(
    sem: LinearSEM,
    *,
    source: str,
    rows: int,
    structure: str,
    least: float,
    spread: Bootstrap | None = None,
    stability: Stability | None = None,
    checks: Sequence[Found] = (),
    do: Do | None = None,
) -> dict[str, Any]:
    """Describe the structural equations of a table."""
    total, standardised = sem.total(), sem.standardised()
    strength = total * sem.std[:, None] / sem.std[None, :]
    shown = sem.support & (np.abs(standardised) >= least)
    shown |= (np.abs(strength) >= least) & ~np.eye(len(total), dtype=bool)
    pairs = []
    for i, j in np.argwhere(shown):
        pair = _pair(sem.names, i, j, sem.weight, total, standardised, sem.support)
        if spread is not None:
            pair["direct_interval"] = _interval(
                spread.weight_low, spread.weight_high, i, j
            )
            pair["total_interval"] = _interval(
                spread.total_low, spread.total_high, i, j
            )
            pair["share"] = float(spread.share[i, j])
        if checks:
            pair["found_by"] = {each.method: each.verdict(i, j) for each in checks}
        pairs.append(pair)
    card: dict[str, Any] = {
        "source": source,
        "rows": rows,
        "structure": structure,
        "least": least,
        "nodes": [
            {
                "name": name,
                "tier": sem.tiers[k],
                "rows": int(sem.rows[k]),
                "r2": float(sem.r2[k]),
                "noise": float(sem.scale[k]),
                "std": float(sem.std[k]),
            }
            for k, name in enumerate(sem.names)
        ],
        "edges_allowed": int(sem.support.sum()),
        "effects": pairs,
    }
    if spread is not None:
        card["bootstrap"] = {
            "draws": spread.draws,
            "skipped": spread.skipped,
            "level": spread.level,
        }
    if stability is not None:
        card["stability"] = _stability(stability, sem.names)
    if checks:
        card["checks"] = [
            {
                "method": each.method,
                "rows": each.rows,
                "directed": int(each.directed.sum()),
                "undirected": int(each.undirected.sum()) // 2,
            }
            for each in checks
        ]
    if do:
        card["do"] = _do_table(sem, do, spread)
    return card


def of_persona(
    persona: Persona,
    *,
    source: str,
    structure: str,
    least: float,
    every: bool = False,
    do: Do | None = None,
) -> dict[str, Any]:
    """Describe the causal layer of a model.

    Weights are in a user's units where a node is observed, on the standardised scale
    where it is latent.

    Args:
        persona: encoder and layer.
        source: the run.
        structure: as it was trained.
        least: standardised weight from which an edge is told of.
        every: tell of latent nodes too.
        do: nodes to intervene on.
    """
    from .tiers import tier_of

    layer, names = persona.layer, persona.node_names
    adjacency = layer.adjacency().detach().double().cpu().numpy()
    total = layer.total_effects().detach().double().cpu().numpy()
    scale = layer.scale().detach().double().cpu().numpy()
    support = layer.support.cpu().numpy()
    linear = layer.mechanism == "linear"
    direct = adjacency if linear else None
    std = np.array(
        [persona.value(name, 1.0) - persona.value(name, 0.0) for name in names]
    )
    units = std[None, :] / std[:, None]
    told = np.ones(len(names), dtype=bool)
    if not every:
        told[:] = False
        told[persona.column_nodes.cpu().numpy()] = True
    shown = (np.abs(total) >= least) & ~np.eye(len(names), dtype=bool)
    if direct is not None:
        shown |= support & (np.abs(direct) >= least)
    shown &= told[:, None] & told[None, :]
    card: dict[str, Any] = {
        "source": source,
        "structure": structure,
        "mechanism": layer.mechanism,
        "least": least,
        "nodes": [
            {
                "name": names[k],
                "tier": tier_of(int(k), len(names)),
                "noise": float(scale[k] * std[k]),
                "std": float(std[k]),
            }
            for k in np.flatnonzero(told)
        ],
        "latent_nodes": int((~told).sum()),
        "edges_allowed": int(support.sum()),
        "effects": [
            _pair(
                names,
                i,
                j,
                None if direct is None else direct * units,
                total * units,
                total if direct is None else direct,
                support,
            )
            for i, j in np.argwhere(shown)
        ],
    }
    if do:
        card["do"] = _do_persona(persona, do, told, total * units)
    return card


def matrix(card: Mapping[str, Any]) -> tuple[list[str], list[str], Array]:
    """Return names, tiers and standardised edges (n, n) of a record, for a picture."""
    names = [node["name"] for node in card["nodes"]]
    weight = np.zeros((len(names), len(names)))
    for pair in card["effects"]:
        if pair["edge"] and abs(pair["standardised"]) >= card["least"]:
            at = names.index(pair["cause"]), names.index(pair["node"])
            weight[at] = pair["standardised"]
    return names, [node["tier"] for node in card["nodes"]], weight


def _pair(
    names: Sequence[str],
    i: int,
    j: int,
    direct: Array | None,
    total: Array,
    standardised: Array,
    support: NDArray[np.bool_],
) -> dict[str, Any]:
    return {
        "cause": names[i],
        "node": names[j],
        "edge": bool(support[i, j]),
        "direct": None if direct is None else float(direct[i, j]),
        "standardised": float(standardised[i, j]),
        "total": float(total[i, j]),
    }


def _interval(low: Array, high: Array, i: int, j: int) -> list[float]:
    return [float(low[i, j]), float(high[i, j])]


def _stability(found: Stability, names: Sequence[str]) -> dict[str, Any]:
    sortable = found.varsortability
    return {
        "stable": found.stable,
        "raw_from_standardised": found.distance,
        "rescaled_from_standardised": list(found.distances),
        "varsortability": sortable if np.isfinite(sortable) else None,
        "edges": [
            {
                "parent": names[i],
                "child": names[j],
                "raw": bool(found.raw[i, j]),
                "standardised": bool(found.standardised[i, j]),
                "rescaled": float(found.rescaled[i, j]),
            }
            for i, j in np.argwhere(
                found.raw | found.standardised | (found.rescaled > 0)
            )
        ],
        "warning": found.warning(),
    }


def _do_table(sem: LinearSEM, do: Do, spread: Bootstrap | None) -> dict[str, Any]:
    """Return effects of a unit, and expected values under values that are given."""
    total, place = sem.total(), sem.names.index
    units = []
    for name in (name for name, value in do.items() if value is None):
        for j in np.flatnonzero(total[place(name)]).tolist():
            if j == place(name):
                continue
            effect: dict[str, Any] = {
                "cause": name,
                "node": sem.names[j],
                "total": float(total[place(name), j]),
            }
            if spread is not None:
                effect["total_interval"] = _interval(
                    spread.total_low, spread.total_high, place(name), j
                )
            units.append(effect)
    values = {name: value for name, value in do.items() if value is not None}
    before, after = sem.expected(), sem.expected(values)
    return {
        "unit": units,
        "values": values,
        "expected": [
            {"node": name, "before": before[name], "after": after[name]}
            for name in sem.names
            if values and before[name] != after[name]
        ],
    }


def _do_persona(
    persona: Persona, do: Do, told: NDArray[np.bool_], total: Array
) -> dict[str, Any]:
    import torch

    names = persona.node_names
    units = [
        {"cause": name, "node": names[j], "total": float(total[persona.node(name), j])}
        for name, value in do.items()
        if value is None
        for j in np.flatnonzero(total[persona.node(name)])
        if told[j] and j != persona.node(name)
    ]
    values = {name: value for name, value in do.items() if value is not None}
    expected = []
    if values:
        like = persona.mean
        nobody = torch.zeros(1, len(persona.columns)).to(like)
        unknown = torch.zeros_like(nobody, dtype=torch.bool)
        with torch.no_grad():
            before = persona.complete(nobody, unknown)[0].tolist()
            after = persona.intervene(nobody, unknown, values)[0].tolist()
        expected = [
            {
                "node": name,
                "before": persona.value(name, before[k]),
                "after": persona.value(name, after[k]),
            }
            for k, name in enumerate(names)
            if before[k] != after[k] and (told[k] or name in values)
        ]
    return {"unit": units, "values": values, "expected": expected}


__all__ = ["matrix", "of_persona", "of_table"]
