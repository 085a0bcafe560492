"""Nothing is tested on that was learned from."""

from __future__ import annotations

from collections import Counter

import pytest

from mdlm_classify.data.texts import LabelledTexts
from mdlm_classify.division import Division, divide
from mdlm_core.errors import DataError, UsageError

LABELS = ["a", "a", "a", "b"] * 10
TEXTS = LabelledTexts.of([f"text {i}" for i in range(40)], LABELS)
TEST = LabelledTexts.of(["Text, 3!", "unlike", "other"], ["b", "a", "b"])


def keys(division: Division) -> tuple[set[str], set[str]]:
    return set(division.train.texts), set(division.test.texts)


def test_texts_that_are_tested_on_are_not_learned_from() -> None:
    twice = LabelledTexts.of([*TEXTS.texts, "text 5"], [*LABELS, "b"])
    found = divide(twice, TEST, validation=TEST, unlabelled=["text 3", "new"])
    assert found.test is TEST
    assert "text 3" not in found.train.texts
    assert Counter(found.train.texts)["text 5"] == 1
    assert found.unlabelled == ("new",)
    assert found.validation is not None
    assert not found.validation.texts
    assert found.card["train"] == {
        "also_held_out": 1,
        "repeated": 1,
        "contradictory": 1,
    }
    assert found.card["learned_from_and_tested_on"] == 0
    kept = divide(twice, TEST, validation=TEST, duplicates="keep")
    assert kept.card["learned_from_and_tested_on"] == 1
    assert kept.train.texts == twice.texts
    assert kept.validation is TEST
    assert kept.card["train"] == found.card["train"]


def test_without_test_texts_a_fifth_of_each_class_is_tested_on() -> None:
    shouted = [text.upper() for text in TEXTS.texts]
    twice = LabelledTexts.of([*TEXTS.texts, *shouted], LABELS * 2)
    found = divide(twice)
    learned, tested = keys(found)
    assert Counter(found.test.labels) == {"a": 6, "b": 2}
    assert not learned & tested
    assert learned | tested == set(TEXTS.texts)
    assert keys(divide(twice)) == (learned, tested)
    assert keys(divide(twice, seed=1)) != (learned, tested)


def test_fewer_texts_have_the_same_shares_and_lie_within_more() -> None:
    few, more = (divide(TEXTS, TEST, rows=rows).train for rows in (8, 16))
    assert Counter(few.labels) == {"a": 6, "b": 2}
    assert set(few.texts) < set(more.texts)
    assert len(divide(TEXTS, TEXTS, test_rows=8, rows=8).test) == 8


def test_what_is_left_after_test_rows_may_be_learned_from() -> None:
    learned, tested = keys(divide(TEXTS, TEXTS, test_rows=8))
    assert learned | tested == set(TEXTS.texts)
    assert not learned & tested


def test_what_cannot_be_divided_is_said() -> None:
    with pytest.raises(DataError, match="all training texts are tested on"):
        divide(TEXTS, TEXTS)
    with pytest.raises(DataError, match="50 texts are to be learned from"):
        divide(TEXTS, TEST, rows=50)
    with pytest.raises(DataError, match="4 texts are to be tested on"):
        divide(TEXTS, TEST, test_rows=4)
    with pytest.raises(UsageError, match="rows is -1"):
        divide(TEXTS, TEST, rows=-1)
    with pytest.raises(UsageError, match="drop or keep"):
        divide(TEXTS, TEST, duplicates="some")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no labels"):
        divide(LabelledTexts.of(["a", "b"]))
