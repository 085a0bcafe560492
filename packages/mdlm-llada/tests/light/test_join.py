"""Joining predictions with golds. Without torch."""

import json

import pytest

from mdlm_core.errors import DataError
from mdlm_llada.registry import get_task
from mdlm_llada.scoring.join import join
from mdlm_llada.scoring.metrics import judge_all, pass_at, totals


@pytest.fixture
def write(tmp_path):
    def one(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return one


def pairs(joined):
    return [(item.key, item.predictions[0], item.gold) for item in joined.items]


TASK = get_task("jsonl")


@pytest.mark.parametrize(
    ("prediction", "gold", "by"),
    [
        ({"id": "3"}, {"id": 3}, "id"),
        ({"index": 3}, {"index": "3"}, "index"),
        ({"meta": {"index": 3}}, {"index": 3}, "index"),
        ({"meta": {"index": 3, "id": "x"}}, {"id": "x"}, "id"),
        ({"meta": {"index": 0, "id": "x"}}, {}, "index"),
        ({}, {}, "line"),
        ({"id": "3", "index": 9}, {"id": "3", "index": 0}, "id"),
        ({"meta": {"id": "HumanEval/0"}}, {"task_id": "HumanEval/0"}, "id"),
    ],
)
def test_keys(write, prediction, gold, by):
    pred = write("p.jsonl", [{**prediction, "prediction": "a"}])
    gt = write("g.jsonl", [{**gold, "answer": "b"}])
    joined = join(pred, gt, TASK)
    assert joined.by == by
    assert [p[1:] for p in pairs(joined)] == [("a", "b")]


def test_order_is_that_of_the_predictions_and_not_of_the_golds(write):
    pred = write("p.jsonl", [{"id": i, "pred": f"p{i}"} for i in (2, 0, 1)])
    gt = write("g.jsonl", [{"id": str(i), "answer": f"g{i}"} for i in range(3)])
    assert pairs(join(pred, gt, TASK)) == [
        ("2", "p2", "g2"),
        ("0", "p0", "g0"),
        ("1", "p1", "g1"),
    ]


def test_a_file_without_keys_is_in_the_order_of_its_data(write):
    pred = write("p.jsonl", [{"meta": {"index": i}, "pred": f"p{i}"} for i in (1, 0)])
    gt = write("g.jsonl", [{"answer": f"g{i}"} for i in range(2)])
    assert pairs(join(pred, gt, TASK)) == [("1", "p1", "g1"), ("0", "p0", "g0")]


@pytest.mark.parametrize("name", ["prediction", "pred_text", "pred", "output", "text"])
def test_names_of_predictions(write, name):
    path = write("p.jsonl", [{"id": 1, name: "a", "gold_raw": "b"}])
    assert pairs(join(path, None, TASK)) == [("1", "a", "b")]


@pytest.mark.parametrize(
    "name", ["gold_raw", "answer", "gold", "output", "ground_truth", "label"]
)
def test_names_of_golds(write, name):
    path = write("p.jsonl", [{"id": 1, "prediction": "a", name: "b"}])
    assert pairs(join(path, None, TASK)) == [("1", "a", "b")]


def test_output_is_a_gold_only_if_it_is_not_the_prediction(write):
    path = write("p.jsonl", [{"id": 1, "output": "a"}])
    with pytest.raises(DataError, match=r"p\.jsonl:1' does not say what is right"):
        join(path, None, TASK)


def test_the_gold_of_a_prediction_wins(write):
    pred = write("p.jsonl", [{"id": 1, "pred": "a", "gold_raw": "mine"}])
    gt = write("g.jsonl", [{"id": 1, "answer": "theirs"}])
    joined = join(pred, gt, TASK)
    assert pairs(joined) == [("1", "a", "mine")]
    assert joined.own_gold == 1


def test_a_gold_file_without_the_row_is_not_filled_from_the_prediction(write):
    rows = [{"id": i, "pred": "a", "gold_raw": "mine"} for i in (1, 2)]
    pred = write("p.jsonl", rows)
    gt = write("g.jsonl", [{"id": 1, "answer": "theirs"}])
    with pytest.raises(DataError, match=r"no row in '.*g\.jsonl': id '2'"):
        join(pred, gt, TASK)
    joined = join(pred, gt, TASK, allow_missing=True)
    assert pairs(joined) == [("1", "a", "mine")]
    assert (joined.missing_gold, joined.own_gold) == (("2",), 1)


def test_predictions_for_another_task_are_refused(write):
    row = {"id": 1, "prediction": "1", "gold_raw": "1"}
    for name in ("gsm8k", "llada_gsm8k", "LLaDA-GSM8K"):
        path = write("p.jsonl", [{"task": name, **row}])
        assert pairs(join(path, None, get_task("gsm8k"))) == [("1", "1", "1")]
        with pytest.raises(DataError, match=rf"p\.jsonl:1'.* task '{name}', not for"):
            join(path, None, get_task("addition"))


def test_a_file_that_is_not_complete_is_refused(write, tmp_path):
    path = write("p.jsonl", [{"id": 1, "prediction": "a", "gold_raw": "a"}])
    meta = tmp_path / "p.jsonl.meta.json"
    meta.write_text('{"rows": 1}')
    assert join(path, None, TASK).unanswered == 0
    meta.write_text('{"rows": 4}')
    with pytest.raises(DataError, match=r"1 of 4 answers.*--allow-missing"):
        join(path, None, TASK)
    assert join(path, None, TASK, allow_missing=True).unanswered == 3


@pytest.mark.parametrize(
    ("name", "gold", "form"),
    [
        ("sudoku4", "12", "16 digits"),
        ("sudoku4", "1" * 16, "16 digits"),
        ("countdown", "twelve", "1,2,3=6"),
        ("gsm8k", "blue", "#### N"),
        ("addition", "blue", "#### N"),
        ("arc", "blue", "label"),
        ("arc", '{"answer": "A", "choices": ["x"]}', "label"),
        ("humaneval", "12", "JSON object"),
        ("humaneval", '{"prompt": 1, "test": "", "entry_point": ""}', "'prompt' is 1"),
        ("mbpp", "12", "JSON object"),
        ("mbpp", '{"test_list": 5}', "list of asserts"),
    ],
)
def test_golds_of_another_form_are_refused_by_place(write, name, gold, form):
    path = write("p.jsonl", [{"id": 1, "prediction": "1", "gold_raw": gold}])
    task = get_task(name)
    with pytest.raises(DataError, match=r"p\.jsonl:1'.*" + form):
        judge_all(task, join(path, None, task), {"run_code": True})


def test_a_task_reads_golds_from_its_own_data(write):
    pred = write("p.jsonl", [{"meta": {"index": 0}, "prediction": "1+2"}])
    gt = write("g.jsonl", [{"input": "1,2", "output": "3"}])
    (item,) = join(pred, gt, get_task("countdown")).items
    assert item.gold == "1,2=3"


def test_a_key_twice_is_refused_by_name(write):
    pred = write("p.jsonl", [{"id": i, "pred": "", "answer": ""} for i in (1, 2, "1")])
    with pytest.raises(DataError, match=r"p\.jsonl:3' has the id '1' that .*:1' has"):
        join(pred, None, TASK)
    good = write("q.jsonl", [{"id": 1, "pred": ""}])
    gt = write("g.jsonl", [{"id": 1, "answer": ""}] * 2)
    with pytest.raises(DataError, match=r"g\.jsonl:2' has the id '1'"):
        join(good, gt, TASK)


def test_missing_rows_are_refused_by_name_or_left_out(write):
    pred = write("p.jsonl", [{"id": i, "pred": "x"} for i in (1, 2)])
    gt = write("g.jsonl", [{"id": i, "answer": "x"} for i in (2, 3)])
    with pytest.raises(DataError, match=r"no row in '.*g\.jsonl': id '1'; .*--allow"):
        join(pred, gt, TASK)
    joined = join(pred, gt, TASK, allow_missing=True)
    assert pairs(joined) == [("2", "x", "x")]
    assert (joined.missing_gold, joined.missing_predictions) == (("1",), ("3",))
    fewer = write("q.jsonl", [{"id": 2, "pred": "x"}])
    with pytest.raises(
        DataError, match=r"g\.jsonl' have no row in '.*q.jsonl': id '3'"
    ):
        join(fewer, gt, TASK)
    none = write("n.jsonl", [{"id": 9, "pred": "x"}])
    with pytest.raises(DataError, match="no row in common by id"):
        join(none, gt, TASK, allow_missing=True)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ([{"id": 1}, {"index": 1}], [{"id": 1}, {"id": 2}]),
        ([{"id": 1}, {}], [{"id": 1}, {"id": 2}]),
        ([{"index": 1}, {}], [{"index": 1}, {"index": 2}]),
        ([{"id": 1}], [{"index": 1}]),
        ([{"id": 1}], [{}]),
    ],
)
def test_mixed_keys_are_refused(write, mine, theirs):
    pred = write("p.jsonl", [{**row, "pred": ""} for row in mine])
    gt = write("g.jsonl", [{**row, "answer": ""} for row in theirs])
    with pytest.raises(DataError, match="all"):
        join(pred, gt, TASK)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"answer": ""}, "has no prediction"),
        ({"pred": {"a": 1}}, "holds an object"),
        ({"pred": []}, "holds no texts"),
        ({"pred": [1]}, "holds no texts"),
    ],
)
def test_bad_predictions_are_refused_by_place(write, row, wanted):
    path = write("p.jsonl", [{"id": 1, "gold": "", **row}])
    with pytest.raises(DataError, match=rf"p\.jsonl:1'.*{wanted}"):
        join(path, None, TASK)


