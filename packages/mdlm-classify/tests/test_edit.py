"""Edits toward a class: what changes, what stays, and what is said of it."""

from dataclasses import replace

import pytest
import torch

from mdlm_classify.attribution import explain
from mdlm_classify.config.editing import EditSettings
from mdlm_classify.edit import edit
from mdlm_classify.filling import fill_in, posterior_of_prompt
from mdlm_core.errors import ConfigError, DataError, UnknownNameError, UsageError

from .predictor_toy import TEXT, predictor

TWO = ("negative", "positive")
SAD = "The film was  bad, the plot is poor. A poor film!"
EAGER = EditSettings(threshold=0.8, budget=0.6, draws=4)


def of(model, text, label):
    posterior = model.log_posterior(model.scores([text]))[0].exp()
    return float(posterior[model.labels.index(label)])


def test_the_words_against_the_class_are_replaced():
    model = predictor(labels=TWO, context=0, length=16)
    found = edit(model, SAD, "positive", settings=EAGER)
    assert found.reached
    assert found.label_before == "negative"
    assert found.label_after == "positive"
    assert {change.before for change in found.changes} <= {"bad", "poor"}
    assert {change.after for change in found.changes} <= {"good", "fine"}
    assert found.after.startswith("The film was  ")
    assert found.after.endswith(" film!")
    assert found.words == 11


@pytest.mark.parametrize("per_class", [False, True])
def test_what_is_said_of_it_is_true(per_class):
    model = predictor(labels=TWO, length=5, max_draws=8, per_class=per_class)
    found = edit(model, SAD, "positive", settings=EAGER)
    assert found.posterior_before == of(model, SAD, "positive")
    assert found.posterior_after == of(model, found.after, "positive")
    assert found.reached == (found.posterior_after >= 0.8)
    assert found.posterior_after > found.posterior_before
    encode = model.tokenizer.encode
    before, after = encode(SAD), encode(found.after)
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == len(found.changes)
    assert 0 < len(found.changes) <= round(0.6 * found.words)
    assert edit(model, SAD, "positive", settings=EAGER) == found
    other = edit(model, SAD, "positive", settings=replace(EAGER, seed=1))
    assert other.posterior_before == found.posterior_before


def test_every_evaluation_is_counted():
    model = predictor(labels=TWO, max_draws=8, control=0.0)
    rows = []
    trunk = model.backbone.hidden

    def hidden(batch, t=None):
        rows.append(len(batch))
        return trunk(batch, t)

    model.backbone.hidden = hidden
    found = edit(model, SAD, "positive", settings=EAGER)
    assert found.evaluations == sum(rows)
    assert found.rounds > 0
    rows.clear()
    assert explain(model, TEXT).evaluations == sum(rows)


def test_a_text_of_the_class_stays_as_it_is():
    model = predictor(labels=TWO, context=0)
    text = "a good  good good FINE film"
    found = edit(model, text, "positive", settings=EAGER)
    assert (found.after, found.changes, found.rounds) == (text, (), 0)
    assert found.reached


def test_what_is_no_better_is_not_taken():
    model = predictor(labels=TWO, context=0)
    text = "good good good"
    settings = EditSettings(threshold=1.0, budget=1.0, draws=2)
    found = edit(model, text, "positive", settings=settings)
    assert (found.after, found.changes) == (text, ())
    assert found.rounds > 1
    assert not found.reached


def test_the_budget_is_kept_and_failure_is_said():
    model = predictor(labels=TWO, context=0, length=16)
    text = "bad " * 9 + "film"
    settings = EditSettings(threshold=0.99, budget=0.2, draws=2)
    found = edit(model, text, "positive", settings=settings)
    assert not found.reached
    assert len(found.changes) == 2
    assert found.label_after == "negative"


def test_what_cannot_be_edited():
    model = predictor()
    for text in ("", "...", " , "):
        with pytest.raises(DataError, match="no word that could be changed"):
            edit(model, text, "positive")
    with pytest.raises(UnknownNameError, match="Classes: negative, neutral, positive"):
        edit(model, TEXT, "happy")
    for name, value in {
        "threshold": 0.0,
        "budget": 1.5,
        "step": -0.1,
        "candidates": 0,
        "draws": 1,
        "guidance": float("inf"),
    }.items():
        with pytest.raises(ConfigError, match=f"edit.{name} is {value}"):
            EditSettings(**{name: value})


def test_gaps_are_filled_under_the_class_of_what_is_known():
    model = predictor(labels=TWO, context=0, length=16)
    prompt = "the film was ____{2} , bad and poor"
    found = fill_in(model, prompt, num=3)
    assert found.label == "negative"
    assert len(set(found.texts)) > 1
    assert all(text.startswith("the film was") for text in found.texts)
    known = of(model, "the film was , bad and poor", "negative")
    scores = model.scores(["the film was ____{2} , bad and poor"], gaps=True)
    posterior = model.log_posterior(scores)[0].exp()
    torch.testing.assert_close(found.posterior, posterior)
    assert float(posterior[0]) == pytest.approx(known, abs=1e-6)  # no context
    assert fill_in(model, prompt, label="positive").label == "positive"


def test_prompts_that_do_not_fit():
    model = predictor()
    with pytest.raises(UsageError, match="takes 4 positions, but the canvas has 2"):
        posterior_of_prompt(model, "the film was bad", length=2)
    empty = posterior_of_prompt(model, "", length=4)
    torch.testing.assert_close(empty, model.log_prior.exp())
