"""The sandbox: what passes, what is stopped, and the tasks that use it."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from mdlm_llada.registry import get_task
from mdlm_llada.sandbox import run_program
from mdlm_llada.scoring.join import Item, Joined
from mdlm_llada.scoring.metrics import judge_all, totals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX limits")


@pytest.mark.parametrize(
    ("source", "status", "detail"),
    [
        ("x = 1", "passed", ""),
        ("assert 1 == 2, 'no'", "failed", "AssertionError: no"),
        ("def f(:", "failed", "SyntaxError"),
        ("import sys; sys.exit(0)", "failed", "SystemExit"),
        ("import os; os._exit(0)", "failed", "left before its end"),
        ("input()", "failed", "EOFError"),
        ("open('big', 'wb').write(b'0' * (2 << 20))", "failed", "File too large"),
        ("import os, signal; os.kill(os.getpid(), 9)", "killed", "SIGKILL"),
        ("print('x' * 10 ** 6)", "passed", ""),
        ("if __name__ == '__main__':\n    int(input())", "passed", ""),
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
            "@dataclass\nclass A:\n    x: int\n\nassert A(1).x == 1\n"
            "import sys\nassert sys.modules[A.__module__].A is A",
            *("passed", ""),
        ),
    ],
)
def test_how_programs_end(source, status, detail):
    outcome = run_program(source)
    assert outcome.status == status
    assert detail in outcome.detail


@pytest.mark.skipif(sys.platform == "darwin", reason="no limit on address space")
def test_memory_is_limited():
    assert "MemoryError" in run_program("x = bytearray(2 << 30)").detail


def test_time_is_limited_and_the_whole_group_is_killed(tmp_path):
    mark = tmp_path / "pid"
    source = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    began = time.monotonic()
    outcome = run_program(source, timeout=3.0)
    assert time.monotonic() - began < 40
    if not mark.exists():  # processes are limited for users who are not root
        assert "Error" in outcome.detail
        return
    assert outcome.status == "timed out"
    for _ in range(100):
        if not _runs(int(mark.read_text())):
            break
        time.sleep(0.05)
    assert not _runs(int(mark.read_text()))


def _runs(pid):
    """Whether the process is there and no zombie."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc").exists()


def test_it_starts_in_an_empty_folder_without_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "word")
    source = (
        "import os, sys\n"
        "assert os.listdir('.') == []\n"
        "assert 'SECRET' not in os.environ\n"
        "assert sys.flags.isolated\n"
        "assert sys.stdin.read() == ''\n"
    )
    outcome = run_program(source)
    assert outcome.passed, outcome.detail


EVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'from math import sqrt\n\n\ndef root(x):\n    """Return it."""\n',
    "canonical_solution": "    return sqrt(x)\n",
    "test": "def check(candidate):\n    assert candidate(4) == 2\n",
    "entry_point": "root",
}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("    return sqrt(x)\n", True),
        ("    return sqrt(x)\n\nprint(root('x'))\n", True),
        ("    return sqrt(x)\n```\nThis is it.", True),
        ("Here:\n```python\ndef root(x):\n    return sqrt(x)\n```\nDone.", True),
        ("def root(x):\n    return sqrt(x)\n", True),
        ("    return sqrt(x)\n\n\ndef root(x):\n    return sqrt(x)\n", True),
        ("    return sqrt(x)\n\n\ndef root(x):\n    return 0\n", True),
        ("def half(x):\n    return .5\n\ndef root(x):\n    return x**half(x)", True),
        ("    return 0\n\n\ndef root(x):\n    return sqrt(x)\n", False),
        ("    return x\n", False),
        ("    return sqrt(x", False),
        ("", False),
    ],
)
def test_humaneval(tmp_path, text, right):
    path = tmp_path / "HumanEval.jsonl"
    path.write_text(json.dumps(EVAL) + "\n")
    task = get_task("humaneval")
    (example,) = task.build_dataset("test", {"path": str(tmp_path)})
    assert (example.id, example.prompt) == (EVAL["task_id"], EVAL["prompt"])
    assert task.gold_of(EVAL) == example.gold
    verdict = task.judge(text, example.gold, {"run_code": True})
    assert verdict.correct == right, verdict.how


def test_a_whole_function_does_not_need_the_body_of_the_prompt():
    """A prompt without a docstring is no program by itself."""
    head = "from math import sqrt\n\n\ndef root(x):\n"
    gold = get_task("humaneval").gold_of({**EVAL, "prompt": head})
    whole = "```python\ndef root(x):\n    return sqrt(x)\n```"
    cfg = {"run_code": True}
    assert get_task("humaneval").judge(whole, gold, cfg).correct
    assert get_task("humaneval").judge("    return sqrt(x)", gold, cfg).correct


TESTS = ["assert double(2) == 4", "assert double(0) == 0", "assert double(-1) == -2"]
MBPP_ROW = {
    "task_id": 11,
    "text": "Write a function to double.",
    "code": "def double(x):\r\n  return 2 * x",
    "test_list": TESTS,
}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("def double(x):\n  return 2 * x\n[DONE]\nmore", True),
        ("[BEGIN]\ndef double(x):\n  return x + x\n[DONE]", True),
        ("```python\ndef double(x):\n  return 2 * x\n```", True),
        ("def double(x):\n  return 2 * x\n```\nIt doubles.", True),
        ("def double(x):\n  return 2 * x\n[DONE]\n\nHalve.\n[BEGIN]\nx[DONE]", True),
        ("def double(x):\n  return 2 * x\n\n[BEGIN]\nHalve.", True),
        ("Sure:\n[BEGIN]\ndef double(x):\n  return 2 * x\n[DONE]", True),
        ("def double(x):\n  return x * x\n[DONE]", False),
        ("[DONE]", False),
    ],
)
def test_mbpp(tmp_path, text, right):
    path = tmp_path / "mbpp.jsonl"
    path.write_text(json.dumps(MBPP_ROW) + "\n")
    task = get_task("mbpp")
    (example,) = task.build_dataset("test", {"path": str(tmp_path)})
    assert example.prompt.endswith(f"{TESTS[-1]}\n[BEGIN]\n")
    assert "\r" not in example.answer
    cfg = {"run_code": True}
    assert task.judge(example.answer, example.gold, cfg).correct
    verdict = task.judge(text, task.gold_of(MBPP_ROW), cfg)
    assert verdict.correct == right, verdict.how


def test_samples_of_programs_run_side_by_side():
    task = get_task("mbpp")
    good, bad = MBPP_ROW["code"], "def double(x): return 5"
    item = Item("11", (good, bad, good), task.gold_of(MBPP_ROW))
    rows = judge_all(task, Joined((item,) * 3, "id"), {"run_code": True, "jobs": 3})
    found = totals(rows)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.numbers["pass@2"] == pytest.approx(1.0)
