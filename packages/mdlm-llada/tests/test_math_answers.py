"""Equal answers in LaTeX, and what decided."""

import json

import pytest

from mdlm_core.errors import DataError
from mdlm_llada.extract.equal import Equality
from mdlm_llada.registry import get_task
from mdlm_llada.scoring.report import score_files
from mdlm_llada.tasks import math as math_task


def test_text_and_numbers_need_no_sympy(monkeypatch):
    def never(seconds):
        raise AssertionError("asked")

    monkeypatch.setattr(math_task, "_equality", never)
    judge = get_task("math").judge
    assert judge(r"so \boxed{\frac12}", r"\boxed{\frac{1}{2}}", {}).how == "text"
    verdict = judge(r"\boxed{0.50}", "0.5", {})
    assert (verdict.correct, verdict.how) == (True, "number")
    assert not judge(r"\boxed{1/3}", "0.5", {}).correct
    for answer, right in ((r"\frac{1}{2}", True), (r"-\dfrac{1}{2}", False)):
        verdict = judge(rf"\boxed{{{answer}}}", "0.5", {})
        assert (verdict.correct, verdict.how) == (right, "number"), answer
    nothing = judge("no idea", "5", {})
    assert (nothing.extracted, nothing.correct, nothing.how) == (
        None,
        False,
        "no answer",
    )


def test_without_the_parser_it_says_so(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("mdlm_llada.extract.equal.find_spec", lambda name: None)
    math_task._say_missing.cache_clear()
    for _ in range(2):
        verdict = get_task("math").judge(r"\boxed{x+1}", "1+x", {})
        assert (verdict.correct, verdict.how) == (False, "missing")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "mdlm-llada[math]" in caplog.text
    path = tmp_path / "a.jsonl"
    golds = ("1+x", "x+1", "2", "y")
    rows = [{"prediction": r"\boxed{x+1}", "gold_raw": gold} for gold in golds]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = score_files(get_task("math"), path, None, {})
    assert report.card()["decided_by"] == {"missing": 3, "text": 1}
    assert "decided by  missing 3, text 1" in report.text()


def test_sympy_decides_the_rest():
    pytest.importorskip("antlr4", reason="sympy reads LaTeX with it")
    judge = get_task("math").judge
    for answer, gold, right, how in (
        (r"\sqrt{8}", r"2\sqrt{2}", True, "sympy"),
        ("x+1", "1+x", True, "sympy"),
        ("x", "y", False, "sympy"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True, "sympy"),
        ("(1,2)", "(1,3)", False, "unread"),
    ):
        verdict = judge(rf"\boxed{{{answer}}}", gold, {"seconds": 60})
        assert (verdict.correct, verdict.how) == (right, how), answer


def test_a_comparison_that_takes_too_long_is_left_and_the_next_one_works():
    pytest.importorskip("antlr4", reason="sympy reads LaTeX with it")
    equality = Equality(seconds=0.1)
    try:
        assert equality.ask("(x+y+z+w+1)^{70}", "(x+y+z+w+2)^{70}") == "slow"
        equality.seconds = 60
        assert equality.ask("2", "1+1") == "equal"
    finally:
        equality.close()


def test_files_of_math(tmp_path):
    rows = [
        {
            "problem": "P?",
            "solution": r"It is \boxed{\frac{1}{2}}.",
            "level": 1,
        },
        {"problem": "Q?", "solution": "It is 7.", "answer": "7", "unique_id": "q/1"},
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = get_task("math")
    first, second = task.build_dataset("test", {"path": str(tmp_path)})
    assert (first.gold, first.meta) == (r"\frac{1}{2}", {"level": 1})
    assert (second.id, second.gold) == ("q/1", "7")
    styled = task.build_dataset("test", {"path": str(path), "style": "minerva"})
    assert styled[0].prompt == "Problem:\nP?\n\nSolution:"
    assert task.correct(first.answer, first)
    path.write_text(json.dumps({"problem": "P?", "solution": "It is 7."}) + "\n")
    with pytest.raises(DataError, match=r"test\.jsonl:1': the solution has no .boxed"):
        task.build_dataset("test", {"path": str(path)})
