"""Figures in one style. They need matplotlib, imported when the first is drawn.

A figure is the same file every time: no date is in it, and no random name.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mdlm_core.errors import MissingExtraError, UsageError

from .files import write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Shown = TypeVar("Shown")

BLUE, RED, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLOURS = (BLUE, RED, GREEN, PURPLE, "#E69F00", "#56B4E9")
"""Of Okabe and Ito, 2008: told apart with any colour vision."""
GREY = "#999999"
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "mdlm",
    "svg.fonttype": "path",
}
_UNDATED = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}


@contextmanager
def figure_style(
    package: str, settings: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Give what is drawn inside ``with`` the style of all reports.

    Args:
        package: what draws, as it is installed; its extra ``plot`` has matplotlib.
        settings: of matplotlib, besides those of the style.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    if missing := _missing(package):
        raise MissingExtraError(missing)
    import matplotlib as mpl

    style: dict[Any, Any] = {**_STYLE, **(settings or {})}
    with mpl.rc_context(style), warnings.catch_warnings():
        # A script that the font lacks shows as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_figures(
    plots: Mapping[str, Callable[[Shown], Figure | None]],
    shown: Shown,
    *,
    package: str,
    settings: Mapping[str, Any] | None = None,
) -> tuple[dict[str, str], str]:
    """Draw figures as SVG.

    Args:
        plots: name -> what draws the figure; it returns None if there is nothing for.
        shown: what is drawn.
        package: as in `figure_style`.
        settings: as in `figure_style`.

    Returns:
        Name -> SVG text of each figure there is; and what is missing and how to get
        it, empty if nothing is. Without matplotlib there are no figures.
    """
    if missing := _missing(package):
        return {}, missing
    drawn = {}
    with figure_style(package, settings):
        for name, plot in plots.items():
            figure = plot(shown)
            if figure is not None:
                drawn[name] = _rendered(figure, "svg").decode()
    return drawn, ""


def check_picture(path: Path, *, package: str) -> None:
    """Refuse to save a picture, before any work is done for it.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        UsageError: if the name does not end as a picture's.
    """
    if path.suffix.lower()[1:] not in _UNDATED:
        raise UsageError(
            f"'{path}' is no name of a picture; end it in .svg, .png or .pdf"
        )
    if missing := _missing(package):
        raise MissingExtraError(missing)


def save_figure(figure: Figure, path: Path, *, package: str) -> None:
    """Write a figure; its folder is made, and an earlier file is replaced.

    Raises:
        UsageError: if the name does not end as a picture's, or cannot be written.
    """
    check_picture(path, package=package)
    with figure_style(package):
        data = _rendered(figure, path.suffix.lower()[1:])
    write_files(path.parent, {path.name: data})


def _missing(package: str) -> str:
    """Return what to install; nothing if matplotlib is there."""
    if find_spec("matplotlib") is not None:
        return ""
    return (
        "no figures: matplotlib is not installed. Try: pip install "
        f"'{package}[plot]', then the same command again"
    )


def _rendered(figure: Figure, kind: str) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=150, metadata=_UNDATED[kind])
    return data.getvalue()
