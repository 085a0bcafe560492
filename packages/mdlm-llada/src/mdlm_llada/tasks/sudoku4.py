"""Sudoku of 4 x 4: puzzles with exactly one solution.

A puzzle is 16 digits, row by row, 0 where a cell is empty; the answer is the 16 digits
of the full grid. There are 288 grids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from mdlm_core.errors import DataError
from mdlm_llada.registry import BaseTaskSpec, Example, Settings, Verdict

from .files import count, find, id_of, instructed, rows_of, text_of
from .generated import draw_items

_FILES = ("{split}.jsonl", "sudoku4*{split}.jsonl", "*{split}*sudoku*.csv")
_HOLES = (4, 10)
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL)
_GRID = re.compile(r"(?<![1-4])[1-4](?:[\s|,;+\-]*[1-4]){15}(?![1-4])")
_PUZZLE = re.compile(r"[0-4]{16}")
_UNITS = (
    *([4 * r + c for c in range(4)] for r in range(4)),
    *([4 * r + c for r in range(4)] for c in range(4)),
    *([r + i + 4 * j for i in (0, 1) for j in (0, 1)] for r in (0, 2, 8, 10)),
)


class Sudoku4(BaseTaskSpec):
    """Puzzles of 4 x 4 cells; 4 to 10 are empty in those it makes.

    `gold` is the puzzle and its solution with a space between; the solution alone will
    do, but then there are no empty cells to count.
    """

    name = "sudoku4"
    summary = "4 x 4 Sudoku with one solution; generated."
    settings = ()
    generated = True
    instructions = (
        "Solve the 4 x 4 Sudoku. It is given row by row as 16 digits, 0 for an empty "
        "cell. Every row, column and 2 x 2 box has each of 1, 2, 3 and 4 once. Answer "
        "with the 16 digits of the full grid."
    )

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return puzzles that are generated, or those of a file."""
        if cfg.get("path"):
            pairs = self._read(split, cfg)
        else:
            made = draw_items(self.name, split, cfg, 18, _make)
            pairs = ((f"{split}-{i}", *pair) for i, pair in enumerate(made))
        return [
            Example(
                id=id_,
                prompt=instructed(puzzle, cfg, self.instructions),
                answer=solution,
                gold=f"{puzzle} {solution}",
            )
            for id_, puzzle, solution in pairs
        ]

    def _read(self, split: str, cfg: Settings) -> Iterator[tuple[str, str, str]]:
        path = find(str(cfg["path"]), split, _FILES, self.name)
        for index, where, row in rows_of(path, count(split, cfg)):
            puzzle = text_of(row, where, "puzzle", "Puzzle")
            solution = text_of(row, where, "solution", "Solution")
            if not (_PUZZLE.fullmatch(puzzle) and is_solved(solution, puzzle)):
                raise DataError(
                    f"{where}: '{solution}' does not solve '{puzzle}'; a puzzle is 16 "
                    f"digits from 0 to 4, and its solution keeps the digits given"
                )
            yield id_of(row, index), puzzle, solution

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return 16 digits: the last that stand together, in <answer> if there is one.

        Spaces, line breaks and lines of a drawn grid may be between the digits.
        """
        tagged = _TAG.findall(pred)
        grids = _GRID.findall(tagged[-1] if tagged else pred)
        return re.sub(r"[^1-4]", "", grids[-1]) if grids else None

    def gold_of(self, row: Any) -> str | None:
        """Return puzzle and solution of a row, or its gold under the common names."""
        puzzle = row.get("puzzle", row.get("Puzzle"))
        solution = row.get("solution", row.get("Solution"))
        if puzzle is not None and solution is not None:
            return f"{puzzle} {solution}"
        return super().gold_of(row)

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Compare grids: right is one that keeps the digits given and breaks no rule.

        Counted besides: the share of empty cells that are right, whether the grid
        breaks no rule, and whether it keeps what was given.

        Raises:
            DataError: if the gold is no puzzle with its solution.
        """
        puzzle, _, solution = gold.strip().rpartition(" ")
        puzzle = puzzle.strip() or solution
        if not (_PUZZLE.fullmatch(puzzle) and is_solved(solution, puzzle)):
            raise DataError(
                f"the gold of task 'sudoku4' is a puzzle of 16 digits from 0 to 4, a "
                f"space and its solution, or the solution alone; got {gold!r:.80}"
            )
        found = self.postprocess(prediction, cfg)
        grid = found or "." * 16
        empty = [i for i, digit in enumerate(puzzle) if digit == "0"]
        share = sum(grid[i] == solution[i] for i in empty) / len(empty) if empty else 0
        numbers = {
            "cells": share if empty else float(grid == solution),
            "valid": float(is_solved(grid)),
            "givens_kept": float(keeps(grid, puzzle)),
        }
        return Verdict(found, solution, is_solved(grid, puzzle), numbers)

    def reward(self, prediction: str, example: Example) -> float:
        """Return the share of empty cells that are right, 0 if a given was changed."""
        numbers = self.judge(prediction, example.gold, {}).numbers
        return numbers["cells"] * numbers["givens_kept"]


def is_solved(grid: str, puzzle: str = "0" * 16) -> bool:
    """Return whether each unit has 1, 2, 3 and 4, and the digits given are kept."""
    if not re.fullmatch(r"[1-4]{16}", grid) or not keeps(grid, puzzle):
        return False
    return all(len({grid[i] for i in unit}) == 4 for unit in _UNITS)


def keeps(grid: str, puzzle: str) -> bool:
    """Return whether `grid` has the digits that `puzzle` gives."""
    return len(grid) == len(puzzle) and all(
        given in ("0", digit) for given, digit in zip(puzzle, grid, strict=True)
    )


@cache
def grids() -> tuple[str, ...]:
    """Return all full grids that break no rule, in the order of their digits."""
    found: list[str] = []

    def extend(start: str) -> None:
        if len(start) == 16:
            found.append(start)
            return
        i = len(start)
        near = {j for unit in _UNITS if i in unit for j in unit if j < i}
        taken = {start[j] for j in near}
        for digit in "1234":
            if digit not in taken:
                extend(start + digit)

    extend("")
    return tuple(found)


@cache
def _grids_with() -> dict[tuple[int, str], int]:
    """Return, for a cell and its digit, the set of grids with it, one bit for each."""
    sets: dict[tuple[int, str], int] = {}
    for number, grid in enumerate(grids()):
        for cell in enumerate(grid):
            sets[cell] = sets.get(cell, 0) | 1 << number
    return sets


def solutions(puzzle: str) -> int:
    """Return how many grids solve a puzzle."""
    left = (1 << len(grids())) - 1
    for cell, digit in enumerate(puzzle):
        if digit != "0":
            left &= _grids_with()[cell, digit]
    return left.bit_count()


def _make(numbers: list[float]) -> tuple[str, tuple[str, str]] | None:
    """Make a puzzle from 18 uniform numbers: a grid, how many holes, and which."""
    grid = grids()[int(numbers[0] * len(grids()))]
    low, high = _HOLES
    holes = low + int(numbers[1] * (high - low + 1))
    order = sorted(range(16), key=lambda cell: numbers[2 + cell])
    empty = set(order[:holes])
    puzzle = "".join("0" if i in empty else digit for i, digit in enumerate(grid))
    return (puzzle, (puzzle, grid)) if solutions(puzzle) == 1 else None
