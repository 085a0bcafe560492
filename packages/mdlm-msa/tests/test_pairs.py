"""Pair statistics agree with sums over rows, and cannot be had without coupling."""

import numpy as np
import pytest

from mdlm_msa.evaluation import pairs
from mdlm_msa.evaluation.pairs import pair_correlation


def slowly(states, weights, gaps):
    """Yield c_ij(a, b) of all pairs from loops over rows."""
    rows, columns = states.shape
    share = np.ones(rows) / rows if weights is None else weights / weights.sum()
    found = []
    for i in range(columns):
        for j in range(i + 4, columns):
            joint = np.zeros((21, 21))
            for row in range(rows):
                if max(states[row, i], states[row, j]) < 21:
                    joint[states[row, i], states[row, j]] += share[row]
            if gaps:
                f = [
                    np.array([share[states[:, c] == a].sum() for a in range(21)])
                    for c in (i, j)
                ]
                found.append(joint - np.outer(*f))
            else:
                joint = joint[:20, :20]
                product = np.outer(joint.sum(1), joint.sum(0))
                found.append(joint - product / max(joint.sum(), 1e-30))
    return np.array(found).ravel()


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_agrees_with_loops(gaps, weighted, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 42)  # two columns at once
    draw = np.random.default_rng(0)
    x, y = (draw.integers(0, 21, (n, 9)).astype(np.uint8) % 7 * 3 for n in (25, 31))
    x[0, 3] = y[5, 1] = 255
    mass = (draw.random(25), draw.random(31)) if weighted else (None, None)
    expected = np.corrcoef(slowly(x, mass[0], gaps), slowly(y, mass[1], gaps))[0, 1]
    found = pair_correlation(x, y, mass, gaps=gaps)
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_same_rows_correlate_fully():
    draw = np.random.default_rng(0)
    x = draw.integers(0, 4, (50, 10)).astype(np.uint8)
    assert pair_correlation(x, x) == pytest.approx(1)


def test_gaps_alone_do_not_count_when_set_aside():
    draw = np.random.default_rng(2)

    def rows():
        """Independent residues; half of the rows end in a run of gaps."""
        found = draw.integers(0, 20, (400, 14)).astype(np.uint8)
        found[:200, 5:] = 20
        return found

    x, y = rows(), rows()
    assert pair_correlation(x, y) > 0.9
    assert abs(pair_correlation(x, y, gaps=False)) < 0.05


def test_nothing_to_correlate_is_nan():
    rows = np.zeros((5, 4), np.uint8)
    assert np.isnan(pair_correlation(rows, rows))
    assert np.isnan(pair_correlation(np.tile(rows, 3), np.tile(rows, 3)))
