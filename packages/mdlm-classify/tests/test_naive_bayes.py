"""Without context the classifier is multinomial naive Bayes, by scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import MultinomialNB

from mdlm_classify.config import ClassDiTConfig, ScoringConfig
from mdlm_classify.data.document import of_ids
from mdlm_classify.nn.class_dit import build
from mdlm_classify.posterior import log_posterior
from mdlm_classify.scoring.scorer import score
from mdlm_core.diffusion import LogLinear
from mdlm_core.kernels.noise import Noise, global_seed

V, MASK, CLASSES, LENGTH = 31, 30, 3, 7


@pytest.fixture(scope="module")
def bayes():
    draw = np.random.default_rng(0)
    law = draw.dirichlet(np.full(MASK, 0.3), CLASSES)
    labels = np.repeat(np.arange(CLASSES), [5, 9, 16])
    counts = np.stack([draw.multinomial(40, law[label]) for label in labels])
    return MultinomialNB().fit(counts, labels)


@pytest.fixture(scope="module")
def texts():
    draw = np.random.default_rng(1)
    sizes = [1, 2, 3, 6, 7, 8, 13, 14, 25, 60]
    return [draw.integers(0, MASK, size).tolist() for size in sizes * 3]


def model(bayes, *, per_class=False):
    config = ClassDiTConfig(
        blocks=1, width=16, heads=2, cond_width=8, per_class=per_class
    )
    with global_seed(Noise(0)):
        backbone = build(config, vocab_size=V, mask_id=MASK, length=LENGTH)
        backbone.add_classes(CLASSES)
    law = np.full((CLASSES, V), np.log(1e-6))
    law[:, :MASK] = bayes.feature_log_prob_
    total = bayes.feature_count_.sum(0) + 1
    background = np.append(np.log(total / total.sum()), np.log(1e-6))
    backbone.set_biases(torch.tensor(background).float(), torch.tensor(law).float())
    return backbone


@pytest.mark.parametrize("per_class", [False, True], ids=["one", "per class"])
@pytest.mark.parametrize(
    "estimator", ["exact-counts", "continuous-time", "sizes", "any-order"]
)
def test_posterior(bayes, texts, estimator, per_class):
    scores = score(
        model(bayes, per_class=per_class),
        [of_ids(ids, length=LENGTH, mask_id=MASK) for ids in texts],
        classes=CLASSES,
        settings=ScoringConfig(estimator=estimator),
        schedule=LogLinear(),
        log_prior=torch.tensor(bayes.class_log_prior_),
        null=not per_class,
    )
    counts = np.stack([np.bincount(ids, minlength=MASK) for ids in texts])
    found = log_posterior(
        scores.log_likelihood,
        torch.tensor(bayes.class_log_prior_),
        torch.ones(len(texts)).double(),
    ).exp()
    np.testing.assert_allclose(found, bayes.predict_proba(counts), atol=1e-6, rtol=0)
    likelihood = counts @ bayes.feature_log_prob_.T
    np.testing.assert_allclose(scores.log_likelihood, likelihood, atol=1e-4)
    if not per_class:
        total = bayes.feature_count_.sum(0) + 1
        null = counts @ np.log(total / total.sum())
        np.testing.assert_allclose(scores.null, null, atol=1e-4)


def test_no_draw_is_left_to_chance(bayes, texts):
    documents = [of_ids(ids, length=LENGTH, mask_id=MASK) for ids in texts]
    scores = score(
        model(bayes), documents, classes=CLASSES, settings=ScoringConfig(start_draws=2)
    )
    assert scores.draws.max() == 2
    assert scores.se.max() < 1e-5
    assert (scores.kept.sum(1) == 1).all()


def test_without_the_control_variate_it_is_naive_bayes_on_average(bayes, texts):
    documents = [of_ids(ids, length=LENGTH, mask_id=MASK) for ids in texts[:10]]
    scores = score(
        model(bayes),
        documents,
        classes=CLASSES,
        settings=ScoringConfig(control=0.0, rule="fixed", max_draws=256),
    )
    counts = np.stack([np.bincount(ids, minlength=MASK) for ids in texts[:10]])
    joint = counts @ bayes.feature_log_prob_.T
    best = scores.log_likelihood.argmax(1)
    rows = np.arange(10)
    gap = joint[rows, best][:, None] - joint
    found = scores.log_likelihood[rows, best][:, None] - scores.log_likelihood
    assert scores.se[1:].max() > 0.1
    assert ((found - torch.tensor(gap)).abs() <= 4 * scores.se + 1e-5).all()
