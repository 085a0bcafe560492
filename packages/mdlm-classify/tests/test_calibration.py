"""The temperature by length, and the expected calibration error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from torch import Tensor

from mdlm_classify import calibration
from mdlm_classify.calibrating import Calibrated, informed
from mdlm_classify.calibration import LengthTemperature, ece, fit, reliability
from mdlm_classify.cli.calibrate import calibrated_text
from mdlm_classify.posterior import log_posterior
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise

UNIFORM = torch.zeros(3, dtype=torch.float64)


def _texts(n: int, temperature: LengthTemperature) -> tuple[Tensor, Tensor, Tensor]:
    """Return joint scores whose posterior is right after that temperature."""
    noise, rows = Noise(5), torch.arange(n)
    tokens = (noise.child("length").uniform(rows, 1)[:, 0] * 6).exp().long() + 1
    calibrated = torch.special.ndtri(noise.child("x").uniform(rows, 3)) * 2
    share = calibrated.softmax(1).cumsum(1)
    codes = (noise.child("class").uniform(rows, 1) > share).sum(1).clamp(max=2)
    return calibrated * temperature.of(tokens)[:, None], codes, tokens


def _objective(
    joint: Tensor, codes: Tensor, tokens: Tensor, a: float, b: float
) -> float:
    """Return what is minimised, text by text."""
    smooth = 1 / (len(codes) + 2)
    total = 0.0
    for row, code, length in zip(joint, codes, tokens, strict=True):
        logs = (row / (a * int(length) ** b)).log_softmax(0)
        right = float(logs[code])
        total -= (1 - smooth) * right + smooth * float(logs.mean())
    middle = float(tokens.double().log().mean())
    theta = math.log(a) + b * middle - calibration.USUAL_POWER * middle
    total += (theta / calibration.LOG_TAU_SD) ** 2 / 2
    return (total + b**2 / (2 * calibration.EXPONENT_SD**2)) / len(codes)


def test_the_temperature_is_a_power_of_the_length() -> None:
    tau = LengthTemperature(0.5, 0.75).of(torch.tensor([0, 1, 16, 81]))
    torch.testing.assert_close(tau, torch.tensor([1.0, 0.5, 4.0, 13.5]).double())
    assert LengthTemperature().of(torch.tensor([7])).tolist() == [1.0]


def test_a_temperature_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="a is 0"):
        LengthTemperature(0.0, 0.0)
    with pytest.raises(ConfigError, match="b is nan"):
        LengthTemperature(1.0, math.nan)


def test_a_planted_temperature_is_found() -> None:
    planted = LengthTemperature(0.14, 0.76)
    joint, codes, tokens = _texts(8_000, planted)
    found = fit(joint, codes, tokens)
    assert found.b == pytest.approx(0.76, abs=0.05)
    at = torch.tensor([20])
    assert float(found.of(at)) == pytest.approx(float(planted.of(at)), rel=0.08)
    before = ece(log_posterior(joint, UNIFORM).exp(), codes)
    after = ece(log_posterior(joint, UNIFORM, found.of(tokens)).exp(), codes)
    assert after < 0.02 < before


def test_nothing_better_is_near_the_fit() -> None:
    joint, codes, tokens = _texts(60, LengthTemperature(0.5, 0.5))
    found = fit(joint, codes, tokens)
    best = _objective(joint, codes, tokens, found.a, found.b)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        for step in (-0.3, -0.02, 0.0, 0.02, 0.3):
            if factor == 1 and step == 0:
                continue
            near = (found.a * factor, found.b + step)
            assert _objective(joint, codes, tokens, *near) > best - 1e-8


def test_texts_of_one_length_decide_no_exponent() -> None:
    joint, codes, tokens = _texts(200, LengthTemperature(3.0, 0.0))
    found = fit(joint, codes, torch.full_like(tokens, 50))
    assert found.b == pytest.approx(0, abs=1e-4)
    assert found.a == pytest.approx(3, rel=0.3)


def test_texts_that_are_all_right_keep_a_temperature() -> None:
    """The log-loss alone would go to a temperature of 0."""
    joint = torch.tensor([[0.0, -5.0]]).repeat(2_000, 1)
    found = fit(joint, torch.zeros(2_000).long(), torch.full((2_000,), 8))
    sure = float(log_posterior(joint, UNIFORM[:2], found.of(torch.tensor(8)))[0, 0])
    # The target is 1 - e / 2 with e = 1 / 2002.
    assert 1 - 1 / 500 < math.exp(sure) < 1 - 1 / 8_000


@pytest.mark.parametrize(("n", "near"), [(20, 0.05), (2_000, 2e-3)])
def test_texts_that_are_all_wrong_make_the_posterior_even(n: int, near: float) -> None:
    joint = torch.tensor([[0.0, -5.0]]).repeat(n, 1)
    found = fit(joint, torch.ones(n).long(), torch.full((n,), 8))
    even = log_posterior(joint, UNIFORM[:2], found.of(torch.tensor(8))).exp()
    torch.testing.assert_close(even, torch.full_like(even, 0.5), atol=near, rtol=0)


@pytest.mark.parametrize("right", [9, 10, 11])
def test_a_few_texts_that_are_right_by_chance_keep_the_posterior(right: int) -> None:
    """The log-loss alone is least where every text is even between the classes."""
    lead = torch.linspace(0.5, 9.5, 20).double()
    codes = (
        torch.randperm(20, generator=torch.Generator().manual_seed(1)) >= right
    ).long()
    joint = torch.stack([lead, -lead], 1)
    found = fit(joint, codes, torch.full((20,), 20))
    tau = float(found.of(torch.tensor(20)))
    assert 2 < tau < 100
    assert float((joint / tau).softmax(1).amax()) > 0.55


def test_a_few_hundred_texts_decide_the_temperature() -> None:
    joint, codes, tokens = _texts(300, LengthTemperature(0.14, 0.76))
    found, at = fit(joint, codes, tokens), torch.tensor([5, 20, 100])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "LOG_TAU_SD", 1e6)
        free = fit(joint, codes, tokens)
    torch.testing.assert_close(found.of(at), free.of(at), rtol=0.03, atol=0)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_few_texts_are_enough(n: int) -> None:
    found = fit(*_texts(n, LengthTemperature(2.0, 0.3)))
    assert 0 < found.a < 1e7
    assert 0 <= found.b <= 2


def test_scores_of_any_size_are_fitted() -> None:
    joint, codes, tokens = _texts(300, LengthTemperature(1e4, 0.0))
    assert float(fit(joint, codes, tokens).of(torch.tensor(20))) == pytest.approx(
        1e4, rel=0.3
    )


def test_an_impossible_class_and_an_empty_text_do_not_disturb() -> None:
    joint, codes, tokens = _texts(100, LengthTemperature(2.0, 0.3))
    expected = fit(joint, codes, tokens)
    more = torch.cat([joint, torch.full((100, 1), -math.inf)], 1)
    more = torch.cat([more, torch.tensor([[5.0, 0.0, 0.0, -math.inf]])])
    found = fit(
        more,
        torch.cat([codes, torch.tensor([2])]),
        torch.cat([tokens, torch.tensor([0])]),
    )
    assert found.a == pytest.approx(expected.a, rel=1e-4)
    assert found.b == pytest.approx(expected.b, abs=1e-4)


def test_what_cannot_be_fitted_is_refused() -> None:
    codes, tokens = torch.tensor([0]), torch.tensor([3])
    with pytest.raises(DataError, match="no text with a token"):
        fit(torch.zeros(1, 2), codes, torch.tensor([0]))
    with pytest.raises(DataError, match="no text with a token"):
        fit(torch.zeros(0, 2), codes[:0], tokens[:0])
    for bad in (math.nan, -math.inf, math.inf):
        with pytest.raises(DataError, match="text 0"):
            fit(torch.tensor([[bad, 0.0]]), codes, tokens)


def test_it_is_said_when_texts_do_not_show_that_the_model_knows_anything() -> None:
    joint, codes, tokens = _texts(200, LengthTemperature(2.0, 0.3))
    prior = torch.full((3,), 1 / 3).double().log()

    def known(joint: Tensor, codes: Tensor) -> bool:
        tau = fit(joint, codes, tokens[: len(codes)]).of(tokens[: len(codes)])
        return informed(log_posterior(joint, prior, tau), prior, codes)

    assert known(joint, codes)
    assert not known(joint.roll(1, 0), codes)  # each text has another's scores
    assert not known(joint.roll(1, 0)[:20], codes[:20])
    assert known(torch.eye(3).double()[codes[:20]] * 20, codes[:20])
    assert not informed(prior[None], prior, codes[:1])


def test_the_note_names_the_texts_and_both_losses() -> None:
    found = Calibrated(
        rows=20,
        accuracy=0.55,
        temperature=LengthTemperature(),
        familiar=None,
        ece_before=0.4,
        ece_after=0.1,
        log_loss_before=2.0,
        log_loss_after=0.7,
        log_loss_prior=0.6931,
        informed=False,
    )
    said = calibrated_text(found).splitlines()[-1]
    assert "on these 20 texts the model says no more than the class" in said
    assert "0.7000, theirs 0.6931" in said
    assert "note" not in calibrated_text(replace(found, informed=True))


# ---- expected calibration error --------------------------------------------------


def _by_hand(shares: list[list[float]], codes: list[int], bins: int) -> float:
    total = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        held = [
            (max(row), row.index(max(row)) == code)
            for row, code in zip(shares, codes, strict=True)
            if low < max(row) <= high
        ]
        if held:
            gap = sum(sure for sure, _ in held) - sum(right for _, right in held)
            total += abs(gap)
    return total / len(codes)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.integers(0, 2)
        ),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([5, 15]),
)
def test_the_error_is_the_mean_gap_over_bins(
    texts: list[tuple[list[float], int]], bins: int
) -> None:
    shares = [[value / sum(row) for value in row] for row, _ in texts]
    codes = [code for _, code in texts]
    assert ece(shares, codes, bins=bins) == pytest.approx(
        _by_hand(shares, codes, bins), abs=1e-9
    )


def test_bins_agree_with_those_of_scikit_learn() -> None:
    joint, codes, _ = _texts(500, LengthTemperature())
    shares = (joint * 3).softmax(1)
    sure, guess = shares.max(1)
    hit = (guess == codes).numpy()
    for adaptive, strategy in ((False, "uniform"), (True, "quantile")):
        found = reliability(shares, codes, bins=10, adaptive=adaptive)
        accuracy, confidence = calibration_curve(
            hit, sure.numpy(), n_bins=10, strategy=strategy
        )
        np.testing.assert_allclose(found.accuracy, accuracy)
        np.testing.assert_allclose(found.confidence, confidence)
        assert sum(found.rows) == 500
    assert max(found.rows) - min(found.rows) <= 1


def test_a_bin_holds_its_upper_edge() -> None:
    shares, codes = [[0.5, 0.5], [0.45, 0.55]], [0, 0]
    assert reliability(shares, codes, bins=10).rows == (1, 1)
    assert ece(shares, codes, bins=10) == pytest.approx((0.5 + 0.55) / 2)


def test_what_is_sure_and_right_has_no_error_and_what_is_sure_and_wrong_has_one() -> (
    None
):
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    for adaptive in (False, True):
        assert ece(sure, [0, 0], adaptive=adaptive) == 0
        assert ece(sure, [1, 1], adaptive=adaptive) == 1
        assert ece(sure, [0, 1], adaptive=adaptive) == 0.5


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="no text"):
        ece(np.zeros((0, 2)), [])
    with pytest.raises(DataError, match="NaN"):
        ece([[math.nan, 1.0]], [0])
