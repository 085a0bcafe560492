"""Predictions as lines of a terminal."""

from __future__ import annotations

from mdlm_classify.cli.tables import lines

ROW = {"label": "good", "probability": 0.75}


def test_a_line_has_label_probability_and_text() -> None:
    assert list(lines(["a\nb"], [ROW])) == ["good\t0.750\ta b"]


def test_how_unusual_a_text_is_stands_in_each_line_if_it_was_measured() -> None:
    rows = [{**ROW, "unusual": False, "z": 0.26}, {**ROW, "unusual": True, "z": -4.0}]
    found = [line.split("\t")[2:] for line in lines(["a", "b"], rows)]
    assert found == [["a", "usual, z +0.3"], ["b", "unusual, z -4.0"]]
