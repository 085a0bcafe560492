"""The figures of a report, with matplotlib where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdlm_core.reports import draw_figures, figures, new_figure, write_files

from .markdown import QUARTER_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTINGS = {"axes.grid": True, "savefig.bbox": "tight"}
COLOURS = (*figures.COLOURS, "#000000", "#999933", "#882255")
MARKS = "osD^vP*Xh"
Plot = Callable[[dict[str, Any]], "Figure | None"]


def draw(report: dict[str, Any], folder: Path) -> tuple[list[Path], str]:
    """Draw the figures of a report.

    Args:
        report: what `report.build` returns.
        folder: where they go; earlier figures of the same names are replaced.

    Returns:
        The files, and a line that says what was drawn, or what is missing.
    """
    drawn, missing = draw_figures(PLOTS, report, package="mdlm-atat", settings=SETTINGS)
    if missing:
        return [], f"{missing}; nothing is trained twice"
    for name in PLOTS.keys() - drawn.keys():
        (folder / f"{name}.svg").unlink(missing_ok=True)
    files = {f"{name}.svg": svg for name, svg in drawn.items()}
    return write_files(folder, files), f"{len(drawn)} plots in {folder}"


def _axes(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def _known(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in report["variants"] if entry["nats"] is not None]


def _look(report: dict[str, Any], name: str) -> dict[str, Any]:
    """Return colour and mark of a variant, the same in all figures."""
    index = [entry["name"] for entry in report["variants"]].index(name)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKS[index % len(MARKS)],
        "markersize": 4,
    }


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


# ---- differences -----------------------------------------------------------------


def differences(report: dict[str, Any]) -> Figure | None:
    """Draw the paired differences with both intervals, one line for each variant."""
    found = [entry for entry in _known(report) if entry["difference"]]
    if not found:
        return None
    figure, axes = _axes(6.8, 1.5 + 0.42 * len(found))
    for place, entry in enumerate(found):
        result, look = entry["difference"], _look(report, entry["name"])
        for key, shift, style in (
            ("over_seeds", -0.13, {"linewidth": 2.2}),
            ("over_windows", 0.13, {"linewidth": 1.5, "linestyle": ":"}),
        ):
            interval, height = result[key], place + shift
            if interval["low"] is not None:
                ends = [interval["low"], interval["high"]]
                axes.plot(ends, [height] * 2, color=look["color"], **style)
            if key == "over_seeds":
                axes.plot([interval["mean"]], [height], linestyle="none", **look)
        axes.plot(
            result["per_seed"],
            [place - 0.13] * len(result["per_seed"]),
            linestyle="none",
            marker="|",
            markersize=9,
            color=look["color"],
        )
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(found)), [entry["name"] for entry in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel(
        f"bound minus that of {report['baseline']}, nats/token (negative is better)"
    )
    axes.set_title(
        f"{report['phase']}: paired differences\n"
        "thick: 95 % over seeds, dotted: 95 % over windows, ticks: single seeds"
    )
    return figure


# ---- learning curves -------------------------------------------------------------


def _curves(report: dict[str, Any], key: str, label: str) -> Figure | None:
    found = [entry for entry in _known(report) if len(entry["curve"]) > 1]
    if not found:
        return None
    figure, axes = _axes()
    for entry in found:
        look = _look(report, entry["name"])
        across = [point[key] for point in entry["curve"]]
        mean = [point["nats"] for point in entry["curve"]]
        axes.plot(across, mean, label=entry["name"], linewidth=1.3, **look)
        low = [point["lowest"] for point in entry["curve"]]
        high = [point["highest"] for point in entry["curve"]]
        axes.fill_between(
            across, low, high, color=look["color"], alpha=0.12, linewidth=0
        )
    axes.set_xlabel(label)
    axes.set_ylabel("held-out bound, nats/token")
    axes.set_title(f"{report['phase']}: learning curves (mean and range over seeds)")
    _legend(axes)
    return figure


def curves_by_step(report: dict[str, Any]) -> Figure | None:
    """Draw the held-out bound against optimiser steps."""
    return _curves(report, "step", "optimiser steps")


def curves_by_time(report: dict[str, Any]) -> Figure | None:
    """Draw the held-out bound against the time spent in training."""
    return _curves(report, "seconds", "training time, s")


# ---- parts of the bound ----------------------------------------------------------


def _parts(
    report: dict[str, Any], key: str, across: Sequence[Any], label: str, what: str
) -> Figure | None:
    """Draw parts of the bound: of the baseline, and what the others differ by."""
    known = _known(report)
    base = next((e for e in known if e["name"] == report["baseline"]), None)
    others = [entry for entry in known if entry is not base]
    if base is None or not others:
        return None
    figure = new_figure(9.6, 3.6)
    left, right = figure.subplots(1, 2)
    look = _look(report, base["name"])
    left.plot(across, base[key], label=base["name"], linewidth=1.3, **look)
    left.set_title(base["name"])
    left.set_ylabel("nats/token")
    right.axhline(0, color="0.3", linewidth=0.8)
    for entry in others:
        pairs = zip(entry[key], base[key], strict=True)
        change = [
            None if own is None or other is None else own - other
            for own, other in pairs
        ]
        there = [
            (x, value)
            for x, value in zip(across, change, strict=True)
            if value is not None
        ]
        right.plot(
            [x for x, _ in there],
            [value for _, value in there],
            label=entry["name"],
            linewidth=1.3,
            **_look(report, entry["name"]),
        )
    right.set_title(f"minus {base['name']} (negative is better)")
    right.set_ylabel("difference, nats/token")
    for axes in (left, right):
        axes.set_xlabel(label)
    _legend(right)
    figure.suptitle(f"{report['phase']}: {what}", fontsize=10)
    return figure


def loss_by_frequency(report: dict[str, Any]) -> Figure | None:
    """Draw the loss by quarter of the training text, frequent to rare."""
    return _parts(
        report,
        "ce_by_frequency",
        QUARTER_NAMES,
        "quarter of the training text by token frequency",
        "held-out loss by token frequency",
    )


def loss_by_time(report: dict[str, Any]) -> Figure | None:
    """Draw the loss by the share of hidden tokens."""
    known = _known(report)
    bins = len(known[0]["ce_by_time"]) if known else 1
    return _parts(
        report,
        "ce_by_time",
        [(index + 0.5) / bins for index in range(bins)],
        "share of hidden tokens",
        "held-out loss by share of hidden tokens",
    )


# ---- what the policies do --------------------------------------------------------


def _adaptive(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in _known(report) if entry["diagnostics"]]


def mask_rates(report: dict[str, Any]) -> Figure | None:
    """Draw the chance to be hidden over the mean chance, by token frequency."""
    found = _adaptive(report)
    if not found:
        return None
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure = new_figure(3.1 * columns + 1.4, 2.7 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in list(grid.flat)[len(found) :]:
        axes.set_visible(False)
    for axes, entry in zip(grid.flat, found, strict=False):
        result = entry["diagnostics"]
        for index, name in enumerate(QUARTER_NAMES):
            axes.plot(
                result["times"],
                result["mask_rate"][index],
                label=name,
                color=("#9ecae1", "#4292c6", "#08519c", "#D55E00")[index],
                linewidth=1.4,
            )
        axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, linestyle="--")
        axes.set_title(f"{entry['name']} (kappa = {result['strength']:.2f})")
        axes.set_xlabel("time t")
    for line in grid:
        line[0].set_ylabel("chance to be hidden")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, title="tokens", loc="outside right center")
    figure.suptitle(f"{report['phase']}: mask rate by token frequency", fontsize=10)
    return figure


def importance(report: dict[str, Any]) -> Figure | None:
    """Draw how importance goes with the loss: correlation and calibration."""
    found = _adaptive(report)
    if not found:
        return None
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2)
    for entry in found:
        result, look = entry["diagnostics"], _look(report, entry["name"])
        pairs = zip(result["times"], result["spearman"], strict=True)
        there = [(t, value) for t, value in pairs if value is not None]
        left.plot(
            [t for t, _ in there], [v for _, v in there], label=entry["name"], **look
        )
        groups = result["calibration"]
        right.plot(
            groups["importance"], groups["percentile"], label=entry["name"], **look
        )
    left.set_title("rank correlation with the loss of hidden tokens")
    left.set_xlabel("share of hidden tokens")
    left.set_ylabel("Spearman's correlation")
    left.axhline(0, color="0.3", linewidth=0.8)
    right.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, linestyle="--")
    right.set_title("calibration: tenths of the tokens by importance")
    right.set_xlabel("mean importance")
    right.set_ylabel("mean percentile of the loss")
    _legend(right)
    figure.suptitle(f"{report['phase']}: importance and held-out loss", fontsize=10)
    return figure


# ---- samples ---------------------------------------------------------------------


def _samples(
    report: dict[str, Any], label: str, what: str, value: Callable[..., float | None]
) -> Figure | None:
    """Draw one panel for each variant and one line for each order."""
    found = [entry for entry in _known(report) if entry["quality"]]
    if not found:
        return None
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure = new_figure(3.1 * columns + 1.6, 2.8 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in list(grid.flat)[len(found) :]:
        axes.set_visible(False)
    labels: dict[str, Any] = {}
    for axes, entry in zip(grid.flat, found, strict=False):
        orders = dict.fromkeys(line["order"] for line in entry["quality"])
        for index, order in enumerate(orders):
            points = [line for line in entry["quality"] if line["order"] == order]
            name = order.replace("_", " ")
            if points[0]["nfe"] is None:  # the text itself
                level = value(points[0])
                if level is not None:
                    labels[name] = axes.axhline(level, color="0.4", linestyle="--")
                continue
            points.sort(key=lambda line: line["nfe"])
            (labels[name],) = axes.plot(
                [line["nfe"] for line in points],
                [value(line) for line in points],
                color=COLOURS[index % len(COLOURS)],
                marker=MARKS[index % len(MARKS)],
                markersize=4,
                linewidth=1.2,
            )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(entry["name"])
        axes.set_xlabel("evaluations of a sample")
    for line in grid:
        line[0].set_ylabel(label)
    figure.legend(
        list(labels.values()), list(labels), title="order", loc="outside right center"
    )
    figure.suptitle(f"{report['phase']}: {what}", fontsize=10)
    return figure


def samples(report: dict[str, Any]) -> Figure | None:
    """Draw what the n-gram judge says of samples, against their cost."""
    return _samples(
        report,
        "judge, nats/token",
        "samples under an n-gram judge",
        lambda line: line["judge_nats"],
    )


def entropy(report: dict[str, Any]) -> Figure | None:
    """Draw the unigram entropy of samples, which falls when they repeat themselves."""
    return _samples(
        report,
        "unigram entropy, nats",
        "variety of samples",
        lambda line: line["unigram_entropy"],
    )


def infilling(report: dict[str, Any]) -> Figure | None:
    """Draw how many of the hidden half of held-out rows are guessed."""
    return _samples(
        report,
        "accuracy",
        "infilling, half of the tokens hidden",
        lambda line: line["infilling"] and line["infilling"]["0.5"]["accuracy"],
    )


PLOTS: dict[str, Plot] = {
    "differences": differences,
    "curves-by-step": curves_by_step,
    "curves-by-time": curves_by_time,
    "loss-by-frequency": loss_by_frequency,
    "loss-by-hidden-share": loss_by_time,
    "mask-rates": mask_rates,
    "importance": importance,
    "samples": samples,
    "samples-entropy": entropy,
    "infilling": infilling,
}
"""File name -> figure."""
