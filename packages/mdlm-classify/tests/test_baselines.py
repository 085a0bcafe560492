"""Baselines are what their names say."""

from __future__ import annotations

import math
import pickle
from collections import Counter

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from mdlm_classify.baselines import BASELINES, LogCountRatio, baseline
from mdlm_core.errors import UnknownNameError

TEXTS = [
    "good film good fun",
    "bad film no fun",
    "good good story",
    "bad bad story",
    "fun story film",
    "no good bad film",
]
TWO = np.array([1, 0, 1, 0, 1, 0])
THREE = np.array(["b", "a", "b", "a", "c", "c"])
COUNTS = np.array([[2.0, 0, 1], [0, 1, 1], [1, 0, 0], [0, 3, 1]])
CLASSES = np.array([1, 0, 1, 0])


def test_naive_bayes_counts_words_and_adds_one() -> None:
    model = baseline("nb").fit(TEXTS, THREE)
    vocabulary = {word for text in TEXTS for word in text.split()}
    query = ["good", "film", "film"]
    joint = []
    for label in "abc":
        own = [text for text, its in zip(TEXTS, THREE, strict=True) if its == label]
        count = Counter(word for text in own for word in text.split())
        total = sum(count.values()) + len(vocabulary)
        joint.append(
            math.log(len(own) / len(TEXTS))
            + sum(math.log((count[word] + 1) / total) for word in query)
        )
    posterior = np.exp(joint) / np.exp(joint).sum()
    found = model.predict_proba(["good film film unheard"])[0]
    np.testing.assert_allclose(found, posterior, rtol=1e-12)


def test_pairs_of_neighbours_are_counted() -> None:
    words = baseline("nb-pairs").fit(TEXTS, TWO)["words"].get_feature_names_out()
    assert {"good", "good film", "no fun"} <= set(words)
    assert "film good" in words  # "film good fun", in the order of the text
    assert "fun film" not in words


def test_ratio_is_that_of_the_paper() -> None:
    found = LogCountRatio().fit(COUNTS, CLASSES).log_ratio_
    p, q = [4.0, 1.0, 2.0], [1.0, 5.0, 3.0]  # one more than the counts
    expected = [
        math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_ratios_of_a_text_sum_to_the_log_odds_of_naive_bayes() -> None:
    bayes = MultinomialNB(fit_prior=False).fit(COUNTS, CLASSES)
    joint = bayes.predict_joint_log_proba(COUNTS)
    weighed = LogCountRatio().fit(COUNTS, CLASSES).transform(COUNTS)
    np.testing.assert_allclose(weighed.sum(1), joint[:, 1] - joint[:, 0], rtol=1e-12)


def test_ratio_of_sparse_counts_is_sparse() -> None:
    rows = sparse.csr_array(COUNTS)
    found = LogCountRatio().fit(rows, CLASSES).transform(rows)
    assert sparse.issparse(found)
    dense = LogCountRatio().fit_transform(COUNTS, CLASSES)
    np.testing.assert_allclose(found.toarray(), dense, rtol=1e-12)


@pytest.mark.parametrize(
    ("counts", "classes", "alpha", "says"),
    [
        (COUNTS, [0, 1, 2, 0], 1.0, "3 classes"),
        (-COUNTS, CLASSES, 1.0, "Negative values"),
        (COUNTS, CLASSES, 0.0, "alpha is 0.0"),
    ],
)
def test_ratio_refuses(
    counts: np.ndarray, classes: list[int], alpha: float, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        LogCountRatio(alpha).fit(counts, classes)


def test_nb_lr_weighs_presence_by_ratio_one_class_against_the_rest() -> None:
    model = baseline("nb-lr").fit(TEXTS, THREE)
    rows = model["words"].transform(TEXTS).toarray().astype(float)
    assert set(np.unique(rows)) == {0.0, 1.0}  # "good" twice is still 1
    odds = []
    for label in "abc":
        own = rows[label == THREE].sum(0) + 1
        rest = rows[label != THREE].sum(0) + 1
        ratio = np.log(own / own.sum()) - np.log(rest / rest.sum())
        linear = LogisticRegression(C=1.0).fit(rows * ratio, label == THREE)
        odds.append(linear.predict_proba(rows * ratio)[:, 1])
    expected = np.array(odds).T
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(TEXTS), expected, rtol=1e-3)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_learn_are_cloned_and_pickled(name: str) -> None:
    model = clone(baseline(name)).fit(
        TEXTS * 2, np.where(TWO, "yes", "no").tolist() * 2
    )
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict(["good good", "bad bad"]) == ["yes", "no"]).all()
    np.testing.assert_allclose(again.predict_proba(TEXTS).sum(1), 1)


def test_unknown_baseline_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'nb-lr'"):
        baseline("nb-rl")
    with pytest.raises(UnknownNameError, match="use nb, nb-pairs"):
        baseline("forest")
