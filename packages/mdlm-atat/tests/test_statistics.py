"""Intervals: closed forms, scipy's own tests, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from mdlm_atat.ablation.statistics import (
    over_seeds,
    over_windows,
    percentiles,
    rank_correlation,
)
from mdlm_core import DataError


def generator(seed):
    return np.random.default_rng(seed)


def test_over_seeds_is_the_paired_t_interval():
    rng = generator(1)
    first, second = rng.normal(size=5), rng.normal(size=5)
    found = over_seeds(first - second)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found.mean == pytest.approx((first - second).mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.n == 5


def test_over_two_seeds_by_hand():
    # sd of (1, 3) is sqrt 2, so that sd / sqrt n is 1; t_{0.975, 1} = 12.706.
    found = over_seeds([1.0, 3.0])
    assert found.mean == 2
    assert (found.low, found.high) == pytest.approx((2 - 12.7062, 2 + 12.7062), 1e-5)
    assert not found.excludes_zero
    assert over_seeds([1.0, 1.01]).excludes_zero


def test_one_seed_has_no_interval_and_none_is_refused():
    found = over_seeds([0.25])
    assert (found.mean, found.low, found.high, found.n) == (0.25, None, None, 1)
    assert not found.excludes_zero
    with pytest.raises(DataError, match="no seed"):
        over_seeds([])


def test_the_interval_over_seeds_holds_the_truth_as_often_as_it_says():
    draws = generator(2).normal(0.3, 0.05, size=(2000, 3))
    found = [over_seeds(row) for row in draws]
    share = np.mean([i.low <= 0.3 <= i.high for i in found])
    assert abs(share - 0.95) < 3 * (0.95 * 0.05 / 2000) ** 0.5


def test_over_windows_is_about_the_normal_interval_for_many_windows():
    nats, tokens = generator(3).normal(2, 8, size=1500), [64] * 1500
    found = over_windows([nats], tokens)
    half = 1.96 * nats.std() / 1500**0.5 / 64
    mean = nats.mean() / 64
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx(
        (mean - half, mean + half), abs=0.12 * half
    )


def test_windows_of_other_sizes_count_by_their_tokens():
    # Half of the windows are padded: the ratio of sums is not the mean of ratios.
    tokens = np.array([10, 90] * 50)
    nats = np.where(tokens == 10, 5.0, 9.0)
    found = over_windows([nats], tokens)
    assert found.mean == pytest.approx(nats.sum() / tokens.sum())
    # The ratio's error by linearisation; windows are drawn, not tokens.
    residual = nats - found.mean * tokens
    half = 1.96 * residual.std() / (100**0.5 * tokens.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.12)


def test_the_interval_over_windows_holds_the_truth_as_often_as_it_says():
    draws = generator(4).normal(0.02, 0.3, size=(150, 80))
    found = [
        over_windows([row], [1] * 80, resamples=400, seed=i)
        for i, row in enumerate(draws)
    ]
    share = np.mean([i.low <= 0.02 <= i.high for i in found])
    assert 0.87 < share <= 1


def test_windows_are_paired_over_seeds_first():
    rng = generator(5)
    shared = rng.normal(size=60)  # what windows have in common over seeds
    runs = [shared + 0.01 * rng.normal(size=60) for _ in range(3)]
    one = over_windows(runs[:1], [1] * 60)
    three = over_windows(runs, [1] * 60)
    assert three.n == one.n == 60
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)
    noise = [0.5 * rng.normal(size=60) for _ in range(4)]
    alone = over_windows(noise[:1], [1] * 60)
    pooled = over_windows(noise, [1] * 60)
    assert pooled.high - pooled.low < 0.75 * (alone.high - alone.low)


def test_the_same_differences_give_the_same_interval_and_windows_must_match():
    values = generator(6).normal(size=30)
    assert over_windows([values], [2] * 30) == over_windows([values], [2] * 30)
    with pytest.raises(DataError, match="do not match"):
        over_windows([values, values[:29]], [2] * 30)
    single = over_windows([[3.0]], [2])
    assert (single.mean, single.low) == (1.5, None)


def test_rank_correlation_and_percentiles():
    values = np.array([1.0, 2.0, 3.0, 10.0])
    assert rank_correlation(values, values**3) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)
    assert rank_correlation(values, np.ones(4)) is None
    assert percentiles(values) == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert percentiles(np.array([5.0, 5.0])) == pytest.approx([0.5, 0.5])
