"""Intervals and paired tests against closed forms and enumeration."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_llada.scoring.report import comparison_text
from mdlm_llada.scoring.statistics import bootstrap, compare, wilson


@pytest.mark.parametrize(("right", "total"), [(0, 5), (4, 5), (807, 1319), (7, 7)])
def test_wilson_solves_its_equation(right, total):
    """The ends are where |p_hat - p| is z standard errors of p itself."""
    found = wilson(right, total)
    z = 1.959963984540054
    assert found.value == right / total
    for p in (found.low, found.high):
        if 0 < p < 1:
            assert abs(found.value - p) == pytest.approx(
                z * math.sqrt(p * (1 - p) / total), rel=1e-9
            )
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.low < found.value) or right == 0
    assert (found.high > found.value) or right == total


def test_wilson_covers():
    """Exact coverage, by summing the binomial, lies near 95 % for p = 0.3, n = 50."""
    inside = [k for k in range(51) if wilson(k, 50).low <= 0.3 <= wilson(k, 50).high]
    covered = stats.binom.pmf(inside, 50, 0.3).sum()
    assert 0.93 < covered < 0.975


def test_the_bootstrap_of_zeros_and_ones_has_the_binomials_quantiles():
    """A resampled mean of 0/1 rows is Binomial(n, p_hat) / n, exactly."""
    values = [1.0] * 30 + [0.0] * 70
    found = bootstrap(values, resamples=20_000)
    low, high = stats.binom.ppf([0.025, 0.975], 100, 0.3) / 100
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(low, abs=0.0101)
    assert found.high == pytest.approx(high, abs=0.0101)
    assert found == bootstrap(values, resamples=20_000)


@pytest.mark.parametrize("n", [1, 5, 400])
def test_rows_that_are_all_alike_have_an_interval(n):
    """What no row shows may still be in the share that Wilson's interval leaves."""
    share = 1.959963984540054**2 / (n + 1.959963984540054**2)
    for value in (0.0, 0.5, 1.0):
        found = bootstrap([value] * n)
        assert found.method == "wilson"
        assert found.low == pytest.approx(value - share * value)
        assert found.high == pytest.approx(value + share * (1 - value))
    right = wilson(n, n)
    assert bootstrap([1.0] * n).low == pytest.approx(right.low)
    same = compare([1.0] * n, [1.0] * n).difference
    assert (same.low, same.high) == pytest.approx((-share, share))
    better = compare([0.0] * n, [1.0] * n).difference
    assert (better.low, better.high) == pytest.approx((1 - 2 * share, 1.0))


def test_a_comparison_of_equals_has_no_interval_of_width_0():
    joined = SimpleNamespace(missing_gold=[])
    one, other = (
        SimpleNamespace(path=Path(name), rows=[None] * 4, joined=joined)
        for name in ("a", "b")
    )
    found = comparison_text(compare([1.0] * 4, [1.0] * 4), one, other)
    assert "B - A  +0.0000  [-0.4899, +0.4899] at 95 %, Wilson's limit" in found


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 0), (1, 8), (5, 5), (12, 20)])
def test_mcnemar_by_the_sum_of_the_binomial(b, c):
    first = [1.0] * b + [0.0] * c + [1.0] * 4 + [0.0] * 3
    second = [0.0] * b + [1.0] * c + [1.0] * 4 + [0.0] * 3
    found = compare(first, second, resamples=200)
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert (found.only_first, found.only_second) == (b, c)
    assert found.difference.value == pytest.approx((c - b) / len(first))


def test_mcnemar_holds_its_level_and_sees_a_difference():
    u = Noise(0).uniform(__import__("torch").arange(400), 120).numpy()
    first, equal = u[:200, :60] < 0.5, u[:200, 60:] < 0.5
    better = u[200:, :60] < 0.75
    alike = [_p(a, b) for a, b in zip(first, equal, strict=True)]
    apart = [_p(a, b) for a, b in zip(first, better, strict=True)]
    assert np.mean(np.array(alike) < 0.05) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert np.mean(np.array(apart) < 0.05) > 0.6


def _p(a, b):
    return compare(a.astype(float), b.astype(float), resamples=2).p_value


def test_rows_right_in_part_have_no_mcnemar():
    found = compare([0.5, 1.0], [1.0, 1.0], resamples=200)
    assert found.p_value is None
    assert found.difference.value == 0.25


def test_what_cannot_be_compared():
    with pytest.raises(DataError, match="2 and 1 rows"):
        compare([1.0, 0.0], [1.0])
    for function in (lambda: wilson(0, 0), lambda: bootstrap([])):
        with pytest.raises(DataError, match="no row"):
            function()
