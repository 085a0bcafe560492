"""Bayes' rule, compared with fractions and with scikit-learn."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import MultinomialNB

from mdlm_classify.posterior import log_evidence, log_joint, log_posterior, with_prior
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

LIKELIHOOD = [[Fraction(1, 2), Fraction(1, 8)], [Fraction(0), Fraction(1, 16)]]
PRIOR = [Fraction(1, 5), Fraction(4, 5)]


def _log(values: list[Fraction]) -> list[float]:
    return [math.log(value) if value else -math.inf for value in values]


def test_the_posterior_is_that_of_exact_fractions() -> None:
    joint = [
        [value * prior for value, prior in zip(row, PRIOR, strict=True)]
        for row in LIKELIHOOD
    ]
    expected = [[float(value / sum(row)) for value in row] for row in joint]
    likelihood = torch.tensor([_log(row) for row in LIKELIHOOD], dtype=torch.float64)
    log_prior = torch.tensor(_log(PRIOR), dtype=torch.float64)
    found = log_posterior(likelihood, log_prior).exp()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    evidence = torch.tensor([float(sum(row)) for row in joint], dtype=torch.float64)
    torch.testing.assert_close(log_evidence(likelihood, log_prior).exp(), evidence)


def test_the_posterior_of_counts_is_multinomial_naive_bayes() -> None:
    rows = torch.arange(40)
    counts = (Noise(1).uniform(rows, 6) * 5).long().numpy()
    classes = np.arange(40) % 3
    model = MultinomialNB().fit(counts, classes)
    likelihood = torch.tensor(counts @ model.feature_log_prob_.T)
    log_prior = torch.tensor(model.class_log_prior_)
    np.testing.assert_allclose(
        log_posterior(likelihood, log_prior), model.predict_log_proba(counts)
    )
    np.testing.assert_allclose(
        log_joint(likelihood, log_prior), model.predict_joint_log_proba(counts)
    )


def test_a_temperature_divides_the_log_ratio() -> None:
    likelihood = torch.tensor([[-900.0, -1000.0], [-4.0, -2.0]])
    tau = torch.tensor([50.0, 4.0])
    found = log_posterior(likelihood, torch.tensor([0.5, 0.5]).log(), tau)
    ratio = found[:, 0] - found[:, 1]
    torch.testing.assert_close(ratio, torch.tensor([2.0, -0.5]).double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2).double())


def test_likelihoods_far_below_the_least_number_have_a_posterior() -> None:
    likelihood = torch.tensor([[-1e6, -1e6 - 1]], dtype=torch.float64)
    found = log_posterior(likelihood, torch.tensor([0.5, 0.5]).double().log()).exp()
    assert float(found[0, 0]) == pytest.approx(1 / (1 + math.exp(-1)))


def test_another_prior_gives_what_scoring_under_it_gives() -> None:
    likelihood = -Noise(2).uniform(torch.arange(20), 3) * 9
    old = torch.tensor([0.2, 0.3, 0.5]).double().log()
    new = torch.tensor([0.6, 0.4, 0.0]).double().log()
    found = with_prior(log_posterior(likelihood, old), old, new)
    expected = log_posterior(likelihood, new)
    torch.testing.assert_close(found.exp(), expected.exp())
    assert bool((found[:, 2] == -math.inf).all())


def test_another_prior_is_not_divided_by_the_temperature() -> None:
    likelihood = torch.tensor([[0.0, 0.0]])
    old = torch.tensor([0.5, 0.5]).double().log()
    new = torch.tensor([0.9, 0.1]).double().log()
    found = with_prior(log_posterior(likelihood, old, 10.0), old, new)
    torch.testing.assert_close(found.exp(), new.exp()[None])


def test_a_class_cannot_come_back_from_a_prior_of_zero() -> None:
    old = torch.tensor([1.0, 0.0]).double().log()
    found = log_posterior(torch.zeros(1, 2), old)
    with pytest.raises(DataError, match="class 1 had prior 0"):
        with_prior(found, old, torch.tensor([0.5, 0.5]).log())


@pytest.mark.parametrize("row", [[math.nan, 0.0], [-math.inf, -math.inf]])
def test_a_text_without_a_possible_class_is_refused(row: list[float]) -> None:
    likelihood = torch.tensor([[0.0, 0.0], row])
    with pytest.raises(DataError, match="text 1"):
        log_posterior(likelihood, torch.zeros(2))


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_cannot_divide_is_refused(tau: float) -> None:
    with pytest.raises(DataError, match="temperature"):
        log_posterior(torch.zeros(1, 2), torch.zeros(2), tau)
