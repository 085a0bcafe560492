"""The figures of an evaluation. They need matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from mdlm_core.reports.figures import BLUE, GREEN, GREY, PURPLE, RED, new_figure
from mdlm_msa.alphabet import GAP_STATE, RESIDUES
from mdlm_msa.laws import Array

from .compare import GENERATED
from .evaluating import BOTH, NATURAL, SHOWN, Evaluation
from .profile import conservation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

KINDS = {"DE": RED, "KRH": BLUE, "AVLIMFWYC": "#222222", "STNQ": GREEN, "GP": PURPLE}
"""Colours of residues: acidic, basic, hydrophobic, polar, and those of turns."""
LOGO = 240
"""Columns that the logo shows, at most."""
LINE = 60
"""Columns of one line of it."""


def logo(found: Evaluation) -> Figure:
    """Draw the logos of the generated rows and of the reference, one above the other.

    The height of a letter is its share times the conservation of the column.
    """
    columns = min(len(found.query), LOGO)
    lines = -(-columns // LINE)
    figure = new_figure(10.0, 2.6 * lines)
    axes = figure.subplots(2 * lines, 1, squeeze=False)[:, 0]
    heights = {name: letters(law) for name, law in found.laws.items()}
    top = max(float(np.nanmax(h.sum(1))) for h in heights.values()) * 1.05
    for line in range(lines):
        part = slice(line * LINE, min((line + 1) * LINE, columns))
        for place, name in enumerate((GENERATED, NATURAL)):
            axis = axes[2 * line + place]
            _stack(axis, heights[name][part], part.start)
            axis.set(xlim=(part.start + 0.5, part.start + LINE + 0.5), ylim=(0, top))
            axis.set_ylabel(name if lines < 3 else name[:4])
            if place == 0:
                axis.tick_params(labelbottom=False)
    axes[-1].set_xlabel("column")
    figure.suptitle("Sequence logos, bits")
    return figure


def letters(law: Array) -> Array:
    """Return the heights ``(L, 20)`` of letters in bits; 0 in a column of gaps."""
    residues = law[:, :GAP_STATE]
    share = residues / np.maximum(residues.sum(1, keepdims=True), 1e-300)
    heights: Array = share * np.nan_to_num(conservation(law))[:, None]
    return heights


def _stack(axis: Axes, heights: Array, start: int) -> None:
    """Draw stacks of letters, the tallest on top."""
    from matplotlib.collections import PathCollection
    from matplotlib.transforms import Affine2D

    paths, colors = [], []
    for column, values in enumerate(heights, start=start + 1):
        bottom = 0.0
        for state in np.argsort(values):
            height = float(values[state])
            if height > 0.02:
                place = Affine2D().scale(0.9, height).translate(column - 0.45, bottom)
                letter = RESIDUES[state]
                paths.append(place.transform_path(_letter(letter)))
                colors.append(next(c for kind, c in KINDS.items() if letter in kind))
            bottom += height
    axis.add_collection(PathCollection(paths, facecolors=colors, lw=0), autolim=False)


@cache
def _letter(letter: str) -> Path:
    """Return the outline of a letter in the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    font = FontProperties(family="DejaVu Sans Mono", weight="bold")  # I has serifs
    path = TextPath((0, 0), letter, size=1, prop=font)
    box = path.get_extents()
    unit = Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height)
    outline: Path = unit.transform_path(path)
    return outline


def conserved(found: Evaluation) -> Figure | None:
    """Draw the conservation of columns in both, and how far their laws are apart."""
    profile = found.comparison.profile
    if profile is None:
        return None
    figure = new_figure(10.0, 4.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    columns = np.arange(1, len(profile.columns) + 1)
    for values, name, color in zip(
        profile.conserved, (GENERATED, NATURAL), (BLUE, GREY), strict=True
    ):
        above.plot(columns, values, color=color, label=name, linewidth=1.2)
    above.legend(loc="upper right", ncols=2)
    rho = f"{profile.rho:.2f}" if np.isfinite(profile.rho) else "not defined"
    above.set(ylabel="conservation, bits", title=f"Columns: rank correlation {rho}")
    above.set_ylim(bottom=0)
    below.bar(columns, profile.columns, width=1.0, color=RED, linewidth=0)
    below.axhline(profile.js, color="black", linewidth=0.8, linestyle="--")
    below.set(ylabel="JS, bits", xlabel="column", xlim=(0.5, len(columns) + 0.5))
    below.text(
        0.995,
        0.92,
        f"mean {profile.js:.3f}",
        transform=below.transAxes,
        ha="right",
        va="top",
    )
    return figure


def halves(found: Evaluation) -> tuple[str, str]:
    """Return which rows stand below and above the diagonal of the contact map."""
    names = [] if found.contacts is None else list(found.contacts.scores)
    low = next((name for name in (SHOWN, NATURAL) if name in names), "")
    high = next((name for name in (BOTH, GENERATED) if name in names), "")
    return low, high


def contacts(found: Evaluation) -> Figure | None:
    """Draw the strongest couplings of two sets of rows over the contacts."""
    if found.contacts is None:
        return None
    distances = found.contacts.structure.distances
    columns = len(distances)
    figure = new_figure(6.4, 6.4)
    axes = figure.add_subplot()
    with np.errstate(invalid="ignore"):
        i, j = np.nonzero(distances < 8.0)
    far = np.abs(i - j) >= 6
    size = max(2.0, min(18.0, 2500.0 / columns))
    axes.scatter(j[far] + 1, i[far] + 1, s=size, marker="s", color="#D9D9D9", lw=0)
    for name, upper in zip(halves(found), (False, True), strict=True):
        if not name:
            continue
        a, b = np.triu_indices(columns, 6)
        known = np.isfinite(distances[a, b])
        a, b = a[known], b[known]
        best = np.argsort(-found.contacts.scores[name][a, b], kind="stable")[:columns]
        a, b = a[best] + 1, b[best] + 1
        right = distances[a - 1, b - 1] < 8.0
        x, y = (b, a) if upper else (a, b)
        color = BLUE if upper else GREEN
        axes.scatter(
            x,
            y,
            s=size,
            edgecolors=color,
            lw=0.8,
            facecolors=[color if r else "none" for r in right],
        )
        value = found.contacts.precisions[name]["P@L |i-j|>=6"]
        axes.text(
            1.0 if upper else 0.0,
            1.01,
            f"{'above' if upper else 'below'}: {name}, P@L {value:.2f}",
            transform=axes.transAxes,
            ha="right" if upper else "left",
            color=color,
        )
    axes.plot([1, columns], [1, columns], color=GREY, linewidth=0.6)
    axes.set(
        xlabel="column",
        ylabel="column",
        xlim=(0.5, columns + 0.5),
        ylim=(columns + 0.5, 0.5),
        aspect="equal",
    )
    return figure


FIGURES: dict[str, Callable[[Evaluation], Figure | None]] = {
    "logo": logo,
    "conservation": conserved,
    "contacts": contacts,
}
