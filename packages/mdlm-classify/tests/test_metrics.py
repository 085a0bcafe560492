"""Metrics, compared with scikit-learn, closed forms and enumeration."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torch import Tensor

from mdlm_classify.metrics import mcnemar, measure, paired, wilson
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

LABELS = ("a", "b", "c")


def _predictions(n: int = 300) -> tuple[Tensor, Tensor]:
    noise, rows = Noise(7), torch.arange(n)
    codes = (noise.child("class").uniform(rows, 1)[:, 0] ** 2 * 3).long()
    x = torch.special.ndtri(noise.child("x").uniform(rows, 3))
    return codes, (x + torch.eye(3).double()[codes] * 1.5).log_softmax(1)


def test_metrics_are_those_of_scikit_learn() -> None:
    codes, logs = _predictions()
    shares, guess = logs.exp().numpy(), logs.argmax(1).numpy()
    y = codes.numpy()
    found = measure(codes, logs, LABELS)
    assert found.rows == 300
    assert found.accuracy.value == pytest.approx(reference.accuracy_score(y, guess))
    assert found.log_loss == pytest.approx(reference.log_loss(y, shares))
    assert found.macro_f1 == pytest.approx(
        reference.f1_score(y, guess, average="macro")
    )
    brier = ((shares - np.eye(3)[y]) ** 2).sum() / 300
    assert found.brier == pytest.approx(brier)
    report = reference.classification_report(
        y, guess, target_names=LABELS, output_dict=True
    )
    for one in found.classes:
        expected = report[one.label]
        assert one.precision == pytest.approx(expected["precision"])
        assert one.recall == pytest.approx(expected["recall"])
        assert one.f1 == pytest.approx(expected["f1-score"])
        assert one.rows == expected["support"]
    for right, predicted in itertools.product(range(3), repeat=2):
        assert found.confusion[right][predicted] == sum(
            a == right and b == predicted for a, b in zip(y, guess, strict=True)
        )


def test_the_brier_score_of_sure_mistakes_is_two() -> None:
    logs = torch.tensor([[0.0, -1e3], [0.0, -1e3]])
    assert measure([1, 1], logs, ("a", "b")).brier == pytest.approx(2)
    assert measure([0, 0], logs, ("a", "b")).brier == pytest.approx(0)


def test_a_class_that_does_not_occur_has_no_recall() -> None:
    logs = torch.tensor([[0.9, 0.1, 1e-9], [0.2, 0.8, 1e-9]]).log()
    found = measure([0, 0], logs, LABELS)
    assert [one.recall for one in found.classes] == [0.5, None, None]
    assert [one.precision for one in found.classes] == [1.0, 0.0, None]
    assert [one.predicted for one in found.classes] == [1, 1, 0]
    # The mean over a (2/3) and b (0); c neither occurs nor was predicted.
    assert found.macro_f1 == pytest.approx(1 / 3)


def test_an_impossible_right_class_makes_the_loss_infinite_and_json_none() -> None:
    found = measure([1], [[0.0, -math.inf]], ("a", "b"))
    assert found.log_loss == math.inf
    assert found.to_dict()["log_loss"] is None
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("codes", "logs", "said"),
    [
        ([], np.zeros((0, 2)), "no text"),
        ([0], [[math.nan, 0.0]], "NaN"),
        ([2], [[0.0, 0.0]], "0 to 1"),
        ([-1], [[0.0, 0.0]], "0 to 1"),
        ([0], [[0.0, 0.0, 0.0]], "shape"),
        ([0, 1], [[0.0, 0.0]], "shape"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    codes: list[int], logs: object, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        measure(codes, logs, ("a", "b"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("right", "rows"), [(0, 5), (3, 5), (5, 5), (820, 1000)])
def test_wilsons_limits_solve_his_equation(right: int, rows: int) -> None:
    z = 1.959963984540054
    found = wilson(right, rows)
    centre = (right + z * z / 2) / (rows + z * z)
    half = z * math.sqrt(right * (rows - right) / rows + z * z / 4) / (rows + z * z)
    assert found.value == right / rows
    assert found.low == pytest.approx(max(centre - half, 0), abs=1e-12)
    assert found.high == pytest.approx(min(centre + half, 1), abs=1e-12)
    with pytest.raises(DataError):
        wilson(0, 0)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 3), (2, 9), (12, 4)])
def test_mcnemar_counts_the_outcomes_that_are_as_rare(first: int, second: int) -> None:
    n = first + second
    far = abs(second - n / 2)
    outcomes = [math.comb(n, k) for k in range(n + 1) if abs(k - n / 2) >= far]
    assert mcnemar(first, second) == pytest.approx(sum(outcomes) / 2**n)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_a_paired_comparison_counts_texts_that_one_alone_has_right() -> None:
    first = np.array([True] * 60 + [False] * 40)
    second = np.array([True] * 50 + [False] * 20 + [True] * 30)
    found = paired(first, second)
    assert (found.only_first, found.only_second, found.rows) == (10, 30, 100)
    assert found.first == 0.6
    assert found.second == 0.8
    assert found.difference.value == pytest.approx(0.2)
    assert found.p_value == mcnemar(10, 30)
    change = np.array([-1] * 10 + [1] * 30 + [0] * 60)
    half = 1.959964 * change.std() / 10
    assert found.difference.low == pytest.approx(0.2 - half, abs=0.02)
    assert found.difference.high == pytest.approx(0.2 + half, abs=0.02)
    assert paired(first, second) == found
    few = paired(first, second, resamples=99)
    assert few == paired(first, second, resamples=99)
    assert few != paired(first, second, resamples=99, seed=1)
    turned = paired(second, first).difference
    assert turned.value == pytest.approx(-0.2)
    assert turned.high < 0


def test_two_that_are_alike_are_not_known_to_be_equal() -> None:
    found = paired([True, False] * 10, [True, False] * 10)
    assert found.p_value == 1
    assert found.difference.value == 0
    limit = wilson(0, 20).high
    assert found.difference.low == pytest.approx(-limit)
    assert found.difference.high == pytest.approx(limit)


def test_a_comparison_needs_the_same_texts() -> None:
    with pytest.raises(DataError, match="same"):
        paired([True], [True, False])
    with pytest.raises(DataError, match="no text"):
        paired([], [])
