"""Tasks that make their own examples: right, deterministic, never in two splits."""

import json
import re
from fractions import Fraction
from itertools import pairwise, permutations, product

import pytest

from mdlm_core.errors import ConfigError, DataError
from mdlm_llada.registry import get_task
from mdlm_llada.tasks.addition import worked
from mdlm_llada.tasks.countdown import solve
from mdlm_llada.tasks.generated import is_held_out
from mdlm_llada.tasks.sudoku4 import grids, is_solved, solutions

NAMES = ("addition", "countdown", "sudoku4")


def keys(name, examples):
    """What makes two examples the same, worked out from their prompts."""
    if name == "addition":
        return {tuple(sorted(map(int, e.prompt.split("+")))) for e in examples}
    if name == "countdown":
        parts = [e.prompt.split("=") for e in examples]
        return {(*sorted(map(int, n.split(","))), int(t)) for n, t in parts}
    return {e.prompt for e in examples}


@pytest.mark.parametrize("name", NAMES)
def test_generated_examples(name):
    task = get_task(name)
    train = task.build_dataset("train", {"rows": 300})
    test = task.build_dataset("test", {"held_out": 60})
    assert (len(train), len(test)) == (300, 60)
    assert train == task.build_dataset("train", {"rows": 300})
    assert train[:100] == task.build_dataset("train", {"rows": 100})
    assert all(task.correct(e.answer, e) for e in (*train, *test))
    assert all(task.reward(e.answer, e) == 1 for e in test)
    assert not any(task.correct("", e) for e in test)
    others = [task.correct(a.answer, b) for a, b in pairwise(test)]
    assert sum(others) <= 1
    other = task.build_dataset("train", {"rows": 300, "seed": 1})
    assert keys(name, other) != keys(name, train)
    assert len(keys(name, train)) == 300
    assert not keys(name, test) & (keys(name, train) | keys(name, other))


def test_a_split_does_not_depend_on_the_seed_or_the_numbers():
    """Rows of a test set are no training rows for any seed: a hash decides."""
    task = get_task("addition")
    test = task.build_dataset("test", {"held_out": 400, "digits": 2})
    train = [
        e
        for seed in range(3)
        for e in task.build_dataset("train", {"rows": 3000, "digits": 2, "seed": seed})
    ]
    assert not keys("addition", test) & keys("addition", train)
    share = sum(is_held_out(f"key {i}") for i in range(10_000)) / 10_000
    assert abs(share - 0.1) < 4 * (0.1 * 0.9 / 10_000) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_generated_tasks_need_a_number_that_they_have(name):
    task = get_task(name)
    with pytest.raises(ConfigError, match="rows is 0"):
        task.build_dataset("train", {"rows": 0})
    with pytest.raises(ConfigError, match="held_out is 0"):
        task.build_dataset("test", {"held_out": 0})


def test_too_many_are_refused():
    with pytest.raises(ConfigError, match=r"no 200 different .* 'train'; it gave \d+"):
        get_task("addition").build_dataset("train", {"rows": 200, "digits": 1})
    with pytest.raises(ConfigError, match="digits is 0"):
        get_task("addition").build_dataset("train", {"rows": 2, "digits": 0})


def test_addition_by_an_own_count():
    for example in get_task("addition").build_dataset("test", {"held_out": 50}):
        a, b = example.prompt.split("+")
        carry = 0
        *steps, result = re.split(r";|#### ", example.answer)
        for place, step in enumerate(steps):
            x, y, c, total = map(int, re.split(r"\+|=", step))
            assert (x, y, c) == (int(a[-1 - place]), int(b[-1 - place]), carry)
            assert total == x + y + c
            carry = total // 10
        assert int(result) == int(a) + int(b)
    assert worked("867+821") == "7+1+0=8;6+2+0=8;8+8+0=16#### 1688"


