"""Reading answers out of texts. Without torch."""

import re

import pytest

from mdlm_llada.extract.boxed import last_boxed
from mdlm_llada.extract.code import fenced
from mdlm_llada.extract.expression import evaluate, find_expression
from mdlm_llada.extract.latex import find_answer, normalise
from mdlm_llada.extract.numbers import (
    comparable,
    flexible,
    last_integer,
    strict,
    without_annotations,
)
from mdlm_llada.extract.stops import cut
from mdlm_llada.registry import Example, get_task


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("so it is\n#### 72", "72", "72"),
        ("#### 1,234.", "1,234.", "1,234."),
        ("#### -5 and #### 6", "-5", "6"),
        ("it costs $3.50", None, "$3.50"),
        ("5", None, "5"),
        ("a - 7", None, "7"),
        ("####72", None, "72"),
        ("none", None, None),
        ("wait ...", None, "..."),
    ],
)
def test_numbers_as_the_harness_reads_them(text, first, last):
    assert strict(text) == first
    assert flexible(text) == last


def test_numbers_are_compared_after_cleaning():
    assert comparable("1,234.") == comparable("$1234") == "1234"
    assert comparable("work\n#### 1,000") == "1000"
    assert comparable("3.50") != comparable("3.5")
    assert last_integer("a 12 b -1,003") == "-1003"
    assert last_integer("none") is None
    assert without_annotations("48/2 = <<48/2=24>>24") == "48/2 = 24"


@pytest.mark.parametrize(
    ("prediction", "auto", "exact", "loose"),
    [
        ("so 2\n#### 1,234", True, True, True),
        ("the result is 1234.", True, False, True),
        ("#### 5 or rather 1234", False, False, True),
        ("#### 1234 because of 3", True, True, False),
        ("nothing", False, False, False),
    ],
)
def test_gsm8k_judges_both_readings(prediction, auto, exact, loose):
    verdict = get_task("gsm8k").judge(prediction, "2+2\n#### 1234", {})
    assert verdict.correct == auto
    assert verdict.numbers == {
        "exact_match_strict": exact,
        "exact_match_flexible": loose,
    }
    only = get_task("gsm8k").judge(prediction, "1234", {"extraction": "strict"})
    assert only.correct == exact
    any_ = get_task("gsm8k").judge(prediction, "1234", {"extraction": "flexible"})
    assert any_.correct == loose


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{\frac{1}{2}} or \boxed{\sqrt{3}}", r"\sqrt{3}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{1\right.}", r"\left\{1\right."),
        (r"\boxed{5} and \boxed{6", "5"),
        (r"\fbox{7}", "7"),
        (r"\fbox{7} \boxed{8}", "8"),
        (r"so $\boxed 9$ it is", "9"),
        ("no box", None),
        (r"\boxed{", None),
    ],
)
def test_boxes_with_braces(text, found):
    assert last_boxed(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{3} Final Answer: The final answer is 4. I hope it is correct.", "3"),
        ("Final Answer: The final answer is $4.5$. I hope it is correct.", "$4.5$"),
        ("Therefore the answer is $x+1$.", "x+1"),
        ("no idea", None),
    ],
)
def test_answers_of_solutions(text, found):
    answer = find_answer(text)
    assert (answer and answer[0]) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac12", r"\frac{1}{2}"),
        (r"x = 5", "5"),
        (r"5\text{ cm}", "5"),
        (r"2\pi cm", r"2\pi"),
        ("10,000 dollars", "10000"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"90^\circ", "90"),
        (r"\$5", "5"),
        (r"\sqrt[3]8", r"\sqrt[3]{8}"),
    ],
)
def test_writing_in_one_way(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(("one", "other"), [("0,1", "01"), (r"\left(1\right)", "1")])
def test_what_stays_apart(one, other):
    assert normalise(one) != normalise(other)
    assert r"\left" not in one or r"\left" in normalise(one)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer>(1+2)*3</answer>", "(1+2)*3"),
        ("<answer>1</answer> no <answer>1+2=3", "1+2"),
        (r"\boxed{75 \times 2}", "75 * 2"),
        ("first\n(33+34)-14", "(33+34)-14"),
        (r"<answer>\frac{4}{2}+1</answer>", "((4)/(2))+1"),
        ("<answer>__import__('os')</answer>", None),
        ("", None),
    ],
)
def test_expressions_in_texts(text, found):
    assert find_expression(text) == found


