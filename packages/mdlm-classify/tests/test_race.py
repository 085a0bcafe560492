"""The race between classes ends as the posterior does, whatever the prior."""

from __future__ import annotations

import math

import pytest
import torch

from mdlm_classify.attribution import explain
from mdlm_classify.calibration import LengthTemperature
from mdlm_classify.config import ScoringConfig
from mdlm_classify.scoring.scorer import score
from mdlm_core.errors import UsageError

from .class_toy import ClassToy, documents
from .predictor_toy import LABELS, predictor

TEXTS = ["good film . the plot", "bad bad film", "the good bad plot . a fine film", ""]


def moved(prior=(0.05, 0.9, 0.05), **scoring):
    model = predictor(context=0.1, max_draws=16, **scoring)
    model.temperature = LengthTemperature(4.0, 0.5)
    model.log_new_prior = torch.tensor(prior, dtype=torch.float64).log()
    return model


@pytest.mark.parametrize("prior", [(0.05, 0.9, 0.05), (0.0, 0.3, 0.7)])
def test_what_is_compared_has_the_order_of_the_posterior(prior):
    model = moved(prior)
    scores = model.scores(TEXTS)
    tau = model.temperature.of(scores.tokens)[:, None]
    joint = scores.log_likelihood + model.race_prior(scores.tokens)
    torch.testing.assert_close(
        (joint / tau).log_softmax(1), model.log_posterior(scores)
    )
    model.log_new_prior = None
    found = model.race_prior(scores.tokens)
    assert torch.equal(found, model.log_prior.expand(4, 3))


@pytest.mark.parametrize("rule", ["fixed", "sequential", "halving"])
def test_the_class_that_wins_is_the_one_that_is_predicted(rule):
    model = moved(rule=rule)
    scores = model.scores(TEXTS[:3])
    best = model.log_posterior(scores).argmax(1)
    assert not torch.equal(
        best, (scores.log_likelihood + model.log_new_prior).argmax(1)
    )  # which the race went by before
    assert (scores.se.gather(1, best[:, None]) == 0).all()
    assert scores.kept.gather(1, best[:, None]).all()
    found = explain(model, TEXTS[0])
    assert found.label == LABELS[int(best[0])]
    assert float(found.values.sum()) == pytest.approx(found.log_ratio, abs=1e-6)


def test_each_text_may_have_a_prior_of_its_own():
    toy, texts = ClassToy(2), documents(3)
    prior = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0], [0.0, 0.0]])
    settings = ScoringConfig(max_draws=4)
    scores = score(toy, texts, classes=2, settings=settings, log_prior=prior)
    assert scores.kept[:2].tolist() == [[True, False], [False, True]]
    shared = score(toy, texts, classes=2, settings=settings, log_prior=prior[2])
    torch.testing.assert_close(scores.log_likelihood[2], shared.log_likelihood[2])
    prior[1] = -math.inf
    with pytest.raises(UsageError, match="-inf for all"):
        score(toy, texts, classes=2, settings=settings, log_prior=prior)
