"""The face of scikit-learn, with naive Bayes behind it."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

from mdlm_classify.calibration import LengthTemperature
from mdlm_classify.doubt import Familiar
from mdlm_core.errors import DataError

from .words_toy import BagClassifier, texts


def oracle():
    return make_pipeline(CountVectorizer(token_pattern=r"\S+"), MultinomialNB())


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "turned"])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_naive_bayes_whatever_the_order_of_the_model(classes, turned):
    X, y = texts(62, classes=classes)
    ours, theirs = BagClassifier(turned=turned).fit(X, y), oracle().fit(X, y)
    new, _ = texts(20, seed=1, classes=classes)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_allclose(
        ours.predict_log_proba(new), theirs.predict_log_proba(new), atol=1e-10
    )
    np.testing.assert_array_equal(ours.predict(new), theirs.predict(new))
    np.testing.assert_allclose(ours.log_prior_, theirs[-1].class_log_prior_, atol=1e-12)
    again = ours.log_posterior(ours.scores(new))
    np.testing.assert_allclose(again, ours.predict_log_proba(new), atol=1e-12)


def test_the_decision_of_two_classes_is_the_log_odds_of_the_second():
    X, y = texts(40, classes=2)
    model = BagClassifier().fit(X, y)
    log_p, decision = model.predict_log_proba(X), model.decision_function(X)
    np.testing.assert_allclose(decision, log_p[:, 1] - log_p[:, 0])
    np.testing.assert_array_equal(model.predict(X), model.classes_[1 * (decision > 0)])
    X, y = texts(40, classes=3)
    model = BagClassifier().fit(X, y)
    assert model.decision_function(X).shape == (40, 3)


def test_the_likelihood_of_a_text_is_that_of_the_mixture():
    X, y = texts(40)
    model = BagClassifier(turned=True).fit(X, y)
    each = np.stack([model.compute_nll(X, label) for label in model.classes_], 1)
    mixture = np.log((np.exp(-each) * np.exp(model.log_prior_)).sum(1))
    np.testing.assert_allclose(model.score_samples(X), mixture, atol=1e-9)
    assert model.compute_nll(X[3]) == pytest.approx(-mixture[3])
    assert model.compute_nll(X[3], "ships") == pytest.approx(each[3, 1])
    theirs = oracle().fit(X, y)
    joint = theirs[-1].predict_joint_log_proba(theirs[0].transform(X))
    np.testing.assert_allclose(
        model.log_prior_ - each, joint, atol=1e-9
    )  # what scikit-learn has is log p(x, c) of the words in order
    with pytest.raises(ValueError, match="'boats'"):
        model.compute_nll(X, "boats")


@pytest.mark.parametrize("labels", [[5, -3, 12], [True, False, True], ["a", "b", "ä"]])
def test_labels_come_back_in_their_own_type(labels):
    X, y = texts(60)
    names = sorted(set(y))
    mine = [labels[names.index(label)] for label in y]
    model = BagClassifier(turned=True).fit(X, mine)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    predicted = model.predict(X)
    assert predicted.dtype == np.unique(labels).dtype
    assert (predicted == np.array(mine)).mean() > 0.8
    assert model.score(X, mine) == (predicted == np.array(mine)).mean()


@pytest.mark.parametrize(
    "shape",
    [
        tuple,
        np.array,
        lambda X: np.array(X, dtype=object),
        pd.Series,
        lambda X: pd.DataFrame({"text": X}),
        lambda X: np.array(X)[:, None],
    ],
    ids=["tuple", "array", "objects", "series", "frame of a column", "column"],
)
def test_texts_come_in_any_shape_that_has_one_for_each_row(shape):
    X, y = texts(30)
    model = BagClassifier().fit(shape(X), y)
    expected = BagClassifier().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(model.predict_proba(shape(X)), expected)


WRONG = {
    "one text": (lambda X: X[0], ValueError, "in brackets"),
    "a number": (lambda X: [*X[:-1], 3.5], TypeError, r"X\[59\] is '3.5'"),
    "missing": (lambda X: [None, *X[1:]], TypeError, r"X\[0\] is 'None'"),
    "bytes": (lambda X: [b"a", *X[1:]], TypeError, "bytes"),
    "none": (lambda X: [], ValueError, "0 sample"),
    "two columns": (lambda X: np.array([X, X]).T, ValueError, "choose one column"),
    "a mapping": (lambda X: {"text": X}, TypeError, r"X\['text'\]"),
    "another number": (lambda X: X[1:], ValueError, "inconsistent"),
}


@pytest.mark.parametrize(("change", "error", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_list_of_texts_is_refused(change, error, words):
    X, y = texts(60)
    with pytest.raises(error, match=words):
        BagClassifier().fit(change(X), y)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "target y is None"),
        (["a"] * 60, "one class"),
        ([*["a", "b"] * 29, None, "a"], r"y\[58\] is missing"),
        ([*[1.0, 0.0] * 29, float("nan"), 1.0], r"y\[58\] is missing"),
        (np.linspace(0, 1, 60), "Unknown label type"),
        (np.zeros((60, 2)), "1d array"),
        (["a", 1] * 30, "several types|mix of"),
    ],
    ids=["none", "one class", "missing", "nan", "numbers", "two columns", "mixed"],
)
def test_what_are_no_labels_is_refused(labels, words):
    X, _ = texts(60)
    with pytest.raises((ValueError, TypeError), match=words):
        BagClassifier().fit(X, labels)


def test_a_text_without_a_known_word_gets_the_prior():
    X, y = texts(61)
    model = BagClassifier(calibrate=True, validation_fraction=0.3).fit(X, y)
    np.testing.assert_allclose(
        model.predict_proba(["", "nothing known"]),
        np.exp(model.log_prior_)[None].repeat(2, 0),
    )


def test_nothing_is_known_before_learning():
    for call in ("predict", "score_samples", "scores", "compute_nll"):
        with pytest.raises(NotFittedError):
            getattr(BagClassifier(), call)(["a"])
    for call in (
        lambda m: m.set_prior("uniform"),
        lambda m: m.recalibrate(["a"], ["b"]),
    ):
        with pytest.raises(NotFittedError):
            call(BagClassifier())


# ---- held-out texts and calibration ------------------------------------------


def test_the_share_held_out_is_not_learned_from():
    X, y = texts(60)
    model = BagClassifier(validation_fraction=0.2).fit(X, y)
    assert len(model.held_out_) == 12
    assert model.class_count_.tolist() == [16, 16, 16]
    same = BagClassifier(validation_fraction=0.2).fit(X, y)
    other = BagClassifier(validation_fraction=0.2, random_state=1).fit(X, y)
    assert model.held_out_ == same.held_out_ != other.held_out_


def test_texts_to_calibrate_on_may_be_given():
    X, y = texts(60)
    new, labels = texts(200, seed=3)
    new = [" ".join([text] * 3) for text in new]  # words that count three times
    plain = BagClassifier().fit(X, y)
    given = BagClassifier(calibrate=True).fit(X, y, validation=(new, labels))
    later = BagClassifier(turned=True).fit(X, y).recalibrate(new, labels)
    assert given.temperature_.a == pytest.approx(later.temperature_.a)
    assert given.temperature_.b == pytest.approx(later.temperature_.b)
    assert given.temperature_ != plain.temperature_
    np.testing.assert_array_equal(plain.predict(new), given.predict(new))
    chosen = [list(plain.classes_).index(label) for label in labels]
    rows = np.arange(len(labels))
    before = plain.predict_log_proba(new)[rows, chosen].mean()
    assert given.predict_log_proba(new)[rows, chosen].mean() > before
    with pytest.raises(ValueError, match=r"validation\[1\] has the label 'boats'"):
        BagClassifier().fit(X, y, validation=(["a"], ["boats"]))


def test_texts_of_a_class_that_cannot_be_do_not_calibrate():
    X, y = texts(60)
    new, labels = texts(200, seed=3)
    prior = {"food": 3, "ships": 1, "stars": 0}
    possible = [row for row, label in enumerate(labels) if label != "stars"]
    some = [new[row] for row in possible], [labels[row] for row in possible]
    given = BagClassifier(calibrate=True, prior=prior).fit(
        X, y, validation=(new, labels)
    )
    oracle = BagClassifier(prior=prior).fit(X, y).recalibrate(*some)
    assert given.temperature_ == oracle.temperature_ != LengthTemperature()
    stars = [new[row] for row in range(200) if row not in possible]
    with pytest.raises(DataError, match="each text with a token is of a class of pri"):
        given.recalibrate(stars, ["stars"] * len(stars))
    alone = BagClassifier(calibrate=True, prior=prior)
    alone.fit(X, y, validation=(stars, ["stars"] * len(stars)))
    assert alone.temperature_ == LengthTemperature()


def test_a_fit_learns_what_usual_texts_look_like():
    X, y = texts(60)
    new, labels = texts(50, seed=3)
    model = BagClassifier(calibrate=True).fit(
        X, y, validation=([*new, ""], [*labels, "food"])
    )
    log_prior = torch.from_numpy(model.log_prior_)
    expected = Familiar.fit(model.scores(new), log_prior)
    assert Familiar.from_dict(model._facts()["familiar"]) == expected
    assert "familiar" not in BagClassifier(calibrate=False).fit(X, y)._facts()
    model.calibrate = False
    assert "familiar" not in model.fit(X, y)._facts()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_holds_out_nothing_is_refused(share):
    with pytest.raises(ValueError, match="validation_fraction"):
        BagClassifier(validation_fraction=share).fit(*texts(30))


# ---- priors --------------------------------------------------------------------


def test_priors_by_name_and_by_number():
    X, y = texts(50)
    for prior, expected in {
        "empirical": [17 / 50, 17 / 50, 16 / 50],
        "uniform": [1 / 3] * 3,
    }.items():
        model = BagClassifier(prior=prior, turned=True).fit(X, y)
        np.testing.assert_allclose(np.exp(model.log_prior_), expected)
    given = {"food": 3, "ships": 1, "stars": 0}
    model = BagClassifier(prior=given, turned=True).fit(X, y)
    np.testing.assert_allclose(np.exp(model.log_prior_), [0.75, 0.25, 0])
    assert (model.predict_proba(X)[:, 2] == 0).all()
    with pytest.raises(ValueError, match="nan"):
        BagClassifier(prior={**given, "food": float("nan")}).fit(X, y)


def test_a_new_prior_goes_beside_the_temperature():
    X, y = texts(60)
    new, labels = texts(200, seed=3)
    model = BagClassifier(turned=True).fit(X, y).recalibrate(new, labels)
    before = model.predict_proba(new)
    model.set_prior({"food": 6, "ships": 3, "stars": 1})
    weighed = before * np.array([6, 3, 1]) * 3 / 10  # over 1/3 each
    weighed /= weighed.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(new), weighed, atol=1e-12)
    np.testing.assert_allclose(np.exp(model.log_prior_), [0.6, 0.3, 0.1])
    plain = BagClassifier().fit(X, y).set_prior({"food": 6, "ships": 3, "stars": 1})
    direct = BagClassifier(prior={"food": 6, "ships": 3, "stars": 1}).fit(X, y)
    np.testing.assert_allclose(plain.predict_proba(new), direct.predict_proba(new))


# ---- inside scikit-learn ---------------------------------------------------------


def test_it_works_where_classifiers_work():
    X, y = texts(90)
    lower = FunctionTransformer(lambda X: [text.lower() for text in X])
    upper = [text.upper() for text in X]
    assert make_pipeline(lower, BagClassifier()).fit(upper, y).score(upper, y) > 0.8
    assert cross_val_score(BagClassifier(), X, y, cv=3).mean() > 0.7
    together = cross_val_predict(BagClassifier(), X, y, cv=3, method="predict_proba")
    assert together.shape == (90, 3)
    search = GridSearchCV(BagClassifier(), {"prior": ["uniform", "empirical"]}, cv=3)
    assert search.fit(X, y).best_estimator_.prior in ("uniform", "empirical")
    calibrated = CalibratedClassifierCV(BagClassifier(), cv=3).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(1), 1)
    copy = pickle.loads(pickle.dumps(BagClassifier(turned=True).fit(X, y)))
    np.testing.assert_array_equal(
        copy.predict_proba(X), BagClassifier(turned=True).fit(X, y).predict_proba(X)
    )
    assert clone(BagClassifier(prior="uniform")).get_params()["prior"] == "uniform"
    tags = BagClassifier().__sklearn_tags__()
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array


class OfNumbers(BagClassifier):
    """Rows of numbers as texts, a word for each number in its column."""

    def _words(self, X):
        return [
            " ".join(
                f"{column}:{round(2 * float(value))}"
                for column, value in enumerate(row)
            )
            for row in X
        ]

    def fit(self, X, y=None, **more):
        if y is None:
            return super().fit(["a"], None)
        X, y = validate_data(self, X, y, multi_output=True)
        return super().fit(self._words(X), y, **more)

    def predict_log_proba(self, X):
        check_is_fitted(self)
        return super().predict_log_proba(
            self._words(validate_data(self, X, reset=False))
        )

    def score_samples(self, X):
        check_is_fitted(self)
        return super().score_samples(self._words(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        tags.input_tags.string = False
        return tags


def checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(estimator_checks_generator(OfNumbers()))


def test_scikit_learns_own_checks():
    """Every check of a classifier, on numbers that are written as words."""
    failed, passed = {}, 0
    for estimator, check in checks():
        name = getattr(check, "func", check).__name__
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check(estimator)
                passed += 1
            except BaseException as error:
                if type(error).__name__ not in ("SkipTest", "Skipped"):
                    failed[name] = f"{type(error).__name__}: {error}"
    assert not failed
    assert passed > 40


def test_scores_are_in_the_order_of_the_classes():
    X, y = texts(60)
    X, y = texts(60)
    plain = BagClassifier().fit(X, y).scores(X)
    turned = BagClassifier(turned=True).fit(X, y).scores(X)
    torch.testing.assert_close(plain.log_likelihood, turned.log_likelihood)


def test_a_prior_may_be_a_list_in_the_order_of_the_classes():
    X, y = texts(60)
    by_name = BagClassifier(prior={"food": 6, "ships": 3, "stars": 1}).fit(X, y)
    for weights in ([6, 3, 1], (0.6, 0.3, 0.1), np.array([6.0, 3.0, 1.0])):
        listed = BagClassifier(prior=weights).fit(X, y)
        np.testing.assert_allclose(np.exp(listed.log_prior_), [0.6, 0.3, 0.1])
        np.testing.assert_allclose(listed.predict_proba(X), by_name.predict_proba(X))
    moved = BagClassifier().fit(X, y).set_prior([6, 3, 1])
    np.testing.assert_allclose(np.exp(moved.log_prior_), [0.6, 0.3, 0.1])


@pytest.mark.parametrize("prior", [[0.5, 0.5], 0.5, None, [[0.2, 0.3, 0.5]], []])
def test_a_prior_of_another_shape_is_refused_by_name(prior):
    X, y = texts(60)
    with pytest.raises(ValueError, match="a list of 3 weights in the order of classes"):
        BagClassifier(prior=prior).fit(X, y)
