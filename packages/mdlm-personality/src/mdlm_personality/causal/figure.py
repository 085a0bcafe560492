"""A picture of a graph: tiers from left to right, edges by sign and weight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import MissingExtraError, UsageError
from mdlm_personality.config.data import TIERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".svg", ".png", ".pdf")
POSITIVE, NEGATIVE = "#0072B2", "#D55E00"  # Okabe and Ito, 2008
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "svg.hashsalt": "mdlm",
    "svg.fonttype": "path",
}


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
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "pictures need matplotlib; install it: pip install 'mdlm-personality[plot]'"
        ) from None
    at = _places(tiers)
    used = [tier for tier in TIERS if tier in tiers]
    most = max(list(tiers).count(tier) for tier in used)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(2.4 * len(used) + 1, 0.62 * most + 1.2), layout="constrained"
        )
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
                    "color": POSITIVE if weight[i, j] > 0 else NEGATIVE,
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
            axes.set_title(title, fontsize=10)
        axes.plot([], [], color=POSITIVE, label="raises")
        axes.plot([], [], color=NEGATIVE, label="lowers")
        axes.legend(loc="lower center", ncols=2, frameon=False)
    return figure


def check_kind(path: Path, option: str = "--plot") -> None:
    """Raise a UsageError unless the name ends as a picture's."""
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"{option} '{path}' ends in none of {', '.join(KINDS)}")


def save(figure: Figure, path: Path) -> None:
    """Write a figure; its folder is made, and the file is the same every time."""
    check_kind(path)
    import matplotlib as mpl

    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"Date": None} if path.suffix.lower() == ".svg" else None
    with mpl.rc_context(STYLE):
        figure.savefig(path, dpi=150, metadata=facts)


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


__all__ = ["KINDS", "check_kind", "draw_graph", "save", "to_dot"]
