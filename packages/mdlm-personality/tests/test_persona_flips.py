import math

import numpy as np
import pytest
from scipy import stats

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_personality.metrics.alignment import Readings, alignment
from mdlm_personality.metrics.flips import counterfactual_flip_rate, edit_rate, flips
from mdlm_personality.metrics.intervals import bootstrap, mean_interval, plain
from mdlm_personality.metrics.reconstruction import (
    constant_score,
    reconstruction,
    reconstruction_score,
)

NOISE = Noise(1)
NAMES = ("a", "b", "c")
NAN = math.nan


def test_the_rate_counts_texts_that_were_on_the_other_side():
    before = [0, 0, 0, 1, 1, NAN]
    after = [1, 0, NAN, 1, 0, 1]
    assert counterfactual_flip_rate(before, after, 1) == pytest.approx(1 / 3)
    assert counterfactual_flip_rate(before, after, 0) == pytest.approx(1 / 2)
    assert math.isnan(counterfactual_flip_rate([1, 1], [0, 0], 1))


def test_null_net_and_off_target_by_hand():
    before = np.array([[0, 0, 1], [0, 1, NAN], [1, 1, 1], [0, 0, 0]])
    after = np.array([[1, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, NAN]])
    again = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    found = flips(
        before,
        after,
        again,
        trait=0,
        target=1,
        edits=[0.1, 0.2, 0.3, 0.4],
        noise=NOISE,
        names=NAMES,
    )
    assert found.rows == 3
    assert found.pairs == 4
    assert found.rate.value == pytest.approx(2 / 3)
    assert found.null.value == pytest.approx(1 / 3)
    assert found.net.value == pytest.approx(1 / 3)
    assert found.off_target.value == pytest.approx((0 + 1 + 0 + 0.5) / 4)
    assert found.off_target_null.value == pytest.approx((0 + 0 + 0.5 + 0) / 4)
    assert found.by_trait == pytest.approx({"b": 2 / 4, "c": 0.0})
    assert found.edits.value == pytest.approx(0.25)


def test_a_model_that_ignores_its_persona_has_no_net_rate():
    rng = np.random.default_rng(0)
    before, after, again = (rng.integers(0, 2, (600, 3)) for _ in range(3))
    found = flips(
        before, after, again, trait=1, target=1, edits=[0.0], noise=NOISE, names=NAMES
    )
    assert found.rate.value > 0.4  # looks like an effect, and is none
    assert found.net.low < 0 < found.net.high


def test_shapes_of_readings_must_agree():
    with pytest.raises(DataError, match="shapes"):
        flips(
            np.zeros((3, 3)),
            np.zeros((2, 3)),
            np.zeros((3, 3)),
            trait=0,
            target=1,
            edits=[0.0],
            noise=NOISE,
            names=NAMES,
        )


def test_edits_are_shares_of_positions():
    assert edit_rate([[1, 2, 3, 4]], [[1, 9, 3, 9]]).tolist() == [0.5]


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(2).exponential(size=200)
    ours = mean_interval(values, noise=NOISE)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)
    assert mean_interval(values, noise=NOISE) == ours
    assert math.isnan(bootstrap(lambda rows: rows, 0, noise=NOISE).value)


def test_alignment_is_pearsons_r_over_texts_that_tell_something():
    rng = np.random.default_rng(4)
    asked = rng.uniform(size=(300, 3))
    scores = 0.5 * asked + 0.5 * rng.uniform(size=(300, 3))
    scores[:50, 0] = NAN
    sides = np.where(np.isnan(scores), NAN, scores > 0.5)
    found = alignment(asked, Readings(scores, sides), noise=NOISE, names=NAMES)
    r = stats.pearsonr(asked[50:, 0], scores[50:, 0])
    assert found[0].r.value == pytest.approx(r.statistic)
    fisher = r.confidence_interval(0.95)
    assert found[0].r.low == pytest.approx(fisher.low, abs=0.03)
    assert found[0].r.high == pytest.approx(fisher.high, abs=0.03)
    assert (found[0].rows, found[0].undecided) == (250, 50)
    right = (sides[:, 1] == (asked[:, 1] > 0.5)).mean()
    assert found[1].accuracy.value == pytest.approx(right)
    assert found[1].clear.value > right
    high = scores[asked[:, 1] > 0.5, 1]
    low = scores[asked[:, 1] <= 0.5, 1]
    u = stats.mannwhitneyu(high, low).statistic / (len(high) * len(low))
    assert found[1].auc == pytest.approx(u)


