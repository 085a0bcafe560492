"""Figures: one style, the same file each time."""

from xml.etree import ElementTree

import pytest

from mdlm_core.errors import UsageError
from mdlm_core.reports import (
    check_picture,
    draw_figures,
    figure_style,
    new_figure,
    save_figure,
)
from mdlm_core.reports.figures import BLUE

mpl = pytest.importorskip("matplotlib", reason="figures need matplotlib")
HEADS = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".SVG": b"<?xml"}


def line(label):
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [1, 0], "o", color=BLUE, label=label)
    axes.set_title(label)
    axes.legend()
    return figure


PLOTS = {"line": line, "nothing": lambda label: None, "again": line}


def test_figures_are_drawn_that_there_is_something_for():
    drawn, missing = draw_figures(PLOTS, "<a> & b", package="mdlm-haiku")
    assert list(drawn) == ["line", "again"]
    assert not missing
    for svg in drawn.values():
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "<dc:date>" not in svg
    assert BLUE.lower() in drawn["line"]
    assert drawn["line"] == drawn["again"]
    assert draw_figures(PLOTS, "<a> & b", package="mdlm-haiku")[0] == drawn
    assert draw_figures(PLOTS, "c", package="mdlm-haiku")[0] != drawn


def test_letters_that_the_font_lacks_are_no_warning(tmp_path):
    drawn, _ = draw_figures({"line": line}, "中文", package="mdlm-haiku")
    assert list(drawn) == ["line"]
    save_figure(line("中文"), tmp_path / "a.png", package="mdlm-haiku")


def test_the_style_ends_with_its_block():
    before = dict(mpl.rcParams)
    with figure_style("mdlm-haiku", {"axes.grid": True}):
        assert mpl.rcParams["axes.grid"] is True
        assert mpl.rcParams["axes.spines.top"] is False
        axes = line("a").axes[0]
    assert dict(mpl.rcParams) == before
    assert not axes.spines["right"].get_visible()
    assert line("a").axes[0].spines["right"].get_visible()


def test_settings_of_a_report_are_kept():
    plain, _ = draw_figures({"line": line}, "a", package="mdlm-haiku")
    settings = {"axes.grid": True}
    grid, _ = draw_figures({"line": line}, "a", package="mdlm-haiku", settings=settings)
    assert grid["line"] != plain["line"]


@pytest.mark.parametrize("ending", HEADS)
def test_a_picture_is_the_same_each_time(ending, tmp_path, monkeypatch):
    files = [tmp_path / "new" / f"{name}{ending}" for name in "ab"]
    for path, time in zip(files, ("1", "100000000"), strict=True):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", time)
        with figure_style("mdlm-haiku"):
            figure = line("a")
        check_picture(path, package="mdlm-haiku")
        save_figure(figure, path, package="mdlm-haiku")
    first, second = (path.read_bytes() for path in files)
    assert first.startswith(HEADS[ending])
    assert first == second


def test_a_picture_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UsageError, match="no name of a picture"):
        save_figure(line("a"), tmp_path / "a.txt", package="mdlm-haiku")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        save_figure(line("a"), tmp_path / "file" / "a.svg", package="mdlm-haiku")
