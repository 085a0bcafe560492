"""A sweep as a picture. It needs matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from mdlm_core.errors import UsageError
from mdlm_core.reports import figure_style, new_figure, save_figure
from mdlm_core.reports.figures import COLOURS, GREY
from mdlm_personality.traits import TRAITS

from .sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(found: Sweep, path: Path) -> None:
    """Write the picture of a sweep that a judge has read.

    One axis gives a line for each trait, with its standard error; two axes give a map
    of the score of each trait that is an axis, or of all five if none is.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        UsageError: if no judge has read the texts, or `path` is no picture.
    """
    if not found.judge:
        raise UsageError("a picture shows what a judge reads; give one")
    with figure_style("mdlm-personality"):
        if len(found.axes) == 1:
            figure = new_figure(5.2, 3.6)
            _lines(figure, found)
        else:
            figure = new_figure(4.4 * len(_shown(found)), 3.6)
            _maps(figure, found)
    save_figure(figure, path, package="mdlm-personality")


def _lines(figure: Figure, found: Sweep) -> None:
    axes = figure.subplots()
    (name, values), *_ = found.axes.items()
    for k, trait in enumerate(TRAITS):
        means = [cell.mean(k) for cell in found.cells]
        errors = [_or_zero(cell.error(k)) for cell in found.cells]
        axes.errorbar(
            values,
            means,
            yerr=errors,
            label=trait,
            color=COLOURS[k],
            linewidth=2.2 if trait == name else 1.0,
            marker="o",
            markersize=4,
            capsize=2,
        )
    if name in TRAITS:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel=f"{name}, set", ylabel="as the texts read", ylim=(-0.02, 1.02))
    axes.legend(fontsize=8)


def _maps(figure: Figure, found: Sweep) -> None:
    (first, rows), (second, columns) = found.axes.items()
    shown = _shown(found)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, trait in zip(panels, shown, strict=True):
        k = TRAITS.index(trait)
        means = [cell.mean(k) for cell in found.cells]
        grid = [means[i : i + len(columns)] for i in range(0, len(means), len(columns))]
        image = panel.imshow(grid, origin="lower", vmin=0, vmax=1, aspect="auto")
        panel.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        panel.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        panel.set(xlabel=f"{second}, set", ylabel=f"{first}, set", title=trait)
        figure.colorbar(image, ax=panel)


def _shown(found: Sweep) -> list[str]:
    return [name for name in found.axes if name in TRAITS] or list(TRAITS)


def _or_zero(error: float) -> float:
    return 0.0 if math.isnan(error) else error