def test_no_answer_counts_as_wrong(write):
    rows = [
        {"id": 1, "prediction": None, "answer": "a"},
        {"id": 2, "prediction": "a", "answer": "a"},
        {"id": 3, "prediction": 5, "answer": "5"},
        {"id": 4, "prediction": "b", "answer": "a", "meta": {"nfe": 4}},
    ]
    found = totals(judge_all(TASK, join(write("p.jsonl", rows), None, TASK), {}))
    assert (found.total, found.correct, found.accuracy) == (4, 2, 0.5)
    assert found.extraction_rate == 0.75
    assert "nfe" not in found.numbers  # not all rows say it


def test_several_samples_and_pass_at_k(write):
    rows = [
        {"id": 1, "prediction": ["a", "b", "a", "b"], "answer": "a"},
        {"id": 2, "prediction": ["b", "b", "b", "b"], "answer": "a"},
    ]
    found = totals(judge_all(TASK, join(write("p.jsonl", rows), None, TASK), {}))
    assert found.accuracy == pytest.approx(0.25)
    # one of two drawn from {right, right, wrong, wrong}: 1 - 1/6
    assert found.numbers == pytest.approx({"pass@1": 0.25, "pass@2": 5 / 12})


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("right", range(5))
def test_pass_at_k_is_the_share_of_subsets(k, right):
    from itertools import combinations

    subsets = list(combinations([True] * right + [False] * (4 - right), k))
    share = sum(map(any, subsets)) / len(subsets)
    assert pass_at(k, 4, right) == pytest.approx(share)
