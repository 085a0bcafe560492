"""Models are compared on the same texts, each against the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score, log_loss

from mdlm_classify.baselines import BASELINES, baseline
from mdlm_classify.candidates import CANDIDATES, Wanted, check, make
from mdlm_classify.data.texts import LabelledTexts
from mdlm_classify.side_by_side import compare, takes_unlabelled
from mdlm_core.catalog import load_catalog
from mdlm_core.errors import ConfigError, DataError, UnknownNameError, UsageError

SMOOTH = ["a fine film", "good fun", "a good story", "fine and good"]
ROUGH = ["a dull film", "bad noise", "a bad story", "dull and bad"]


def texts(*pairs: tuple[str, str]) -> LabelledTexts:
    return LabelledTexts(
        tuple(text for text, _ in pairs),
        tuple(label for _, label in pairs),
        tuple(f"line {number}" for number in range(1, len(pairs) + 1)),
    )


TRAIN = texts(*((x, "up") for x in SMOOTH), *((x, "down") for x in ROUGH))
TEST = texts(
    ("good film", "up"),
    ("bad film", "down"),
    ("fine story", "up"),
    ("good good noise", "down"),
    ("dull", "down"),
    ("fun", "up"),
)


class Says(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Says the same of every text, whatever it learned from."""

    fits = 0

    def __init__(self, share: float = 0.5, classes: tuple[str, ...] = ("up", "down")):
        self.share = share
        self.classes = classes

    def fit(
        self, X: list[str], y: Any, *, validation: Any = None, unlabelled: Any = None
    ) -> Self:
        type(self).fits += 1
        type(self).given = (X, list(y), validation, unlabelled)
        self.classes_ = np.array(self.classes)  # not sorted: columns must be moved
        return self

    def predict_proba(self, X: list[str]) -> Any:
        return np.tile([self.share, 1 - self.share], (len(X), 1))


def test_rows_have_the_measures_of_scikit_learn() -> None:
    model = baseline("nb").fit(TRAIN.texts, TRAIN.labels)
    found = compare({"nb": baseline("nb"), "says": Says(0.9)}, TRAIN, TEST)
    first, second = found.rows
    right = list(TEST.labels or ())
    predicted = model.predict(TEST.texts)
    assert first.metrics.accuracy.value == accuracy_score(right, predicted)
    shares = model.predict_proba(TEST.texts)
    assert first.metrics.log_loss == pytest.approx(log_loss(right, shares))
    assert second.metrics.accuracy.value == 0.5
    own = [0.9 if label == "up" else 0.1 for label in right]
    assert second.metrics.log_loss == pytest.approx(-np.log(own).mean())
    assert found.labels == ("down", "up")


def test_differences_are_paired_with_the_reference() -> None:
    models = {"nb": baseline("nb"), "says": Says(0.9)}
    found = compare(models, TRAIN, TEST, reference="says")
    first, second = found.rows
    assert second.against is None
    assert second.verdict == ""
    pair = first.against
    assert pair is not None
    hits = baseline("nb").fit(TRAIN.texts, TRAIN.labels).predict(TEST.texts)
    ours = hits == np.array(TEST.labels)
    its = np.array(TEST.labels) == "up"
    only_ours, only_its = int((ours & ~its).sum()), int((its & ~ours).sum())
    assert (pair.only_second, pair.only_first) == (only_ours, only_its)
    exact = stats.binomtest(only_ours, only_ours + only_its).pvalue
    assert pair.p_value == pytest.approx(exact)
    assert pair.difference.value == pytest.approx(ours.mean() - its.mean())
    assert first.verdict == "alike"


def test_better_and_worse_need_many_texts() -> None:
    many = texts(*zip(TEST.texts * 10, (TEST.labels or ()) * 10, strict=True))
    models = {"says": Says(0.9), "nb": baseline("nb")}
    assert compare(models, TRAIN, many).rows[1].verdict == "better"
    swapped = compare(models, TRAIN, many, reference="nb")
    assert swapped.rows[0].verdict == "worse"


def test_a_model_gets_validation_and_unlabelled_texts_if_it_takes_them() -> None:
    models = {"says": Says(), "nb": baseline("nb")}
    compare(models, TRAIN, TEST, validation=TEST, unlabelled=["more"])
    X, y, validation, unlabelled = Says.given
    assert list(TRAIN.texts) == X
    assert tuple(y) == TRAIN.labels
    assert validation[0] == list(TEST.texts)
    assert tuple(validation[1]) == TEST.labels
    assert unlabelled == ["more"]


class Declines(Says):
    takes_unlabelled = False


