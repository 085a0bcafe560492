"""The records of `report` as text for people, or as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def to_text(card: Mapping[str, Any], *, markdown: bool = False) -> str:
    """Return a record of `report.of_table` or `report.of_persona` as text."""
    blocks = [_head(card)]
    if card["effects"]:
        blocks.append(effects_table(card, markdown=markdown))
    else:
        blocks.append(f"no effect of {card['least']:g} standard deviations or more")
    if "rows" in card:
        blocks.append(nodes_table(card, markdown=markdown))
    if "stability" in card:
        blocks.append(stability_text(card["stability"]))
    for check in card.get("checks", ()):
        blocks.append(
            f"{check['method']}: {check['directed']} directed and "
            f"{check['undirected']} undirected edges in {check['rows']:,} complete rows"
        )
    if "do" in card:
        blocks += _do(card["do"], markdown=markdown)
    return "\n\n".join(blocks)


def effects_table(card: Mapping[str, Any], *, markdown: bool = False) -> str:
    """Return direct and total effects, with intervals if there are some."""
    spread = "bootstrap" in card
    checks = [check["method"] for check in card.get("checks", ())]
    head = ["effect", "direct", "standardised", "total"]
    if spread:
        level = f"{card['bootstrap']['level']:.0%} interval"
        head = ["effect", "direct", level, "standardised", "share", "total", level]
    rows = []
    for pair in card["effects"]:
        direct = _number(pair["direct"]) if pair["edge"] else "–"
        size = f"{pair['standardised']:.2f}" if pair["edge"] else "–"
        row = [f"{pair['cause']} -> {pair['node']}", direct]
        if spread:
            row.append(_interval(pair["direct_interval"]) if pair["edge"] else "–")
        row.append(size)
        if spread:
            row.append(f"{pair['share']:.2f}" if pair["edge"] else "–")
        row.append(_number(pair["total"]))
        if spread:
            row.append(_interval(pair["total_interval"]))
        row += [pair["found_by"][method] for method in checks]
        rows.append(row)
    return table([*head, *checks], rows, markdown=markdown)


def nodes_table(card: Mapping[str, Any], *, markdown: bool = False) -> str:
    """Return rows, explained variance and noise of each equation."""
    rows = [
        [
            node["name"],
            node["tier"],
            f"{node['rows']:,}",
            f"{node['r2']:.3f}",
            _number(node["noise"]),
        ]
        for node in card["nodes"]
    ]
    return table(["node", "tier", "rows", "R²", "noise"], rows, markdown=markdown)


def stability_text(found: Mapping[str, Any]) -> str:
    """Return what rescaling does to a graph, in a sentence or two."""
    sortable = found["varsortability"]
    lines = [
        "the same graph in all units"
        if found["stable"]
        else f"warning: {found['warning']}",
        "varsortability of the columns as they are: "
        + ("–" if sortable is None else f"{sortable:.2f}")
        + " (0.5: their units say nothing about the order)",
    ]
    return "\n".join(lines)


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False
) -> str:
    """Return a table, the first column to the left, the others to the right."""
    if markdown:
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    )


def _head(card: Mapping[str, Any]) -> str:
    parts = [str(card["source"])]
    if "rows" in card:
        parts.append(f"{card['rows']:,} rows")
    parts.append(f"structure {card['structure']}")
    if "mechanism" in card:
        parts.append(f"mechanism {card['mechanism']}")
    parts.append(f"{card['edges_allowed']:,} edges")
    if card.get("latent_nodes"):
        parts.append(f"{card['latent_nodes']} latent nodes not shown")
    if spread := card.get("bootstrap"):
        left = f", {spread['skipped']} without a fit" if spread["skipped"] else ""
        parts.append(f"{spread['draws']} bootstrap draws{left}")
    return (
        f"{'; '.join(parts)}\n"
        f"Effects under the fitted model, of at least {card['least']:g} standard "
        f"deviations: change of the node for one unit of the cause."
    )


def _do(found: Mapping[str, Any], *, markdown: bool) -> list[str]:
    blocks = []
    if found["unit"]:
        spread = "total_interval" in found["unit"][0]
        rows = [
            [f"do({each['cause']} + 1) -> {each['node']}", _number(each["total"])]
            + ([_interval(each["total_interval"])] if spread else [])
            for each in found["unit"]
        ]
        head = ["intervention", "change", *(["interval"] if spread else [])]
        blocks.append(table(head, rows, markdown=markdown))
    if found["expected"]:
        did = ", ".join(f"{name}={value:g}" for name, value in found["values"].items())
        rows = [
            [
                each["node"],
                _number(each["before"]),
                _number(each["after"]),
                _number(each["after"] - each["before"]),
            ]
            for each in found["expected"]
        ]
        head = ["node", "expected", f"do({did})", "change"]
        blocks.append(table(head, rows, markdown=markdown))
    return blocks or ["the interventions change nothing"]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(pair: Sequence[float]) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


__all__ = ["effects_table", "nodes_table", "stability_text", "table", "to_text"]