def test_there_are_288_grids_and_each_is_solved():
    """Of the 24^3 with the first row 1234, 12 keep the rules; digits are alike."""
    rows = ["".join(row) for row in permutations("1234")]
    tried = [("1234", *rest) for rest in product(rows, repeat=3)]
    brute = {
        "".join(grid)
        for grid in tried
        if all(len({row[c] for row in grid}) == 4 for c in range(4))
        and all(
            len({grid[r + i][c + j] for i in (0, 1) for j in (0, 1)}) == 4
            for r in (0, 2)
            for c in (0, 2)
        )
    }
    assert brute == {"".join(grid) for grid in tried if is_solved("".join(grid))}
    renamed = {g.translate(str.maketrans("1234", row)) for g in brute for row in rows}
    assert len(renamed) == 288
    assert set(grids()) == renamed


def test_puzzles_have_one_solution_by_brute_force():
    for example in get_task("sudoku4").build_dataset("test", {"held_out": 30}):
        fits = [
            grid
            for grid in grids()
            if all(p in ("0", g) for p, g in zip(example.prompt, grid, strict=True))
        ]
        assert fits == [example.answer]
        assert 4 <= example.prompt.count("0") <= 10
    assert solutions("0" * 16) == 288


def test_countdown_targets_are_in_range_and_expressions_exact():
    for example in get_task("countdown").build_dataset("test", {"held_out": 50}):
        numbers, target = example.prompt.split("=")
        exact = re.sub(r"\d+", r"Fraction(\g<0>)", example.answer)
        assert eval(exact, {"Fraction": Fraction}) == int(target)
        assert sorted(re.findall(r"\d+", example.answer)) == sorted(numbers.split(","))
        assert 1 <= int(target) <= 100


def test_a_missing_expression_is_looked_for():
    assert solve([3, 3, 8], 99) is None
    found = solve([3, 3, 8, 8], 24)
    assert found is not None
    assert eval(found.replace("/", "*1.0/")) == pytest.approx(24)


def test_files(tmp_path):
    rows = [{"id": "s", "puzzle": "1000020041200341", "solution": "1432321441232341"}]
    for name, written in (
        ("sudoku4_test.jsonl", rows),
        ("countdown3_test.jsonl", [{"numbers": [1, 2, 3], "target": 6}]),
        (
            "add3_test.jsonl",
            [{"id": "a", "question": "1+1", "answer": "1+1+0=2#### 2"}],
        ),
    ):
        text = "".join(json.dumps(row) + "\n" for row in written)
        (tmp_path / name).write_text(text)
    cfg = {"path": str(tmp_path)}
    (puzzle,) = get_task("sudoku4").build_dataset("test", cfg)
    assert (puzzle.id, puzzle.answer) == ("s", rows[0]["solution"])
    (problem,) = get_task("countdown").build_dataset("test", cfg)
    assert get_task("countdown").correct(problem.answer, problem)
    (addition,) = get_task("addition").build_dataset("test", cfg)
    assert get_task("addition").correct("#### 2", addition)
    table = tmp_path / "4x4_test_sudoku.csv"
    table.write_text(f"Puzzle,Solution\n{rows[0]['puzzle']},{rows[0]['solution']}\n")
    (again,) = get_task("sudoku4").build_dataset("test", {"path": str(table)})
    assert again.gold == puzzle.gold


@pytest.mark.parametrize(
    ("name", "row", "wanted"),
    [
        ("sudoku4", {"puzzle": "1" * 16, "solution": "1" * 16}, "does not solve"),
        ("sudoku4", {"puzzle": "12", "solution": "1" * 16}, "does not solve"),
        ("countdown", {"numbers": [1], "target": 1, "expression": "2"}, "is not '1=1'"),
        ("countdown", {"question": "?"}, "is no problem of Countdown"),
        ("addition", {"question": "1+1"}, "no field 'answer'"),
    ],
)
def test_bad_rows_are_refused_by_place(tmp_path, name, row, wanted):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=rf"a\.jsonl:1'.*{wanted}"):
        get_task(name).build_dataset("train", {"path": str(path)})
