"""The invented persons follow the law that is said of them. K columns, N persons."""

import re
from itertools import pairwise

import networkx
import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.linear_model import LogisticRegression

from mdlm_core.kernels.noise import Noise
from mdlm_personality.config import PersonaCorpusConfig
from mdlm_personality.config.data import TIERS
from mdlm_personality.data.corpus import draw_persons, persona_corpus, write_texts
from mdlm_personality.data.lexicon import COLUMNS, LABEL_TIERS, MEANING
from mdlm_personality.data.planted import (
    NOISE,
    PLANTED_EFFECTS,
    planted_adjacency,
    planted_total_effects,
)
from mdlm_personality.traits import TRAITS

TIER = dict.fromkeys(TRAITS, "personality") | LABEL_TIERS


@pytest.fixture(scope="module")
def persons():
    return draw_persons(6000, Noise(1))


@pytest.fixture(scope="module")
def corpus():
    return persona_corpus(PersonaCorpusConfig(authors=300, sentences=36))


def told(text):
    """The (column, side) of each word of each sentence of a text."""
    return [
        [MEANING[w] for w in re.findall("[a-z]+", s.lower()) if w in MEANING]
        for s in text.split(".")
        if s.strip()
    ]


def test_effects_go_to_later_tiers():
    for parent, child in PLANTED_EFFECTS:
        assert TIERS.index(TIER[parent]) < TIERS.index(TIER[child])
        assert COLUMNS.index(parent) < COLUMNS.index(child)


def test_traits_are_uniform_and_independent(persons):
    for column in range(5):
        assert kstest(persons[:, column], "uniform").pvalue > 1e-3
    correlations = np.corrcoef(persons[:, :5], rowvar=False) - np.eye(5)
    assert np.abs(correlations).max() < 0.05


def test_labels_follow_the_planted_equations(persons):
    for child in range(5, len(COLUMNS)):
        parents = persons[:, :child]
        design = np.column_stack([parents - 0.5, np.ones(len(parents))])
        found, *_ = np.linalg.lstsq(design, persons[:, child] - 0.5, rcond=None)
        left = persons[:, child] - 0.5 - design @ found
        np.testing.assert_allclose(
            found[:-1], planted_adjacency()[:child, child], atol=0.06
        )
        assert abs(found[-1]) < 0.01
        assert left.std() == pytest.approx(NOISE, rel=0.05)


def test_total_effects_are_sums_over_paths():
    graph = networkx.DiGraph()
    graph.add_weighted_edges_from((a, b, w) for (a, b), w in PLANTED_EFFECTS.items())
    found = planted_total_effects()
    for i, cause in enumerate(COLUMNS):
        for j, effect in enumerate(COLUMNS):
            paths = (
                networkx.all_simple_paths(graph, cause, effect) if i != j else [[cause]]
            )
            expected = sum(
                np.prod([graph[a][b]["weight"] for a, b in pairwise(path)])
                for path in paths
            )
            assert found[i, j] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("column", "effect"), [("extraversion", 8.0), ("trust", 3.0)])
def test_log_odds_of_words_are_the_planted_ones(persons, effect, column):
    """A logistic regression of the side of a word on the value finds the effect."""
    texts = write_texts(
        persons[:2000], sentences=24, effect=effect, labels=True, noise=Noise(5)
    )
    of = COLUMNS.index(column)
    pairs = [
        (value - 0.5, side)
        for value, text in zip(persons[:2000, of], texts, strict=True)
        for sentence in told(text)
        for name, side in sentence
        if name == column
    ]
    values, sides = np.array(pairs).T
    model = LogisticRegression(C=np.inf).fit(values[:, None], sides)
    assert model.coef_[0, 0] == pytest.approx(effect, rel=0.08)
    assert abs(model.intercept_[0]) < 0.12


def test_pairs_are_chosen_without_looking_at_the_person(corpus):
    high = corpus.values[:, 2] > 0.5
    share = [
        np.mean(["danc" in t or "reading" in t for t in np.array(corpus.texts)[side]])
        for side in (high, ~high)
    ]
    assert share[0] == pytest.approx(share[1], abs=0.15)


def test_rounds_cover_the_traits_and_labels_take_turns(corpus):
    for text in corpus.texts[:50]:
        sentences = told(text)
        assert len(sentences) == 36
        topics = [sentence[0][0] for sentence in sentences]
        for start in range(0, 36, 6):
            names = topics[start : start + 6]
            assert set(TRAITS) < set(names)
            assert len(set(names)) == 6
        labels = [topic for topic in topics if topic in LABEL_TIERS]
        assert set(labels[:5]) == set(LABEL_TIERS)


def test_a_sentence_tells_one_column_with_two_words_of_different_pairs(corpus):
    from mdlm_personality.data.lexicon import pairs_of

    pair = {
        word: (column, number)
        for column in COLUMNS
        for number, both in enumerate(pairs_of(column))
        for word in both
    }
    for text in corpus.texts[:100]:
        for sentence in text.split("."):
            words = re.findall("[a-z]+", sentence.lower())
            found = [pair[word] for word in words if word in pair]
            if words:
                assert len(set(found)) == len(found) == 2
                assert len({column for column, _ in found}) == 1
                assert 4 <= len(words) <= 9


def test_the_seed_decides_and_a_person_does_not_depend_on_the_others(corpus):
    config = PersonaCorpusConfig(authors=20, sentences=36)
    few = persona_corpus(config)
    assert few.texts == corpus.texts[:20]
    np.testing.assert_array_equal(few.values, corpus.values[:20])
    other = persona_corpus(PersonaCorpusConfig(authors=20, sentences=36, seed=1))
    assert not set(other.texts) & set(few.texts)


def test_without_labels_there_are_the_traits_alone():
    found = persona_corpus(PersonaCorpusConfig(authors=30, sentences=10, labels=False))
    assert found.columns == TRAITS
    assert found.values.shape == (30, 5)
    assert not found.tiers
    topics = {name for text in found.texts for s in told(text) for name, _ in s}
    assert topics == set(TRAITS)


def test_missing_values_are_not_told_and_change_no_text(corpus):
    config = PersonaCorpusConfig(authors=300, sentences=36, missing=0.3)
    found = persona_corpus(config)
    assert found.texts == corpus.texts
    gone = np.isnan(found.values)
    assert gone.mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(found.values[~gone], corpus.values[~gone])


def test_an_effect_of_zero_tells_nothing():
    config = PersonaCorpusConfig(authors=400, sentences=30, effect=0.0)
    sides = [
        side
        for text in persona_corpus(config).texts
        for sentence in told(text)
        for _, side in sentence
    ]
    assert np.mean(sides) == pytest.approx(0.5, abs=0.02)
