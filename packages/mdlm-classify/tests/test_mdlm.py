"""`MDLMClassifier`: learning, files, pickle, and a class that comes later."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import MultinomialNB
from sklearn.utils import estimator_checks

from mdlm_classify import (
    CausalLMClassifier,
    DiscriminativeClassifier,
    MDLMClassifier,
    SimpleMaskedDiffusion,
    load_classifier,
)
from mdlm_classify.calibrating import calibrate
from mdlm_classify.data.split import holdout
from mdlm_core.data.source import check_request
from mdlm_core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    UnknownNameError,
    UsageError,
)

from .words_toy import texts

SMALL = {
    "data.min_count": 1,
    "model.blocks": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.cond_width": 8,
    "task.eval_rows": 8,
    "task.eval_draws": 2,
    "task.sample_count": 0,
    "train.ema": 0.0,
    "train.eval_start": False,
    "train.lr": 1e-2,
}
AT_THE_START = {"train.epochs": 0, "train.steps": 1, "train.lr": 1e-12}


def small(more=None, **given):
    settings = {**SMALL, **(more or {})}
    scoring = {"rule": "fixed"}
    return MDLMClassifier(
        **{"length": 32, "epochs": 2, "draws": 4, "scoring": scoring, **given},
        settings=settings,
    )


X, Y = texts(90)
NEW, LABELS = texts(40, seed=5)
OTHERS = [number for number, label in enumerate(Y) if label != "ships"]
SHIPS = [number for number, label in enumerate(Y) if label == "ships"]


def pick(rows):
    return [X[row] for row in rows], [Y[row] for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("classify") / "run"


@pytest.fixture(scope="module")
def trained(folder):
    return small(out=folder).fit(X, [3 if y == "food" else len(y) * 2 for y in Y])


def test_before_it_learns_it_is_naive_bayes():
    model = small(AT_THE_START, calibrate=False, validation_fraction=0).fit(X, Y)
    tokenizer = model.model_.tokenizer

    def counts(given):
        found = np.zeros((len(given), tokenizer.vocab_size - 1))
        for row, text in enumerate(given):
            np.add.at(found[row], tokenizer.encode(text), 1)
        return found

    assert tokenizer.mask_id == tokenizer.vocab_size - 1
    oracle = MultinomialNB().fit(counts(X), Y)
    np.testing.assert_allclose(
        model.predict_log_proba(NEW), oracle.predict_log_proba(counts(NEW)), atol=1e-5
    )
    joint = oracle.predict_joint_log_proba(counts(NEW))
    np.testing.assert_allclose(
        model.score_samples(NEW), np.logaddexp.reduce(joint, 1), rtol=1e-5
    )


def test_it_learns(trained):
    labels = [3 if y == "food" else len(y) * 2 for y in LABELS]
    assert trained.classes_.tolist() == [3, 10]
    assert trained.predict(NEW).dtype.kind == "i"
    assert trained.score(NEW, labels) > 0.75
    assert trained.trained_.config.seed == 0
    assert trained.trained_.config.data.config.labels == ("3", "10")


def test_scores_depend_neither_on_the_batch_nor_on_the_order(trained):
    together = trained.predict_log_proba(NEW)
    turned = trained.predict_log_proba(NEW[::-1])[::-1]
    alone = np.concatenate([trained.predict_log_proba([text]) for text in NEW[:5]])
    np.testing.assert_allclose(together, turned, atol=1e-5)
    np.testing.assert_allclose(together[:5], alone, atol=1e-5)


def test_the_same_seed_makes_the_same_classifier(trained, tmp_path):
    labels = [3 if y == "food" else len(y) * 2 for y in Y]
    again = small(random_state=0).fit(X, labels)
    np.testing.assert_array_equal(again.predict_proba(NEW), trained.predict_proba(NEW))
    other = small(random_state=np.random.RandomState(3)).fit(X, labels)
    assert other.trained_.config.seed == other.seed_ not in (0, 3)
    assert np.abs(other.predict_proba(NEW) - trained.predict_proba(NEW)).max() > 1e-4


def test_a_missing_token_counts_for_nothing(trained):
    np.testing.assert_allclose(
        trained.log_posterior(trained.scores(["____{7}", ""], gaps=True)),
        trained.log_prior_[None].repeat(2, 0),
    )
    assert trained.scores(["bread ____ soup"], gaps=True).tokens.tolist() == [2]
    with_null = trained.scores(NEW[:3], null=True)
    assert with_null.null is not None
    torch.testing.assert_close(
        with_null.log_likelihood, trained.scores(NEW[:3]).log_likelihood
    )


def held_out_of(trained, other):
    """Return the texts that the run held out, as ids, and their classes."""
    labels = [3 if y == "food" else len(y) * 2 for y in Y]
    _, rows = holdout([str(label) for label in labels], 0.1, trained.seed_)
    codes = [other.model_.labels.index(str(labels[row])) for row in rows]
    return other.model_.documents([X[row] for row in rows]), torch.tensor(codes)


# ---- files -----------------------------------------------------------------------


def test_it_comes_back_from_its_folder_and_from_pickle(trained, folder, tmp_path):
    expected = trained.predict_proba(NEW)
    place = trained.save(tmp_path / "copy")
    copies = [
        load_classifier(folder),
        load_classifier(str(place)),
        MDLMClassifier.load(place, device="cpu"),
        pickle.loads(pickle.dumps(trained)),
    ]
    for copy in copies:
        assert type(copy) is MDLMClassifier
        np.testing.assert_array_equal(copy.predict_proba(NEW), expected)
        np.testing.assert_array_equal(copy.classes_, trained.classes_)
        assert copy.temperature_ == trained.temperature_
        assert copy.prior == "empirical"
        assert copy.model_.scoring == trained.model_.scoring
        assert copy.class_count_.tolist() == trained.class_count_.tolist()
        assert copy.score_samples(NEW) == pytest.approx(trained.score_samples(NEW))
    with pytest.raises(UsageError, match="not empty"):
        trained.save(tmp_path / "copy")


def test_a_fit_knows_usual_texts_as_the_command_does(trained, folder):
    facts = json.loads((folder / "classifier.json").read_text())
    assert facts["familiar"]["ratio"]["mean"] > 0  # against text of no class
    again = load_classifier(folder)
    found = calibrate(again, *held_out_of(trained, again))
    assert found.to_dict()["familiar"] == facts["familiar"]
    assert again.temperature_ == trained.temperature_


def test_a_new_prior_is_kept_in_the_folder(trained, tmp_path):
    copy = pickle.loads(pickle.dumps(trained)).set_prior({3: 0.9, 10: 0.1})
    back = load_classifier(copy.save(tmp_path / "run"))
    np.testing.assert_allclose(back.predict_proba(NEW), copy.predict_proba(NEW))
    assert back.prior == pytest.approx({3: 0.9, 10: 0.1})


def test_a_run_without_a_card_is_a_classifier_too(trained, folder, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(folder, place)
    (place / "classifier.json").unlink()
    found = load_classifier(place, checkpoint="last", weights="raw")
    assert found.classes_.tolist() == ["10", "3"]  # in the order of text
    assert found.model_.labels == ("3", "10")
    assert found.class_count_.tolist() == trained.class_count_[::-1].tolist()
    best = load_classifier(place)
    best.model_.temperature = trained.temperature_
    best.model_.scoring = trained.model_.scoring
    np.testing.assert_allclose(
        best.predict_proba(NEW)[:, ::-1], trained.predict_proba(NEW), atol=1e-9
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[:20], "cannot be read"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format 2"),
        (lambda text: text.replace('"mdlm"', '"ddpm"'), "kind 'ddpm'"),
        (lambda text: text.replace('"labels"', '"names"'), "labels"),
        (lambda text: text.replace('"10"', '"11"'), "do not go together"),
    ],
)
def test_a_damaged_card_is_said(trained, tmp_path, change, words):
    place = trained.save(tmp_path / "run")
    card = place / "classifier.json"
    card.write_text(change(card.read_text()))
    with pytest.raises(CheckpointError, match=words):
        load_classifier(place)


def test_texts_from_memory_are_not_taken_for_others(folder):
    from mdlm_core.train.runs import load_run

    run = load_run(folder)
    with pytest.raises((DataError, ConfigError), match="given in memory"):
        run.source.size("train")
    check_request("train", 1, 0, 0, 1)


# ---- a class that comes later ------------------------------------------------------


@pytest.mark.parametrize("per_class", [False, True], ids=["one model", "per class"])
def test_a_new_class_leaves_the_others_as_they_are(per_class):
    model = small(per_class=per_class, calibrate=False).fit(*pick(OTHERS))
    before = model.scores(NEW).log_likelihood
    old = {k: v.clone() for k, v in model.trained_.module.state_dict().items()}
    held = model.trained_.module
    model.partial_fit(*pick(SHIPS))
    assert model.classes_.tolist() == ["food", "ships", "stars"]
    assert model.model_.labels == ("food", "stars", "ships")
    after = model.scores(NEW).log_likelihood[:, [0, 2]]
    torch.testing.assert_close(after, before, rtol=1e-6, atol=0)
    for name, value in model.trained_.module.state_dict().items():
        if name in old and value.is_floating_point() and "log_prior" not in name:
            first = tuple(slice(0, size) for size in old[name].shape)
            assert torch.equal(value[first], old[name]), name
    assert model.score(NEW, LABELS) > 0.8
    assert model.class_count_.tolist() == [27, 27, 27]
    np.testing.assert_allclose(np.exp(model.log_prior_), [1 / 3] * 3)
    assert all(torch.equal(v, old[k]) for k, v in held.state_dict().items())


def smoothed_nll(model, found):
    """Return -log p of texts by their own counts, smoothed by those of others."""
    tokenizer = model.model_.tokenizer
    others = np.ones(tokenizer.vocab_size - 1)
    for text in pick(OTHERS)[0]:
        np.add.at(others, tokenizer.encode(text), 1)
    mine = np.zeros_like(others)
    for text in found:
        np.add.at(mine, tokenizer.encode(text), 1)
    law = mine + len(others) * others / others.sum()
    law /= law.sum()
    return [-np.log(law[tokenizer.encode(text)]).sum() for text in found]


def test_what_is_new_is_also_trained():
    at_start = small(AT_THE_START, epochs=None, calibrate=False, validation_fraction=0)
    still = at_start.fit(*pick(OTHERS))
    moved = pickle.loads(pickle.dumps(still))
    still.partial_fit(*pick(SHIPS))
    object.__setattr__(moved.trained_.config.train, "lr", 3e-2)
    moved.partial_fit(*pick(SHIPS), epochs=20)
    ships = pick(SHIPS)[0]
    np.testing.assert_allclose(
        still.compute_nll(ships, "ships"), smoothed_nll(still, ships), rtol=1e-5
    )
    gained = still.compute_nll(ships, "ships") - moved.compute_nll(ships, "ships")
    assert gained.mean() > 0.05
    np.testing.assert_allclose(
        still.compute_nll(ships, "food"), moved.compute_nll(ships, "food"), rtol=1e-6
    )


def test_known_classes_learn_on():
    model = small(calibrate=False).fit(X, Y)
    before = model.scores(NEW).log_likelihood
    model.partial_fit(X, Y, classes=["food", "ships", "stars"], epochs=1)
    assert not torch.equal(model.scores(NEW).log_likelihood, before)
    assert model.class_count_.sum() == 81 + 90


def test_a_new_class_goes_through_a_folder(tmp_path):
    prior = {"food": 1, "stars": 3}
    model = small(prior=prior, calibrate=False).fit(*pick(OTHERS))
    back = load_classifier(model.save(tmp_path / "two"))
    back.train_on_class_data(pick(SHIPS)[0], "ships")
    np.testing.assert_allclose(
        np.exp(back.log_prior_), [0.25 * 2 / 3, 1 / 3, 0.75 * 2 / 3]
    )
    again = load_classifier(back.save(tmp_path / "three"))
    np.testing.assert_array_equal(again.predict_proba(NEW), back.predict_proba(NEW))
    assert json.loads((tmp_path / "three" / "classifier.json").read_text())[
        "labels"
    ] == ["food", "stars", "ships"]


def test_learning_on_refuses_what_it_cannot_use(trained):
    with pytest.raises(ValueError, match="no text in the first call"):
        small().partial_fit(X, Y, classes=[*set(Y), "planes"])
    with pytest.raises(ValueError, match="label 'ships'"):
        small().partial_fit(X, Y, classes=["food", "stars"])
    with pytest.raises(ValueError, match="each of these classes is known"):
        trained.partial_fit(X[:2], [3, 3], learn="new")
    with pytest.raises(ValueError, match="several types"):
        trained.partial_fit(X[:2], ["a", "b"])
    with pytest.raises(DataError, match="none of the 2 texts has a token"):
        trained.partial_fit(["", ""], [5, 6])
    assert trained.classes_.tolist() == [3, 10]


# ---- parameters --------------------------------------------------------------------


CHECKS = [
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_mixin_order,
    estimator_checks.check_valid_tag_types,
    estimator_checks.check_estimator_tags_renamed,
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
]


@pytest.mark.parametrize(
    "kind",
    [
        MDLMClassifier,
        SimpleMaskedDiffusion,
        CausalLMClassifier,
        DiscriminativeClassifier,
    ],
)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_parameters_are_as_scikit_learn_wants_them(kind, check):
    check(kind.__name__, kind())


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"more": {"train.lrr": 1}}, ConfigError, "lrr"),
        ({"scoring": {"draws": 3}}, UnknownNameError, "no setting 'draws'"),
        ({"draws": 1}, ConfigError, "start_draws"),
        ({"prior": {"food": 1}}, ValueError, "lacks"),
        ({"device": "tpu"}, UsageError, "tpu"),
        ({"tokenizer": "words:many"}, ConfigError, "words:<n>"),
    ],
)
def test_a_wrong_parameter_is_said(given, error, words):
    model = small(**given)
    with pytest.raises(error, match=words):
        model.fit(X, Y)
    assert not hasattr(model, "trained_")  # it was said before anything was learned


# ---- repeated texts ----------------------------------------------------------------


def untrained(more=None):
    settings = {**AT_THE_START, **(more or {})}
    return small(settings, epochs=None, calibrate=False)


def test_a_text_that_stands_twice_counts_once():
    many = [*X, *(X[row] for row in SHIPS for _ in range(3))]
    model = untrained().fit(many, [*Y, *(["ships"] * (3 * len(SHIPS)))])
    plain = untrained().fit(X, Y)
    assert model.class_count_.tolist() == plain.class_count_.tolist() == [27, 27, 27]
    np.testing.assert_array_equal(model.predict_proba(NEW), plain.predict_proba(NEW))
    dropped = model.trained_.data["dropped_before_division"]
    assert dropped == {"also_held_out": 0, "repeated": 90, "contradictory": 0}


def test_a_class_of_copies_is_learned():
    food = [X[row] for row in OTHERS if Y[row] == "food"]
    labels = ["food"] * len(food) + ["ships"] * 20
    model = untrained().fit([*food, *["all hands"] * 20], labels)
    assert model.class_count_.tolist() == [27, 1]


def test_the_classes_are_counted_after_rows_are_chosen():
    assert untrained({"data.rows": 9}).fit(X, Y).class_count_.tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("given", "labels", "words"),
    [
        (["good day", "bad day"] * 20, ["a", "b"] * 20, "one of each class.*`validat"),
        (["good day", "bad day", "Good day!"], ["a", "a", "b"], "class 'b' stands"),
    ],
)
def test_repetitions_that_leave_too_little_are_said(given, labels, words):
    with pytest.raises(DataError, match=words):
        small().fit(given, labels)


def test_what_identifies_the_data_is_kept_without_a_folder():
    model = untrained().fit(*pick(OTHERS))
    assert model.trained_.data["splits"]["train"]["texts"] == 54
    model.partial_fit(*pick(SHIPS))
    assert model.trained_.data["later"][0]["texts"] == 27
