"""Attributions: they sum to the log-ratio, and each is the right share of it."""

import json
import math
from itertools import permutations

import pytest
import torch

from mdlm_classify.attribution import explain
from mdlm_classify.attribution_view import page, plain, shares, terminal
from mdlm_classify.config import ScoringConfig
from mdlm_classify.scoring.scorer import token_values
from mdlm_core.errors import UnknownNameError, UsageError

from .class_toy import MASK, ClassToy, document
from .predictor_toy import LABELS, TEXT, laws, predictor

ESTIMATORS = ["exact-counts", "continuous-time", "sizes", "any-order"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("rule", ["fixed", "sequential", "halving"])
def test_they_sum_to_the_log_ratio_of_the_prediction(estimator, rule):
    model = predictor(estimator=estimator, rule=rule, max_draws=8)
    found = explain(model, TEXT)
    scores = model.scores([TEXT])
    posterior = model.log_posterior(scores)[0]
    first, second = posterior.argsort(descending=True)[:2].tolist()
    assert (found.label, found.other) == (LABELS[first], LABELS[second])
    ratio = scores.log_likelihood[0, first] - scores.log_likelihood[0, second]
    assert found.log_ratio == float(ratio)
    assert float(found.values.sum()) == pytest.approx(found.log_ratio, abs=1e-6)
    assert sum(found.by_word()) == pytest.approx(found.log_ratio, abs=1e-6)
    assert found.se == float(scores.se[0, second])
    share = posterior[[first, second]].softmax(0)[0]
    assert found.share == pytest.approx(float(share))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_two_classes_that_are_not_the_best(estimator):
    model = predictor(estimator=estimator, max_draws=8)
    best = explain(model, TEXT).label
    a, b = (name for name in LABELS if name != best)
    found = explain(model, TEXT, label=a, other=b)
    assert float(found.values.sum()) == pytest.approx(found.log_ratio, abs=1e-6)
    turned = explain(model, TEXT, label=b, other=a)
    torch.testing.assert_close(turned.values, -found.values, atol=1e-6, rtol=0)
    assert turned.log_ratio == pytest.approx(-found.log_ratio)
    assert turned.share == pytest.approx(1 - found.share)
    assert turned.log_prior_ratio == pytest.approx(-found.log_prior_ratio)


def test_a_class_that_was_left_out_early():
    model = predictor(context=0.5, rule="sequential", start_draws=2, max_draws=32)
    text = "good fine . good fine a plot bad"
    scores = model.scores([text])
    assert scores.draws.amin() < scores.draws.amax()
    best = int((scores.log_likelihood[0] + model.log_prior).argmax())
    for other in {0, 1, 2} - {best}:
        found = explain(model, text, label=LABELS[best], other=LABELS[other])
        assert found.draws == int(scores.draws[0, other])
        assert float(found.values.sum()) == pytest.approx(found.log_ratio, abs=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_context_each_token_has_the_log_ratio_of_its_frequencies(estimator):
    model = predictor(context=0, estimator=estimator, max_draws=2, start_draws=2)
    found = explain(model, TEXT, label="positive", other="negative")
    law = laws()
    wanted = (law[2] - law[0])[list(found.ids)]
    torch.testing.assert_close(found.values, wanted, atol=1e-5, rtol=0)
    named = dict(zip([w.text for w in found.words], found.by_word(), strict=True))
    assert named["good"] == pytest.approx(math.log(8), abs=1e-4)
    assert named["poor"] == pytest.approx(-math.log(8), abs=1e-4)
    assert named["film"] == pytest.approx(0.0, abs=1e-4)


def test_shares_are_those_of_all_orders():
    toy, ids = ClassToy(2), (0, 2, 1, 0)
    orders = list(permutations(range(4)))
    wanted = torch.zeros(4, dtype=torch.float64)
    for order in orders:
        for sign, label in ((1, 0), (-1, 1)):
            canvas = [MASK] * 4
            for at in order:
                wanted[at] += sign * toy.log_prob(canvas, label, at, ids[at])
                canvas[at] = ids[at]
    wanted /= len(orders)
    for estimator in ("exact-counts", "sizes", "any-order"):
        found = []
        for seed in range(8):
            settings = ScoringConfig(
                rule="fixed", max_draws=200, estimator=estimator, seed=seed
            )
            under = token_values(
                toy, document(*ids), labels=(0, 1), draws=200, settings=settings
            )
            found.append(under[0] - under[1])
        each = torch.stack(found)
        error = each.std(0) / len(found) ** 0.5
        assert ((each.mean(0) - wanted).abs() < 5 * error).all(), estimator
        assert (error < 0.2).all()
    assert float(wanted.sum()) == pytest.approx(
        toy.bound(list(ids), 0) - toy.bound(list(ids), 1)
    )


def test_long_texts_and_gaps():
    model = predictor(length=5, max_draws=8)
    text = "the film ____ good ____{2} . the plot was fine"
    found = explain(model, text, gaps=True, label="positive", other="negative")
    assert [i for i, word in enumerate(found.words) if word.gap] == [2, 4, 5]
    assert len(found.values) == 11
    assert (found.values[[2, 4, 5]] == 0).all()
    assert (found.values[[0, 1, 3, 6]] != 0).all()
    assert float(found.values.sum()) == pytest.approx(found.log_ratio, abs=1e-6)


def test_a_text_without_a_token():
    model = predictor()
    found = explain(model, "")
    assert found.label == "positive"  # the prior decides
    assert (found.log_ratio, found.se, found.draws, found.words) == (0, 0, 0, ())
    assert found.share == pytest.approx(3 / 5)
    found = explain(model, "____{3}", gaps=True)
    assert found.values.tolist() == [0, 0, 0]


def test_what_is_refused():
    model = predictor()
    with pytest.raises(UnknownNameError, match="did you mean 'positive'"):
        explain(model, TEXT, label="positiv")
    with pytest.raises(UsageError, match="compared with itself"):
        explain(model, TEXT, label="neutral", other="neutral")
    model.log_new_prior = torch.tensor([-torch.inf, -torch.inf, 0.0])
    with pytest.raises(UsageError, match="both have the prior 0"):
        explain(model, TEXT, label="neutral", other="negative")
    assert explain(model, TEXT, label="neutral", other="positive").share == 0


def test_views():
    model = predictor(max_draws=8)
    text = "The <b>film</b> was good & fine."
    found = explain(model, text, label="positive", other="negative")
    view = terminal(found)
    assert text in view.plain
    assert "for positive:" in view.plain
    colours = {str(span.style) for span in view.spans}
    assert len(colours) > 1
    html = page([found])
    assert "<b>" not in html
    assert "&lt;" in html
    assert 'title="+' in html
    assert "http" not in html
    card = json.loads(json.dumps(plain(found)))
    assert sum(card["values"]) == pytest.approx(card["log_ratio"], abs=1e-6)
    assert [row["word"] for row in card["words"]][-2:] == ["fine", "."]
    assert shares([0.0, 0.0]) == [0, 0]
    assert shares([2.0, -4.0]) == [0.5, -1]
