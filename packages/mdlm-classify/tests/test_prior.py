"""Priors: given, empirical, and estimated from texts whose classes are not known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from mdlm_classify.data.labels import label_of, name_of
from mdlm_classify.inputs import names_of
from mdlm_classify.posterior import log_evidence
from mdlm_classify.prior import (
    PriorError,
    class_prior,
    correction_note,
    em_prior,
    information,
)
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise

LABELS = ("bad", "good", "1")


def test_the_empirical_prior_is_the_shares_of_the_training_texts() -> None:
    prior = class_prior("empirical", LABELS, torch.tensor([1, 5, 4]))
    assert prior.dtype == torch.float64
    torch.testing.assert_close(prior, torch.tensor([0.1, 0.5, 0.4]).double())


def test_a_uniform_prior_needs_no_counts() -> None:
    assert class_prior("uniform", LABELS).tolist() == [1 / 3] * 3


def test_weights_are_made_to_sum_to_one_in_the_order_of_the_labels() -> None:
    prior = class_prior({"good": 3, 1: 1, "bad": 0}, LABELS)
    assert prior.tolist() == [0.0, 0.75, 0.25]


def test_weights_near_the_ends_of_the_numbers_are_shares_too() -> None:
    assert class_prior({"a": 1e308, "b": 1e308}, ("a", "b")).tolist() == [0.5, 0.5]
    assert class_prior({"a": 1e-300, "b": 3e-300}, ("a", "b")).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ({"bad": math.nan, "good": 1, "1": 1}, "'bad' is nan"),
        ({"bad": -0.1, "good": 1, "1": 1}, "'bad' is -0.1"),
        ({"bad": math.inf, "good": 1, "1": 1}, "'bad' is inf"),
        ({"bad": "much", "good": 1, "1": 1}, "'bad' is 'much'"),
        ({"bad": 0, "good": 0, "1": 0}, "0 for every class"),
        ({"bad": 1, "goood": 1, "1": 1}, r"'goood'.*did you mean 'good'"),
        ({"bad": 1}, "lacks 'good', '1'"),
        ({"bad": 1, "good": 1, "1": 1, 1: 1}, "'1' twice"),
        ("emprical", r"did you mean 'empirical'"),
        ("empirical", "number of training texts"),
    ],
)
def test_what_is_no_prior_is_refused(prior: object, said: str) -> None:
    with pytest.raises(PriorError, match=said) as caught:
        class_prior(prior, LABELS)  # type: ignore[arg-type]
    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, ValueError)


def _texts(shares: list[float], n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return exact log-likelihoods of n draws from a mixture of normal laws."""
    noise = Noise(3)
    rows = torch.arange(n)
    u = noise.child("class").uniform(rows, 1)[:, 0]
    codes = torch.bucketize(u, torch.tensor(shares).double().cumsum(0)[:-1])
    centres = torch.tensor([-1.0, 0.3, 1.5]).double()
    x = torch.special.ndtri(noise.child("x").uniform(rows, 1)) + centres[codes][:, None]
    return -((x - centres) ** 2) / 2, codes


