"""Addition with a scratchpad: each column with its carry, and then the sum.

``864+394`` is answered by ``4+4+0=8;6+9+0=15;8+3+1=12#### 1258``. A small model learns
it from nothing in minutes, so that all of training, decoding and scoring can be tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from mdlm_core.errors import ConfigError, DataError
from mdlm_llada.extract.numbers import last_integer
from mdlm_llada.registry import BaseTaskSpec, Example, Settings

from .files import count, find, id_of, instructed, rows_of, text_of
from .generated import draw_items

_DIGITS = 3


class Addition(BaseTaskSpec):
    """Sums of two numbers; ``cfg["digits"]`` of each, 3 unless given."""

    name = "addition"
    summary = "Sums of two three-digit numbers with a scratchpad; generated."
    settings = ("digits",)
    generated = True
    instructions = (
        "Add the two numbers. Write the sum of each column from the right with its "
        "carry, and then the result after ####."
    )

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return sums that are generated, or those of a file."""
        if cfg.get("path"):
            return self._read(split, cfg)
        digits = cfg.get("digits", _DIGITS)
        if not isinstance(digits, int) or not 1 <= digits <= 12:
            raise ConfigError(f"digits is {digits!r}; it must be from 1 to 12")
        top = 10**digits

        def make(numbers: list[float]) -> tuple[str, tuple[int, int]]:
            a, b = (int(u * top) for u in numbers)
            return f"{min(a, b)}+{max(a, b)}", (a, b)

        pairs = draw_items(self.name, split, cfg, 2, make)
        return [
            self._example(f"{split}-{i}", f"{a:0{digits}d}+{b:0{digits}d}", "", cfg)
            for i, (a, b) in enumerate(pairs)
        ]

    def _read(self, split: str, cfg: Settings) -> list[Example]:
        names = ("{split}.jsonl", "addition*_{split}.jsonl", "add*_{split}.jsonl")
        path = find(str(cfg["path"]), split, names, self.name)
        return [
            self._example(
                id_of(row, index),
                text_of(row, where, "question", "prompt"),
                text_of(row, where, "answer"),
                cfg,
            )
            for index, where, row in rows_of(path, count(split, cfg))
        ]

    def _example(self, id_: str, question: str, answer: str, cfg: Settings) -> Example:
        answer = answer or worked(question)
        prompt = instructed(question, cfg, self.instructions)
        return Example(id=id_, prompt=prompt, answer=answer, gold=answer)

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return the number after the last ####, or None."""
        return last_integer(pred.rpartition("####")[2]) if "####" in pred else None

    def expected(self, gold: str, cfg: Settings) -> str | None:
        """Return the sum, from a worked answer or a number alone."""
        expected = last_integer(gold.rpartition("####")[2])
        if expected is None:
            raise DataError(
                f"the gold of task 'addition' is a whole number, or an answer that "
                f"ends with '#### N'; got {gold!r:.80}"
            )
        return expected


def worked(question: str) -> str:
    """Return the scratchpad and the sum of ``a+b``, both with the same digits."""
    left, _, right = question.partition("+")
    steps, carry = [], 0
    for x, y in zip(reversed(left), reversed(right), strict=True):
        total = int(x) + int(y) + carry
        steps.append(f"{x}+{y}+{carry}={total}")
        carry = total // 10
    return f"{';'.join(steps)}#### {int(left) + int(right)}"
