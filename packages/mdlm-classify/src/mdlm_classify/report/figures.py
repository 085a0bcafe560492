"""The figures of an evaluation. They need matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mdlm_classify.doubt import trust
from mdlm_core.reports.figures import BLUE, GREEN, GREY, RED, new_figure

from .card import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUMBERS = 15
"""Classes up to which a confusion matrix has its numbers written in."""
NAMES = 40
"""Classes up to which they are named."""


def _short(name: str, most: int = 18) -> str:
    name = " ".join(name.split())
    name = name if len(name) <= most else name[: most - 1] + "\u2026"
    return name.replace("$", r"\$")  # no formula


def confusion(evaluation: Evaluation) -> Figure:
    """Draw the shares of each right class by predicted class, with the counts."""
    counts = np.array(evaluation.metrics.confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(counts)
    side = min(max(3.2, 1.6 + 0.55 * classes), 9.0)
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the right class", shrink=0.8)
    if classes <= NAMES:
        names = [_short(label) for label in evaluation.labels]
        axes.set_xticks(range(classes), names, rotation=45, ha="right")
        axes.set_yticks(range(classes), names)
    if classes <= NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            dark = shares[row, column] > 0.5
            axes.text(
                column,
                row,
                f"{count:,}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
    axes.set(xlabel="predicted", ylabel="right class", title="Confusion matrix")
    return figure


def reliability(evaluation: Evaluation) -> Figure:
    """Draw accuracy by confidence, and how many texts have each confidence."""
    bins = evaluation.reliability()
    metrics = evaluation.metrics
    low, high = np.array(bins.low), np.array(bins.high)
    figure = new_figure(4.6, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    above.bar(
        low,
        bins.accuracy,
        high - low,
        align="edge",
        color=BLUE,
        alpha=0.35,
        edgecolor=BLUE,
        linewidth=0.6,
    )
    above.plot(
        bins.confidence,
        bins.accuracy,
        "o",
        color=BLUE,
        markersize=4,
        label="mean of a bin",
    )
    above.legend(loc="upper left")
    above.set(
        ylabel="accuracy",
        ylim=(0, 1.02),
        title=f"Reliability: ECE {metrics.ece:.3f} "
        f"({metrics.ece_adaptive:.3f} in bins of as many texts)",
    )
    below.bar(low, bins.rows, high - low, align="edge", color=GREY, linewidth=0)
    below.set(xlabel="probability of the predicted class", ylabel="texts", xlim=(0, 1))
    return figure


def curve(evaluation: Evaluation) -> Figure | None:
    """Draw accuracy and agreement after some draws, if that was measured."""
    points = evaluation.curve
    if not points:
        return None
    draws = [point.draws for point in points]
    figure = new_figure(6.2, 3.8)
    axes = figure.add_subplot()
    axes.fill_between(
        draws,
        [point.accuracy.low for point in points],
        [point.accuracy.high for point in points],
        color=BLUE,
        alpha=0.15,
        linewidth=0,
    )
    axes.plot(
        draws,
        [point.accuracy.value for point in points],
        "o-",
        color=BLUE,
        markersize=4,
        label="accuracy, 95 % interval",
    )
    axes.plot(
        draws,
        [point.agreement for point in points],
        "s-",
        color=RED,
        markersize=4,
        label=f"same class as after {draws[-1]:g} draws",
    )
    if evaluation.reached is not None:
        _reached(axes, evaluation)
    axes.set_xscale("log", base=2)
    axes.set_xticks(draws, [f"{n:g}" for n in draws])
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.legend(loc="best")
    axes.set(xlabel="draws per text and class", title="What more draws bring")
    return figure


def _reached(axes: Axes, evaluation: Evaluation) -> None:
    """Mark what the rule of stopping reaches, at the draws that it takes."""
    reached = evaluation.reached
    assert reached is not None
    axes.plot(
        [reached.draws] * 2,
        [reached.accuracy.value, reached.agreement],
        "*",
        color=GREEN,
        markersize=11,
        linestyle="none",
        label=f"with the rule of stopping: {reached.draws:.1f} draws",
        zorder=3,
    )


def answered(evaluation: Evaluation) -> Figure:
    """Draw the accuracy of the most trusted texts by how many are answered."""
    trusts = trust(evaluation.log_posterior, evaluation.flip)
    order = trusts.argsort(descending=True, stable=True)
    right = evaluation.right[order].double().cpu().numpy()
    rows = np.arange(1, len(right) + 1)
    accuracy = np.cumsum(right) / rows
    start = min(len(rows) - 1, max(len(rows) // 50, 1))
    figure = new_figure(4.6, 3.4)
    axes = figure.add_subplot()
    axes.plot(rows[start:] / len(rows), accuracy[start:], color=BLUE)
    axes.axhline(
        accuracy[-1], color=GREY, linewidth=1, linestyle="--", label="all answered"
    )
    axes.legend(loc="best")
    axes.grid()
    axes.set(
        xlabel="share of the texts that is answered",
        ylabel="accuracy of these",
        xlim=(0, 1),
        title="The doubtful left out",
    )
    return figure


FIGURES: dict[str, Callable[[Evaluation], Figure | None]] = {
    "confusion": confusion,
    "reliability": reliability,
    "answered": answered,
    "draws": curve,
}