def test_a_model_that_learns_nothing_from_texts_without_labels_gets_none() -> None:
    models = {"declines": Declines(), "says": Says()}
    found = compare(models, TRAIN, TEST, validation=TEST, unlabelled=["more"])
    assert Declines.given[2] is not None
    assert Declines.given[3] is None
    assert Says.given[3] == ["more"]
    assert [row.unlabelled for row in found.rows] == [False, True]
    for table in (found.to_text(), found.to_markdown()):
        assert "declines learned without the texts that have no labels" in table
    assert [model["unlabelled"] for model in found.to_dict()["models"]] == [False, True]
    without = compare(models, TRAIN, TEST)
    assert "no labels" not in without.to_text()


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("mdlm", True),
        ("simple", True),
        ("mdlm-per-class", False),
        ("causal", False),
        ("discriminative", False),
        ("nb", False),
    ],
)
def test_which_candidates_learn_from_texts_without_labels(
    name: str, takes: bool
) -> None:
    model = make(name, Wanted(settings={"train.steps": 1}, tiny=True))
    assert takes_unlabelled(model) is takes


def test_what_is_kept_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Says.fits = 0
    models = {"says": Says(0.9)}
    first = compare(models, TRAIN, TEST, folder=tmp_path)
    again = compare(models, TRAIN, TEST, folder=tmp_path)
    assert Says.fits == 1
    assert again.to_dict() == first.to_dict()
    compare({"says": Says(0.8)}, TRAIN, TEST, folder=tmp_path)
    assert Says.fits == 2  # another model
    compare({"says": Says(0.8)}, TRAIN, texts(("x", "up")), folder=tmp_path)
    assert Says.fits == 3  # other texts
    monkeypatch.setattr("mdlm_classify.side_by_side.version", lambda name: "77.0")
    compare({"says": Says(0.8)}, TRAIN, texts(("x", "up")), folder=tmp_path)
    assert Says.fits == 4  # other code
    (tmp_path / "says.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        compare(models, TRAIN, TEST, folder=tmp_path)


def test_tables_tell_the_same() -> None:
    found = compare({"nb": baseline("nb"), "says": Says(1.0)}, TRAIN, TEST)
    head, row, last = found.to_text().splitlines()
    assert head.split()[0] == "model"
    assert row.split()[0] == "nb"
    assert "infinite" in last  # sure of a class that is wrong
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in found.to_markdown().splitlines()
    ]
    assert len({len(line) for line in lines}) == 1
    assert lines[2][0] == "nb"
    assert float(lines[2][1]) == pytest.approx(
        100 * found.rows[0].metrics.accuracy.value, abs=0.005
    )
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["models"][1]["log_loss"] is None
    assert plain["data"]["test"] == len(TEST.texts)


class Silent(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    def fit(self, X: Any, y: Any) -> Self:
        return self


@pytest.mark.parametrize(
    ("models", "train", "test", "error", "says"),
    [
        ({}, TRAIN, TEST, UsageError, "no model"),
        ({"s": Silent()}, TRAIN, TEST, UsageError, "no probabilities"),
        (
            {"nb": baseline("nb")},
            TRAIN,
            texts(("x", "new")),
            DataError,
            "line 1: .*'new'",
        ),
        ({"nb": baseline("nb")}, TRAIN, texts(), DataError, "no test texts"),
        (
            {"nb": baseline("nb")},
            LabelledTexts(("a",), None, ("line 1",)),
            TEST,
            DataError,
            "training texts have no labels",
        ),
        (
            {"nb": baseline("nb")},
            texts(("?", "up"), ("!", "down")),
            TEST,
            DataError,
            "nb cannot learn .*empty vocabulary",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(
    models: dict[str, Any],
    train: LabelledTexts,
    test: LabelledTexts,
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        compare(models, train, test)


def test_reference_must_be_compared() -> None:
    with pytest.raises(UnknownNameError, match="the models are nb"):
        compare({"nb": baseline("nb")}, TRAIN, TEST, reference="says")


def test_baselines_are_candidates() -> None:
    baselines = [name for name, each in CANDIDATES.items() if not each.trained]
    assert baselines == list(BASELINES)
    for name in baselines:
        assert CANDIDATES[name].summary == BASELINES[name].summary
        assert str(make(name, Wanted())) == str(baseline(name))


def test_candidates_get_their_settings() -> None:
    wanted = Wanted(
        settings={"train.lr": 0.1},
        of={"mdlm": {"train.lr": 0.2, "train.epochs": 1}},
        tiny=True,
        seed=3,
    )
    made = make("mdlm", wanted, out="there").get_params()
    assert made["settings"] == {"train.lr": 0.2, "train.epochs": 1}
    assert (made["out"], made["tiny"], made["random_state"]) == ("there", True, 3)
    each = make("mdlm-per-class", wanted).get_params()
    assert each["per_class"]
    assert each["settings"] == {"train.lr": 0.1}


def test_wrong_settings_are_found_before_learning() -> None:
    catalog = load_catalog()
    check("nb", make("nb", Wanted()), catalog)
    for settings, says in (({"train.ls": 1}, "train.ls"), ({"data.rows": -1}, "rows")):
        model = make("mdlm", Wanted(settings=settings))
        with pytest.raises(ConfigError, match=says):
            check("mdlm", model, catalog)
