"""Countdown: reach a target with given numbers, each used exactly once.

An answer is an expression such as ``(33+34)-14``. It is read and worked out exactly,
and never run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any

from mdlm_core.errors import DataError
from mdlm_llada.extract.expression import OPERATORS, evaluate, find_expression
from mdlm_llada.registry import BaseTaskSpec, Example, Settings, Verdict

from .files import count, find, id_of, instructed, rows_of
from .generated import draw_items

_FILES = ("{split}.jsonl", "countdown*_{split}.jsonl")
_TOLERANCE = Fraction(1, 100_000)
_FORMAT_REWARD = 0.1
_LARGEST_NUMBER, _LARGEST_TARGET = 99, 100
_GOLD = re.compile(r"\s*(\d+(?:\s*,\s*\d+)*)\s*=\s*(-?\d+)\s*")


class Countdown(BaseTaskSpec):
    """Three numbers from 1 to 99 and a target from 1 to 100.

    A prompt, and the gold, is ``44,19,35=98``. Files have `numbers`, `target` and
    perhaps `expression`, or d1's `input` and `output`; an expression that a file does
    not give is looked for.
    """

    name = "countdown"
    summary = "Reach a target with three numbers; generated."
    settings = ()
    generated = True
    instructions = (
        "Reach the number behind = with the numbers before it. Use each of them "
        "exactly once, with + - * / and brackets. Answer with the expression in "
        "<answer> and </answer>."
    )

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return problems that are generated, or those of a file."""
        if cfg.get("path"):
            problems = self._read(split, cfg)
        else:
            made = draw_items(self.name, split, cfg, 9, _make)
            problems = ((f"{split}-{i}", *item) for i, item in enumerate(made))
        return [
            Example(
                id=id_,
                prompt=instructed(problem, cfg, self.instructions),
                answer=expression,
                gold=problem,
            )
            for id_, problem, expression in problems
        ]

    def _read(self, split: str, cfg: Settings) -> Iterator[tuple[str, str, str]]:
        path = find(str(cfg["path"]), split, _FILES, self.name)
        for index, where, row in rows_of(path, count(split, cfg)):
            problem = self.gold_of(row)
            if problem is None or not _GOLD.fullmatch(problem):
                raise DataError(
                    f"{where} is no problem of Countdown; it needs 'numbers' and "
                    f"'target', or 'input' and 'output', of whole numbers"
                )
            expression = row.get("expression")
            if expression is None:
                expression = solve(*_parse(problem)) or ""
            elif not self.judge(str(expression), problem, {}).correct:
                raise DataError(f"{where}: '{expression}' is not '{problem}'")
            yield id_of(row, index), problem, str(expression)

    def gold_of(self, row: Any) -> str | None:
        """Return ``numbers=target`` from a row, or its gold under the common names."""
        if "numbers" in row and "target" in row:
            return f"{','.join(map(str, row['numbers']))}={row['target']}"
        if "input" in row and "output" in row:
            return f"{row['input']}={row['output']}"
        return super().gold_of(row)

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return the expression of a text, or None."""
        return find_expression(pred)

    def expected(self, gold: str, cfg: Settings) -> str | None:
        """Return the problem."""
        return gold.strip()

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Work the expression out; each number has to be used exactly once.

        Counted besides: whether it is an expression with the right numbers, whatever
        its value.
        """
        numbers, target = _parse(gold)
        found = self.postprocess(prediction, cfg)
        result = None if found is None else evaluate(found)
        fits = result is not None and Counter(result[1]) == Counter(numbers)
        right = fits and result is not None and abs(result[0] - target) < _TOLERANCE
        return Verdict(found, gold.strip(), bool(right), {"numbers_used": float(fits)})

    def reward(self, prediction: str, example: Example) -> float:
        """Return 1 for a right expression, 0.1 for one with the right numbers."""
        verdict = self.judge(prediction, example.gold, {})
        return max(
            float(verdict.correct), _FORMAT_REWARD * verdict.numbers["numbers_used"]
        )


def _parse(gold: str) -> tuple[list[int], int]:
    found = _GOLD.fullmatch(gold)
    if not found:
        raise DataError(
            f"the gold of task 'countdown' is numbers and a target, such as 1,2,3=6; "
            f"got {gold!r:.80}"
        )
    return [int(n) for n in found.group(1).split(",")], int(found.group(2))


def solve(numbers: Sequence[int], target: int) -> str | None:
    """Return the first expression that reaches the target, None if there is none."""

    def search(parts: tuple[tuple[str, Fraction], ...]) -> str | None:
        if len(parts) == 1:
            return parts[0][0] if parts[0][1] == target else None
        for (left, a), (right, b), *rest in permutations(parts):
            for sign, operator in OPERATORS.items():
                if sign == "/" and b == 0:
                    continue
                value = operator(a, b)
                found = search(((f"({left}{sign}{right})", value), *rest))
                if found is not None:
                    return found
        return None

    found = search(tuple((str(n), Fraction(n)) for n in numbers))
    return found.removeprefix("(").removesuffix(")") if found else None


def _make(numbers: list[float]) -> tuple[str, tuple[str, str]] | None:
    """Make a problem from nine uniform numbers, if its target is a whole number."""
    given = [1 + int(u * _LARGEST_NUMBER) for u in numbers[:3]]
    order = sorted(range(3), key=lambda i: numbers[3 + i])
    a, b, c = (given[i] for i in order)
    first, second = ("+-*/"[int(u * 4)] for u in numbers[6:8])
    inner = f"({a}{first}{b})"
    expression = f"{inner}{second}{c}" if numbers[8] < 0.5 else f"{c}{second}{inner}"
    result = evaluate(expression)
    if result is None or result[0].denominator != 1:
        return None
    target = int(result[0])
    if not 1 <= target <= _LARGEST_TARGET:
        return None
    key = f"{','.join(map(str, sorted(given)))}={target}"
    return key, (f"{','.join(map(str, given))}={target}", expression)
