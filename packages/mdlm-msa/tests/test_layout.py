"""Where rows stand on a canvas, against tables written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdlm_msa import layout
from mdlm_msa.alphabet import GAP, GMASK, MASK, PAD, SEPARATOR, SOP, encode


def test_columns_and_rows_of_three_rows_of_five() -> None:
    table = layout.positions(3, 5)
    columns = [0, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0]
    rows = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3]
    assert table[:, 0].tolist() == columns
    assert table[:, 1].tolist() == rows


def test_tokens_of_a_query_and_a_row() -> None:
    found = layout.tokens(np.stack([encode("LAG"), encode("V-S")]))
    expected = [GMASK, SOP, 1, 2, 3, SEPARATOR, 4, GAP, 5, SEPARATOR]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("budget", "columns", "rows"),
    [
        (1024, 60, 16),
        (1024, 100, 10),
        (1024, 512, 1),
        (2048, 185, 11),
        (12288, 300, 40),
        (16384, 60, 268),
        (16384, 512, 31),
        (1, 5, 0),
    ],
)
def test_what_fits(budget: int, columns: int, rows: int) -> None:
    assert layout.capacity(budget, columns) == rows
    if rows:
        assert layout.size(rows, columns) <= budget < layout.size(rows + 1, columns)


def test_what_is_free_and_what_is_hidden_for_good() -> None:
    rows = np.stack([encode("LAX"), encode("X.V"), encode("WX-")])
    found = layout.batch([layout.Canvas(rows, 2), layout.Canvas(rows[:2, :2], 1)])
    places = found.free[0].nonzero()[:, 0].tolist()
    assert places == [layout.place(2, 3), layout.place(2, 3) + 2]
    x = layout.place(2, 3) + 1
    assert found.tokens[0, x] == MASK  # not scored, and not shown
    shown = found.tokens[0, layout.place(0, 3) : layout.place(2, 3) - 1].tolist()
    given = [*encode("LAX").tolist(), SEPARATOR, *encode("X").tolist(), GAP, 4]
    assert shown == given  # X that is given stays, `.` is a gap
    short = layout.size(2, 2)
    assert found.tokens[1, short:].tolist() == [PAD] * (found.length - short)
    assert found.pad[1].tolist() == [False] * short + [True] * (found.length - short)
    assert bool(found.frozen[1, short:].all())


def test_rows_come_back() -> None:
    rows = np.stack([encode("LAGV"), encode("V-SE")])
    canvas = layout.batch([layout.Canvas(rows, 1)])
    assert np.array_equal(layout.rows_of(canvas.tokens[0], 4), rows)
    assert torch.equal(layout.tokens(rows), canvas.tokens[0])