def test_scores_without_spread_have_no_correlation():
    asked = np.random.default_rng(0).uniform(size=(20, 3))
    flat = Readings(np.full((20, 3), 0.5), np.full((20, 3), NAN))
    found = alignment(asked, flat, noise=NOISE, names=NAMES)[0]
    assert math.isnan(found.r.value)
    assert plain({"r": found.r})["r"] == {"value": None, "low": None, "high": None}


def test_a_constant_reaches_the_originals_threshold():
    rng = np.random.default_rng(0)
    traits = rng.beta(4, 4, size=(2000, 5))
    found = reconstruction(traits, traits.mean(0))
    assert found.score == pytest.approx(1 / (1 + traits.var(0).mean()))
    assert found.score == found.constant == constant_score(traits)
    assert found.constant > 0.95
    assert found.r2 == pytest.approx([0] * 5, abs=1e-12)
    assert reconstruction_score(traits, traits) == 1


def test_unknown_traits_do_not_count():
    traits = np.array([[0.2, NAN], [0.4, 0.5]])
    assert reconstruction_score(traits, [0.2, 0.1]) == pytest.approx(
        1 / (1 + (0 + 0.04 + 0.16) / 3)
    )
    holes = np.array([[0.2, NAN], [0.4, 0.9], [0.6, 0.5]])
    filled = np.array([[0.2, 0.7], [0.4, 0.9], [0.6, 0.5]])
    squares = ((filled - filled.mean(0)) ** 2)[~np.isnan(holes)]
    assert constant_score(holes) == pytest.approx(1 / (1 + squares.mean()))
    with pytest.raises(DataError, match="known"):
        reconstruction_score(traits * NAN, traits)
    with pytest.raises(DataError, match="NaN"):
        reconstruction_score(traits, [NAN, 0.1])


def test_resamples_draw_the_writers_of_several_texts():
    """Copies of a text say nothing new: the interval is that of single texts."""
    rng = np.random.default_rng(3)
    once = rng.normal(size=60)
    many = np.repeat(once, 5)
    groups = np.repeat(rng.permutation(60), 5)
    width = [
        found.high - found.low
        for found in (
            mean_interval(once, noise=NOISE),
            mean_interval(many, noise=NOISE, groups=groups),
            mean_interval(many, noise=NOISE),
        )
    ]
    assert width[1] == pytest.approx(width[0], rel=0.1)
    assert width[2] < 0.6 * width[0]
    by_one = mean_interval(once, noise=NOISE, groups=range(60))
    assert by_one == mean_interval(once, noise=NOISE)


def test_groups_of_unequal_size_are_drawn_whole():
    seen = []

    def statistic(rows):
        seen.append(sorted(rows[0].tolist()))
        return np.zeros(len(rows))

    bootstrap(statistic, 4, noise=NOISE, groups=[7, 2, 7, 7], resamples=50)
    assert {tuple(rows) for rows in seen[1:]} == {
        (0, 0, 2, 2, 3, 3),
        (0, 1, 2, 3),
        (1, 1),
    }


def test_alignment_draws_writers():
    rng = np.random.default_rng(4)
    value = rng.uniform(size=(40, 1))
    score = (value + 0.3 * rng.normal(size=value.shape)).repeat(6, axis=0)
    readings = Readings(score, (score > 0.5).astype(float))
    asked, owner = value.repeat(6, axis=0), np.arange(40).repeat(6)
    (naive,) = alignment(asked, readings, noise=NOISE, names=["a"])
    (found,) = alignment(asked, readings, noise=NOISE, names=["a"], groups=owner)
    assert found.r.value == naive.r.value
    for name in ("r", "accuracy", "clear"):
        one, other = getattr(found, name), getattr(naive, name)
        assert one.high - one.low > 1.7 * (other.high - other.low)


def test_texts_that_tell_nothing_leave_no_side_but_are_said_to():
    before = np.array([[0, 1, 0], [0, 1, NAN]])
    silent = np.full((2, 3), NAN)
    found = flips(
        before,
        silent,
        before,
        trait=0,
        target=1,
        edits=[1.0, 1.0],
        noise=NOISE,
        names=NAMES,
    )
    assert (found.rate.value, found.off_target.value) == (0, 0)
    assert (found.lost.value, found.lost_null.value) == (1, 0)
