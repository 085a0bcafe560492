"""Grids of traits, all from the same noise, and their pictures."""

import math

import numpy as np
import pytest
import torch

from mdlm_core.errors import UnknownNameError, UsageError
from mdlm_personality.generation.counterfactual import counterfactual_pair
from mdlm_personality.generation.sweep import Cell, Sweep, sweep, table
from mdlm_personality.metrics.alignment import Readings

from .generation_toy import SOMEBODY, manner, toy


class LetterJudge:
    """Reads the share of the letter a as every trait but the last."""

    name = "letters"

    def read(self, texts):
        share = np.array([text.count("a") / 24 for text in texts])
        scores = np.repeat(share[:, None], 5, axis=1)
        scores[:, 4] = np.nan
        return Readings(scores, np.round(scores))


@pytest.fixture(scope="module")
def trained():
    return toy()


def test_a_cell_is_the_counterfactual_text_of_the_same_noise(trained):
    axes = {"e": (0.1, 0.7), "openness": (0.8, 0.2, 0.4)}
    found = sweep(trained, SOMEBODY, axes, num=2, manner=manner(), judge=LetterJudge())
    assert list(found.axes) == ["extraversion", "openness"]
    points = [tuple(cell.do.values()) for cell in found.cells]
    assert points == [(e, o) for e in (0.1, 0.7) for o in (0.8, 0.2, 0.4)]
    for cell in (found.cells[0], found.cells[4]):
        pair = counterfactual_pair(trained, SOMEBODY, cell.do, num=2, manner=manner())
        assert cell.texts == pair.counterfactual.texts
        assert cell.nfe == pair.counterfactual.nfe.tolist()
    own = found.cells[3]  # what the persona has anyway
    assert own.do == {"extraversion": 0.7, "openness": 0.8}
    assert own.texts == pair.factual.texts


def test_means_errors_and_slopes(trained):
    axes = {"e": (0.0, 0.5, 1.0)}
    found = sweep(trained, SOMEBODY, axes, num=4, manner=manner(), judge=LetterJudge())
    x, y = [], []
    for cell in found.cells:
        scores = [text.count("a") / 24 for text in cell.texts]
        assert cell.mean(2) == pytest.approx(np.mean(scores))
        assert cell.error(2) == pytest.approx(np.std(scores, ddof=1) / 2)
        x += [cell.do["extraversion"]] * 4
        y += scores
    assert found.slope("extraversion", 2) == pytest.approx(np.polyfit(x, y, 1)[0])
    assert math.isnan(found.slope("extraversion", 4))
    assert math.isnan(found.cells[0].mean(4))
    head, first, *_ = table(found)
    assert head[:2] == ["extraversion", "reads O"]
    assert first[0] == "0"
    assert first[-1] == "-"
    assert first[1] == f"{found.cells[0].mean(0):.2f}±{found.cells[0].error(0):.2f}"


def test_without_a_judge_the_table_shows_texts(trained):
    found = sweep(trained, {}, {"n": (0.5,)}, num=1, manner=manner())
    assert table(found) == [
        ["neuroticism", "text"],
        ["0.5", found.cells[0].texts[0]],
    ]
    assert math.isnan(found.slope("neuroticism", 0))


@pytest.mark.parametrize(
    ("axes", "error", "match"),
    [
        ({}, UsageError, "one or two axes"),
        ({"o": (0,), "c": (0,), "e": (0,)}, UsageError, "one or two axes"),
        ({"o": ()}, UsageError, "no value"),
        ({"o": (0.1, 0.1)}, UsageError, "twice"),
        ({"o": (0.1,), "openness": (0.2,)}, UsageError, "both axes"),
        ({"o": (1.5,)}, UsageError, "1.5"),
        ({"opennes": (0.5,)}, UnknownNameError, "openness"),
    ],
)
def test_axes_that_do_not_fit(trained, axes, error, match):
    with pytest.raises(error, match=match):
        sweep(trained, SOMEBODY, axes, manner=manner())


def cells(axes, points):
    torch.manual_seed(0)  # noqa: TID251
    return tuple(
        Cell(
            do=dict(zip(axes, point, strict=True)),
            texts=["a", "b"],
            nfe=[1, 1],
            scores=torch.rand(2, 5).tolist(),
        )
        for point in points
    )


def test_pictures_of_one_axis_and_of_two(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from mdlm_personality.generation.sweep_figure import draw

    one = {"extraversion": (0.0, 1.0)}
    line = Sweep(axes=one, cells=cells(one, [(0.0,), (1.0,)]), judge="letters")
    draw(line, tmp_path / "line.svg")
    assert "<svg" in (tmp_path / "line.svg").read_text()
    two = {"extraversion": (0.0, 1.0), "beliefs.3": (-1.0, 0.0, 1.0)}
    grid = [(e, b) for e in two["extraversion"] for b in two["beliefs.3"]]
    draw(Sweep(axes=two, cells=cells(two, grid), judge="letters"), tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="judge"):
        draw(Sweep(axes=one, cells=line.cells), tmp_path / "none.svg")
    with pytest.raises(UsageError, match=r"\.svg"):
        draw(line, tmp_path / "line.txt")
