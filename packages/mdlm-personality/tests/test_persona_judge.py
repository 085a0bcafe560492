"""The judge is Bayes' rule under the law of the corpus."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

from mdlm_core.kernels.noise import Noise
from mdlm_personality.config import PersonaCorpusConfig
from mdlm_personality.data.corpus import draw_persons, persona_corpus
from mdlm_personality.data.judge import count_words, judge
from mdlm_personality.data.lexicon import COLUMNS

E = COLUMNS.index("extraversion")


def text_of(high, low, words=("dancing", "reading")):
    return " ".join([words[0]] * high + [words[1]] * low)


@pytest.mark.parametrize("effect", [0.5, 8.0, 40.0])
@pytest.mark.parametrize(("high", "low"), [(1, 0), (0, 2), (3, 1), (2, 2), (9, 4)])
def test_traits_against_numerical_integration(effect, high, low):
    def likelihood(v):
        p = expit(effect * (v - 0.5))
        return p**high * (1 - p) ** low

    def integral(f, a, b):
        return quad(f, a, b, epsabs=1e-13, points=[0.5])[0]

    found = judge([text_of(high, low)], effect=effect)
    total = integral(likelihood, 0, 1)
    mean = integral(lambda v: v * likelihood(v), 0, 1) / total
    above = quad(likelihood, 0.5, 1, epsabs=1e-13)[0]
    below = quad(likelihood, 0, 0.5, epsabs=1e-13)[0]
    assert found.mean[0, E] == pytest.approx(mean, abs=1e-8)
    assert found.log_odds[0, E] == pytest.approx(np.log(above / below), abs=1e-6)


@pytest.mark.parametrize(("high", "low"), [(1, 0), (1, 3)])
def test_labels_against_drawn_persons(high, low):
    """The prior of a label is the law of the planted equations."""
    values = draw_persons(60_000, Noise(2))[:, COLUMNS.index("outings")]
    p = expit(8 * (values - 0.5))
    weights = p**high * (1 - p) ** low
    mean = (weights * values).sum() / weights.sum()
    above = weights[values > 0.5].sum() / weights[values < 0.5].sum()
    found = judge([text_of(high, low, ("hikes", "naps"))])
    place = COLUMNS.index("outings")
    assert found.mean[0, place] == pytest.approx(mean, abs=5e-3)
    assert found.log_odds[0, place] == pytest.approx(np.log(above), abs=0.06)


def test_sure_of_itself_as_often_as_it_is_right():
    """Over persons drawn from the prior, E[value | words] is the posterior mean."""
    corpus = persona_corpus(PersonaCorpusConfig(authors=1500, sentences=12))
    found = judge(corpus.texts)
    values, means = corpus.values[:, :5].ravel(), found.mean[:, :5].ravel()
    slope, intercept = np.polyfit(means, values, 1)
    assert slope == pytest.approx(1, abs=0.03)
    assert intercept == pytest.approx(0, abs=0.02)
    chance = expit(found.log_odds[:, :5].ravel())
    for low in np.arange(0, 1, 0.2):
        here = (chance >= low) & (chance < low + 0.2)
        if here.sum() > 100:
            right = (values[here] > 0.5).mean()
            error = 4 * np.sqrt(0.25 / here.sum())
            assert right == pytest.approx(chance[here].mean(), abs=error)


def test_counts_words_of_any_case_in_any_text():
    high, low = count_words(
        ["Dancing, DANCING; (reading)... ?", "", "tables and chairs", "undancing"]
    )
    assert high[0, E] == 2
    assert low[0, E] == 1
    assert high.sum() == 2
    assert low.sum() == 1


def test_no_word_no_opinion():
    found = judge(["I like chairs.", text_of(1, 1)])
    assert np.isnan(found.mean[0]).all()
    assert np.isnan(found.log_odds[0]).all()
    assert found.mean[1, E] == pytest.approx(0.5)
    assert found.log_odds[1, E] == 0.0
    assert np.isnan(found.mean[1, [0, 1, 3, 4]]).all()


def test_a_hundred_words_are_no_trouble():
    found = judge([text_of(300, 0), text_of(0, 300)], effect=200.0)
    assert np.isfinite(found.mean[:, E]).all()
    assert found.log_odds[0, E] > 100 > -100 > found.log_odds[1, E]


def test_no_texts_no_rows():
    assert judge([]).mean.shape == (0, len(COLUMNS))