@pytest.mark.parametrize("s", [0.0, 1.0, 20.0])
def test_the_estimate_is_the_most_probable_mixture(s: float) -> None:
    """Compared with a general optimiser over the simplex."""
    log_likelihood, _ = _texts([0.7, 0.1, 0.2], 400)
    found = em_prior(
        log_likelihood, torch.tensor([1, 1, 1]) / 3, smoothing=s, tolerance=1e-12
    )

    def loss(free: np.ndarray) -> float:
        log_prior = torch.tensor([*free, 0.0]).double().log_softmax(0)
        evidence = float(log_evidence(log_likelihood, log_prior).sum())
        return -evidence - s * float(log_prior.sum())

    best = optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead", tol=1e-10)
    expected = torch.tensor([*best.x, 0.0]).double().softmax(0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_estimate_recovers_shares_that_shifted() -> None:
    log_likelihood, codes = _texts([0.1, 0.2, 0.7], 20_000)
    found = em_prior(log_likelihood, torch.tensor([0.8, 0.1, 0.1]))
    shares = torch.bincount(codes) / len(codes)
    torch.testing.assert_close(found, shares.double(), atol=0.02, rtol=0)


def test_texts_of_known_class_give_their_shares() -> None:
    sure = torch.full((10, 2), -1e6)
    sure[:3, 0], sure[3:, 1] = 0.0, 0.0
    found = em_prior(sure, torch.tensor([0.5, 0.5]), smoothing=0)
    torch.testing.assert_close(found, torch.tensor([0.3, 0.7]).double())
    found = em_prior(sure, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(found, torch.tensor([4 / 12, 8 / 12]).double())


def test_texts_that_say_nothing_leave_the_prior_near_where_it_was() -> None:
    """Plain EM runs into a corner, where the other class is never predicted."""
    noise = torch.special.ndtri(Noise(1).uniform(torch.arange(200), 1))
    weak = torch.cat([torch.zeros_like(noise), 0.02 * noise + 0.05], 1)
    prior = torch.tensor([0.6, 0.4]).double()
    assert em_prior(weak, prior, smoothing=0).amin() < 0.01
    assert em_prior(weak, prior, smoothing=1).amin() < 0.2  # one text is too little
    torch.testing.assert_close(em_prior(weak, prior), prior, atol=0.01, rtol=0)
    assert "barely depend on the text" in correction_note(
        (weak + prior.log()).log_softmax(1)
    )


def test_the_warning_is_of_texts_that_settle_little() -> None:
    log_likelihood, _ = _texts([0.1, 0.2, 0.7], 400)
    assert correction_note((log_likelihood * 3).log_softmax(1)) == ""
    even = torch.full((5, 3), 1 / 3).log()
    assert information(even) == pytest.approx(0, abs=1e-6)
    sure = torch.eye(3).double().log()
    assert information(sure) == 1
    assert "0.0%" in correction_note(even)


def test_constants_of_a_text_do_not_matter() -> None:
    log_likelihood, _ = _texts([0.7, 0.1, 0.2], 50)
    prior = torch.tensor([0.2, 0.3, 0.5])
    shifted = log_likelihood - torch.arange(50.0)[:, None] * 100
    torch.testing.assert_close(
        em_prior(shifted, prior), em_prior(log_likelihood, prior)
    )


def test_a_class_of_prior_zero_stays_there_and_no_text_changes_nothing() -> None:
    log_likelihood, _ = _texts([0.7, 0.1, 0.2], 50)
    prior = torch.tensor([0.0, 0.5, 0.5]).double()
    assert em_prior(log_likelihood, prior)[0] == 0
    assert em_prior(log_likelihood[:0], prior).equal(prior)


def test_an_estimate_from_nan_is_refused() -> None:
    with pytest.raises(PriorError, match="NaN"):
        em_prior(torch.tensor([[0.0, math.nan]]), torch.tensor([0.5, 0.5]))
    with pytest.raises(PriorError, match="0 or more"):
        em_prior(torch.zeros(1, 2), torch.tensor([1.5, -0.5]))


def test_a_text_that_no_class_can_have_is_refused() -> None:
    only = torch.tensor([[-math.inf, 0.0], [0.0, -math.inf]])
    with pytest.raises(PriorError, match="text 1"):
        em_prior(only, torch.tensor([0.0, 1.0]))


def test_a_truth_value_is_written_in_one_way() -> None:
    for value in (True, np.True_):
        assert label_of(bool(value), "line 1") == name_of(value) == "true"
    assert names_of(np.array([False, True])) == ("false", "true")
    found = class_prior({True: 3, np.False_: 1}, ("false", "true"))
    assert found.tolist() == [0.25, 0.75]
    with pytest.raises(ValueError, match="both written 'true'"):
        names_of(np.array([True, "true"], dtype=object))
