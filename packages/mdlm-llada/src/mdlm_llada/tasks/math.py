r"""MATH: competition problems with answers in LaTeX (Hendrycks et al., 2103.03874).

The files have `problem` and `solution`, whose answer stands in the last ``\boxed{}``;
MATH-500 also has `answer`. Answers are equal if they are the same text after being
written in one way, the same number, or if sympy says that their difference is 0.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

from mdlm_core.errors import ConfigError, DataError
from mdlm_llada.extract.boxed import last_boxed
from mdlm_llada.extract.equal import Equality
from mdlm_llada.extract.latex import find_answer, normalise
from mdlm_llada.registry import BaseTaskSpec, Example, Settings, Verdict

from .files import count, find, id_of, instructed, require_path, rows_of, text_of

_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_log = logging.getLogger(__name__)
_FILES = ("{split}.jsonl", "math*{split}.jsonl", "{split}.jsonl.gz")


class Math(BaseTaskSpec):
    """Competition problems; ``cfg["style"]`` is plain or minerva (``Problem: ...``).

    ``cfg["seconds"]`` is the time limit of one comparison by sympy, 5 unless given.
    """

    name = "math"
    summary = "Competition problems in LaTeX; files of the user's."
    settings = ("style", "seconds")
    stop = ("Problem:",)
    instructions = r"Solve the problem step by step. Put the final answer in \boxed{}."

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return the problems of a file."""
        style = cfg.get("style", "plain")
        if style not in ("plain", "minerva"):
            raise ConfigError(f"style is {style!r}; it must be plain or minerva")
        examples = []
        path = find(require_path(self.name, cfg), split, _FILES, self.name)
        for index, where, row in rows_of(path, count(split, cfg)):
            problem = text_of(row, where, "problem")
            solution = text_of(row, where, "solution", "answer")
            gold = self.gold_of(row)
            if gold is None:
                raise DataError(rf"{where}: the solution has no \boxed{{}}")
            if style == "minerva":
                problem = f"Problem:\n{problem}\n\nSolution:"
            meta: dict[str, object] = {
                key: row[key] for key in ("level", "type", "subject") if key in row
            }
            prompt = instructed(problem, cfg, self.instructions)
            examples.append(
                Example(id_of(row, index, "unique_id"), prompt, solution, gold, meta)
            )
        return examples

    def gold_of(self, row: Mapping[str, Any]) -> str | None:
        """Return the answer of a row: given, or boxed in its solution."""
        if isinstance(row.get("solution"), str) and row.get("answer") is None:
            return last_boxed(row["solution"])
        return super().gold_of(row)

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return the answer of a solution, written in the one way."""
        found = find_answer(pred)
        return normalise(found[0]) if found else None

    def expected(self, gold: str, cfg: Settings) -> str | None:
        """Return the gold in the one way; it may be a whole solution."""
        boxed = last_boxed(gold)
        return normalise(gold if boxed is None else boxed)

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Compare answers; `how` says what decided.

        text, number or sympy; unread if sympy cannot read one of the two, slow if it
        took too long, and missing if the parser of LaTeX is not installed.
        """
        expected = self.expected(gold, cfg) or ""
        found = find_answer(prediction)
        if found is None:
            return Verdict(None, expected, False, {"exact_match": 0.0}, "no answer")
        answer = normalise(found[0])
        same, how = same_answer(answer, expected, float(cfg.get("seconds", 5.0)))
        exact = {"exact_match": float(answer == expected)}
        return Verdict(answer, expected, same, exact, how)


def same_answer(first: str, second: str, seconds: float = 5.0) -> tuple[bool, str]:
    """Return whether two normalised answers are equal, and what decided.

    Args:
        first: an answer.
        second: the other.
        seconds: time limit for sympy.
    """
    if first == second:
        return bool(first), "text"
    numbers = _number(first), _number(second)
    if None not in numbers:
        return numbers[0] == numbers[1], "number"
    said = _equality(seconds).ask(first, second)
    if said == "missing":
        _say_missing()
    return said == "equal", "sympy" if said in ("equal", "different") else said


@cache
def _say_missing() -> None:
    """Say once that answers are compared as texts and numbers alone."""
    _log.warning(
        "the parser of LaTeX is not installed, so that equal answers in other words "
        "count as wrong; they are told as 'missing'. Install it with: pip install "
        "'mdlm-llada[math]'"
    )


def _number(text: str) -> Fraction | None:
    if match := _FRACTION.fullmatch(text):
        text = f"{match[1]}{match[2]}/{match[3]}"
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


@cache
def _equality(seconds: float) -> Equality:
    import atexit

    made = Equality(seconds=seconds)
    atexit.register(made.close)
    return made
