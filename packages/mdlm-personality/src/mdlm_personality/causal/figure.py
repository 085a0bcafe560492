"""A picture of a graph: tiers from left to right, edges by sign and weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mdlm_core.reports.figures import BLUE, RED, figure_style, new_figure
from mdlm_personality.config.data import TIERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_graph(
    names: Sequence[str],
    tiers: Sequence[str],
    weight: NDArray[np.float64],
    *,
    title: str = "",
) -> Figure:
    """Draw a graph.

    Args:
        names: of the n nodes.
        tiers: of each.
        weight: (n, n), row parent, column child; 0 is no edge. Standardised weights, so
            that widths can be compared.
        title: over the picture.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    at = _places(tiers)
    used = [tier for tier in TIERS if tier in tiers]
    most = max(list(tiers).count(tier) for tier in used)
    with figure_style("mdlm-personality"):
        figure = new_figure(2.4 * len(used) + 1, 0.62 * most + 1.2)
        axes = figure.add_subplot()
        largest = float(np.abs(weight).max()) or 1.0
        for i, j in np.argwhere(weight != 0):
            size = float(abs(weight[i, j])) / largest
            same = at[i][0] == at[j][0]
            axes.annotate(
                "",
                xy=at[j],
                xytext=at[i],
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": BLUE if weight[i, j] > 0 else RED,
                    "linewidth": 0.5 + 2.5 * size,
                    "alpha": 0.35 + 0.65 * size,
                    "shrinkA": 22,
                    "shrinkB": 22,
                    "connectionstyle": f"arc3,rad={0.4 if same else 0.06}",
                },
            )
        for name, place in zip(names, at, strict=True):
            axes.text(
                *place,
                name,
                ha="center",
                va="center",
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "0.4"},
            )
        for x, tier in enumerate(used):
            axes.text(x, 0.75, tier, ha="center", color="0.4", style="italic")
        axes.set_xlim(-0.6, len(used) - 0.4)
        axes.set_ylim(-most + 0.3, 1.1)
        axes.set_axis_off()
        if title:
            axes.set_title(title)
        axes.plot([], [], color=BLUE, label="raises")
        axes.plot([], [], color=RED, label="lowers")
        axes.legend(loc="lower center", ncols=2)
    return figure


def to_dot(names: Sequence[str], weight: NDArray[np.float64]) -> str:
    """Return the graph in DOT, weights as labels; `graph.read_edges` reads it back."""
    lines = ["digraph {", "  rankdir=LR;"]
    lines += [f'  "{name}";' for name in names]
    lines += [
        f'  "{names[i]}" -> "{names[j]}" [label="{weight[i, j]:.4g}"];'
        for i, j in np.argwhere(weight != 0)
    ]
    return "\n".join([*lines, "}", ""])


def _places(tiers: Sequence[str]) -> list[tuple[float, float]]:
    """Return x, y of each node: a column for each tier, nodes spread evenly."""
    used = [tier for tier in TIERS if tier in tiers]
    most = max(list(tiers).count(tier) for tier in used)
    taken = dict.fromkeys(used, 0)
    places = []
    for tier in tiers:
        size = list(tiers).count(tier)
        gap = most / size
        places.append((float(used.index(tier)), -gap * (taken[tier] + 0.5) + 0.5))
        taken[tier] += 1
    return places


__all__ = ["draw_graph", "to_dot"]