@pytest.mark.parametrize(
    ("text", "value", "used"),
    [
        ("(33+34)-14", 53, [33, 34, 14]),
        ("8/(3-8/3)", 24, [8, 3, 8, 3]),
        ("1 - 2", -1, [1, 2]),
    ],
)
def test_expressions_are_exact(text, value, used):
    assert evaluate(text) == (value, used)


@pytest.mark.parametrize(
    "text",
    [
        "1/0",
        "2**3",
        "7//2",
        "-3",
        "1.5+2",
        "1+",
        "abs(3)",
        "9" * 300,
        "(" * 99 + "1",
        "",
    ],
)
def test_what_is_no_expression(text):
    assert evaluate(text) is None


def test_code_in_texts():
    answer = (
        "Here:\n```python\ndef f():\n    return 1\n```\nand\n```py\ndef g(): 2\n```"
    )
    assert fenced(answer) == "def f():\n    return 1"
    assert fenced(answer, "def g(") == "def g(): 2"
    assert fenced("```\nx = 1\n```") == "x = 1"
    assert fenced("    return 1\n```\nThis closes.") is None
    assert fenced("```python\nx = 1") == "x = 1"
    assert cut("ab\ndef c\n#", ("\n#", "\ndef")) == "ab"
    assert cut("ab", ("x",)) == "ab"
    assert cut("ab", ("", "b")) == "a"
    assert cut("ab", ("",)) == "ab"


PUZZLE, SOLUTION = "1000020041200341", "1432321441232341"
SPREAD = " | ".join(re.findall("....", SOLUTION))


@pytest.mark.parametrize(
    ("text", "right", "cells", "valid", "kept"),
    [
        (SOLUTION, True, 1.0, 1.0, 1.0),
        (f"The grid is\n{SPREAD}.", True, 1.0, 1.0, 1.0),
        (f"<answer>{SOLUTION}</answer> or 1111111111111111", True, 1.0, 1.0, 1.0),
        ("1111111111111111", False, 1 / 8, 0.0, 0.0),
        ("3412124343212134", False, 3 / 8, 1.0, 0.0),
        (SOLUTION[:-1], False, 0.0, 0.0, 0.0),
        (SOLUTION + "1", False, 0.0, 0.0, 0.0),
    ],
)
def test_sudoku_counts_cells_rules_and_givens(text, right, cells, valid, kept):
    verdict = get_task("sudoku4").judge(text, f"{PUZZLE} {SOLUTION}", {})
    assert verdict.correct == right
    assert verdict.numbers["cells"] == cells
    assert (verdict.numbers["valid"], verdict.numbers["givens_kept"]) == (valid, kept)


def test_the_reward_of_sudoku_is_the_share_of_cells_with_givens_kept():
    task = get_task("sudoku4")
    example = Example("0", PUZZLE, SOLUTION, f"{PUZZLE} {SOLUTION}")
    first, last = PUZZLE.index("0"), SOLUTION[-1]
    half = SOLUTION[:first] + str(5 - int(SOLUTION[first])) + SOLUTION[first + 1 :]
    assert task.reward(SOLUTION, example) == 1
    assert task.reward(half, example) == pytest.approx(7 / 8)
    assert task.reward(SOLUTION[:-1] + str(5 - int(last)), example) == 0  # a given


def test_sudoku_with_the_solution_alone():
    task = get_task("sudoku4")
    assert task.judge(SOLUTION, SOLUTION, {}).correct
    assert not task.judge("3412124343212134", SOLUTION, {}).correct
    assert task.gold_of({"Puzzle": PUZZLE, "Solution": SOLUTION}) == (
        f"{PUZZLE} {SOLUTION}"
    )


@pytest.mark.parametrize(
    ("text", "right", "reward"),
    [
        ("(33+34)-14", True, 1.0),
        ("33+34-14=53", True, 1.0),
        ("33+34+14", False, 0.1),
        ("33+20", False, 0.0),
        ("33+34-14+33-33", False, 0.0),
        ("", False, 0.0),
    ],
)
def test_countdown_wants_each_number_once(text, right, reward):
    task = get_task("countdown")
    example = Example("0", "", "", "34,14,33=53")
    assert task.correct(text, example) == right
    assert task.reward(text, example) == reward
    assert task.gold_of({"input": "34,14,33", "output": "53"}) == example.gold
    assert task.gold_of({"numbers": [34, 14, 33], "target": 53}) == example.gold
