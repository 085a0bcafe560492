"""Flips by the noise of draws, abstention, and texts unlike the training."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from mdlm_classify.answers import familiar_of
from mdlm_classify.doubt import Familiar, Typical, coverage, flip_probability, trust
from mdlm_classify.posterior import log_posterior, with_prior
from mdlm_classify.scoring.scores import Scores
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

from .words_toy import BagClassifier

EVEN = torch.tensor([0.5, 0.5]).double().log()


def _scores(
    log_likelihood: Tensor,
    *,
    se: Tensor | None = None,
    tokens: Tensor | None = None,
    null: Tensor | None = None,
    exact: bool = False,
) -> Scores:
    n, c = log_likelihood.shape
    return Scores(
        log_likelihood=log_likelihood,
        se=torch.zeros(n, c) if se is None else se,
        draws=torch.full((n, c), 4),
        tokens=torch.full((n,), 10) if tokens is None else tokens,
        evaluations=torch.full((n,), 8),
        kept=torch.ones(n, c, dtype=torch.bool),
        null=null,
        exact=exact,
    )


def _normal(name: str, n: int, columns: int) -> Tensor:
    return torch.special.ndtri(Noise(11).child(name).uniform(torch.arange(n), columns))


# ---- the noise of draws ----------------------------------------------------------


def test_a_flip_is_as_probable_as_the_normal_law_says() -> None:
    likelihood = torch.tensor([[0.0, -3.0], [-1.0, 0.0]]).double()
    se = torch.tensor([[0.0, 2.0], [0.5, 0.0]]).double()
    found = flip_probability(
        log_posterior(likelihood, EVEN), _scores(likelihood, se=se)
    )
    assert found.tolist() == pytest.approx([stats.norm.sf(1.5), stats.norm.sf(2.0)])


def test_a_flip_is_as_frequent_as_it_is_said_to_be() -> None:
    """Log-ratios of all sizes alike are estimated by four draws with known noise."""
    n, sd = 40_000, 3.0
    truth = (Noise(12).uniform(torch.arange(n), 1) - 0.5) * 40
    ratio = (truth + sd * _normal("noise", n, 4)).mean(1, keepdim=True)
    likelihood = torch.cat([ratio, torch.zeros(n, 1)], 1)
    error = torch.full((n, 2), sd / 2)
    error.scatter_(1, likelihood.argmax(1, keepdim=True), 0.0)
    flip = flip_probability(
        log_posterior(likelihood, EVEN), _scores(likelihood, se=error)
    )
    flipped = ((truth > 0) != (ratio > 0))[:, 0].double()
    for low, high in ((0.3, 0.5), (0.1, 0.3), (0.01, 0.1)):
        held = (flip > low) & (flip <= high)
        assert int(held.sum()) > 500
        assert float(flipped[held].mean()) == pytest.approx(
            float(flip[held].mean()), abs=0.03
        )


def test_a_temperature_changes_no_flip() -> None:
    likelihood = torch.tensor([[0.0, -3.0], [-1.0, 0.0]]).double()
    se = torch.tensor([[0.0, 2.0], [0.5, 0.0]]).double()
    scores, tau = _scores(likelihood, se=se), torch.tensor([7.0, 0.3])
    torch.testing.assert_close(
        flip_probability(log_posterior(likelihood, EVEN, tau), scores, tau),
        flip_probability(log_posterior(likelihood, EVEN), scores),
    )


def test_another_prior_moves_the_flips_with_the_decision() -> None:
    likelihood = torch.tensor([[0.0, -1.0]]).double()
    scores = _scores(likelihood, se=torch.tensor([[0.0, 1.0]]))
    new = torch.tensor([0.0, 3.0]).double().log_softmax(0)
    found = with_prior(log_posterior(likelihood, EVEN), EVEN, new)
    assert int(found.argmax()) == 1  # it leads by 3 - 1 nats
    assert float(flip_probability(found, scores)) == pytest.approx(stats.norm.sf(2.0))


def test_many_classes_add_up_to_one_at_most() -> None:
    likelihood = torch.tensor([[0.0] + [-0.1] * 9, [0.0, -4.0, -5.0] + [-99.0] * 7])
    se = torch.ones(2, 10)
    se[:, 0] = 0
    prior = torch.full((10,), 0.1).log()
    found = flip_probability(
        log_posterior(likelihood, prior), _scores(likelihood, se=se)
    )
    expected = stats.norm.sf(4.0) + stats.norm.sf(5.0)
    assert found.tolist() == pytest.approx([1.0, expected], rel=1e-6)


def test_what_is_exact_or_without_a_token_does_not_flip() -> None:
    likelihood = torch.zeros(1, 2)
    posterior = log_posterior(likelihood, EVEN)
    exact = _scores(likelihood, se=torch.tensor([[0.0, 1.0]]), exact=True)
    assert flip_probability(posterior, exact).tolist() == [0.0]
    empty = _scores(likelihood, tokens=torch.tensor([0]))
    assert flip_probability(posterior, empty).tolist() == [0.0]


def test_trust_is_the_probability_times_the_chance_of_no_flip() -> None:
    logs = torch.tensor([[0.8, 0.2], [0.3, 0.7]]).double().log()
    torch.testing.assert_close(trust(logs), torch.tensor([0.8, 0.7]).double())
    found = trust(logs, torch.tensor([0.5, 0.0]).double())
    torch.testing.assert_close(found, torch.tensor([0.4, 0.7]).double())


def test_coverage_answers_the_most_trusted() -> None:
    trusts = torch.tensor([0.9, 0.5, 0.8, 0.6, 0.6])
    right = torch.tensor([True, False, True, False, True])
    found = coverage(trusts, right, (1.0, 0.6, 0.4))
    assert [part.share for part in found] == [1.0, 0.8, 0.4]  # equals go together
    assert [part.accuracy for part in found] == [0.6, 0.75, 1.0]
    assert [part.threshold for part in found] == pytest.approx([0.5, 0.6, 0.8])
    with pytest.raises(DataError):
        coverage(trusts[:0], right[:0])


# ---- texts unlike the training ---------------------------------------------------


def test_the_spread_of_texts_and_of_tokens_is_told_apart() -> None:
    n = 20_000
    tokens = (Noise(1).uniform(torch.arange(n), 1)[:, 0] * 60).long() + 1
    noise = _normal("spread", n, 2)
    values = -6.5 + 0.3 * noise[:, 0] + 1.7 * noise[:, 1] / tokens.sqrt()
    found = Typical.fit(values, tokens)
    assert found.mean == pytest.approx(-6.5, abs=0.02)
    assert found.between == pytest.approx(0.3, rel=0.05)
    assert found.within == pytest.approx(1.7, rel=0.05)
    z = found.z(values, tokens)
    for part in (z[tokens < 5], z[tokens > 40]):
        assert float(part.mean()) == pytest.approx(0, abs=0.05)
        assert float(part.std()) == pytest.approx(1, abs=0.05)


def test_a_text_without_a_token_is_not_unusual() -> None:
    law = Typical(-6.0, 0.1, 1.0)
    z = law.z(torch.tensor([0.0, -8.0]), torch.tensor([0, 100]))
    assert z.tolist() == pytest.approx([0.0, -2 / math.sqrt(0.02)])


def test_too_few_texts_tell_nothing() -> None:
    with pytest.raises(DataError, match="too few"):
        Typical.fit(torch.zeros(3), torch.tensor([0, 0, 5]))
    with pytest.raises(DataError, match="not finite"):
        Typical.fit(torch.tensor([-math.inf, 0.0]), torch.tensor([1, 1]))
    alike = Typical.fit(torch.full((5,), -2.0), torch.tensor([4, 5, 6, 7, 8]))
    assert float(alike.z(torch.tensor([-2.0]), torch.tensor([5]))) == 0


def _unigrams(law: Tensor, n: int, name: str) -> Scores:
    """Return the exact scores of n texts of 30 words from a law over 4 words."""
    classes = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.2, 0.5, 0.2, 0.1]]).double()
    null = classes.mean(0)
    u = Noise(4).child(name).uniform(torch.arange(n), 30)
    words = (u[..., None] > law.double().cumsum(0)).sum(-1).clamp(max=3)
    counts = torch.nn.functional.one_hot(words, 4).sum(1).double()
    return _scores(
        counts @ classes.log().T,
        tokens=torch.full((n,), 30),
        null=counts @ null.log(),
        exact=True,
    )


def test_texts_of_another_law_are_unusual() -> None:
    inside = torch.tensor([0.5, 0.2, 0.2, 0.1])
    familiar = Familiar.fit(_unigrams(inside, 500, "held out"), EVEN)
    new = familiar.novelty(_unigrams(inside, 500, "new"), EVEN)
    assert float(new.unusual().double().mean()) < 0.02
    rare = familiar.novelty(
        _unigrams(torch.tensor([0.05, 0.05, 0.1, 0.8]), 200, "rare"), EVEN
    )
    assert float(rare.unusual().double().mean()) > 0.95
    assert float(rare.z.mean()) < -3
    # One word again and again: too probable, which is odd as well.
    dull = familiar.novelty(
        _unigrams(torch.tensor([1.0, 0.0, 0.0, 0.0]), 5, "dull"), EVEN
    )
    assert bool((dull.z > 3).all())
    assert bool(dull.unusual().all())
    # Both classes explain a mixed text no better than the background does.
    mixed = familiar.novelty(
        _unigrams(torch.tensor([0.35, 0.35, 0.2, 0.1]), 200, "mixed"), EVEN
    )
    assert new.ratio_z is not None
    assert mixed.ratio_z is not None
    assert float(mixed.ratio_z.mean()) < -0.5 < float(new.ratio_z.mean())


def test_the_ratio_is_the_best_class_over_the_null_class_in_nats() -> None:
    scores = _scores(
        torch.tensor([[-12.0, -9.0, 0.0]]),
        null=torch.tensor([-10.0]),
        tokens=torch.tensor([5]),
    )
    prior = torch.tensor([0.5, 0.5, 0.0]).double().log()  # the third cannot be
    familiar = Familiar(Typical(-2.0, 0.1, 0.0), Typical(0.0, 0.1, 0.0))
    found = familiar.novelty(scores, prior)
    assert found.ratio is not None
    assert found.ratio_z is not None
    assert found.ratio.tolist() == pytest.approx([1.0])
    assert found.ratio_z.tolist() == pytest.approx([2.0])


def test_without_a_null_class_there_is_no_ratio() -> None:
    scores = _unigrams(torch.full((4,), 0.25), 20, "some")
    plain = dataclasses.replace(scores, null=None)
    familiar = Familiar.fit(plain, EVEN)
    assert familiar.ratio is None
    found = familiar.novelty(plain, EVEN)
    assert found.ratio is None
    assert found.ratio_z is None
    assert familiar.novelty(scores, EVEN).ratio is not None


def test_what_is_familiar_is_saved_and_read() -> None:
    for familiar in (
        Familiar(Typical(-6.5, 0.25, 1.7), Typical(0.01, 0.04, 0.2)),
        Familiar(Typical(-6.5, 0.25, 1.7)),
    ):
        plain = json.loads(json.dumps(familiar.to_dict()))
        assert Familiar.from_dict(plain) == familiar
    for bad in ({}, {"evidence": {}, "ratio": None}, {"evidence": 3, "ratio": None}):
        with pytest.raises(DataError, match="typical"):
            Familiar.from_dict(bad)


def test_it_is_said_when_only_typicality_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    evidence = {"mean": -2.0, "between": 0.1, "within": 1.0}
    both = {"familiar": {"evidence": evidence, "ratio": evidence}}
    assert familiar_of(BagClassifier(), both, "run").ratio is not None
    assert not caplog.records
    one = {"familiar": {"evidence": evidence, "ratio": None}}
    assert familiar_of(BagClassifier(), one, "run").ratio is None
    assert "no null class, so that only typicality is known" in caplog.text
