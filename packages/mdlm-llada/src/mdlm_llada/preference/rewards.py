"""What an answer is worth. Letters: B prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

from accelerate import PartialState

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.protocols import DataSource
from mdlm_core.tasks.bound import gather
from mdlm_llada.registry import Example, get_task
from mdlm_llada.scoring.statistics import wilson
from mdlm_llada.sft.answers import Answer
from mdlm_llada.sft.held_out import held_out, places
from mdlm_llada.template import answer_text

Decode = Callable[[Batch], list[Answer]]
"""From prompts to one answer each."""


class Judge:
    """Gives rewards to answers to the prompts of a data source.

    The data are read when the first answer is judged.
    """

    def __init__(self, source: DataSource, task: str, *, partial: float = 0.0) -> None:
        """Take the task that judges.

        Args:
            source: data with ``examples(split)``, one for each row.
            task: the name of their task.
            partial: the share of the reward for being like the written-out answer.

        Raises:
            ConfigError: if the task runs what it judges as a program.
        """
        self.task = get_task(task)
        if self.task.runs_code:
            raise ConfigError(
                f"answers of the task '{task}' are programs, which are not run during "
                f"training; use another data.task"
            )
        self.source = source
        self.partial = partial

    def example(self, split: str, row: int) -> Example:
        """Return what row number `row` of a split was made from.

        Raises:
            ConfigError: if the data do not say.
        """
        examples = getattr(self.source, "examples", None)
        found: Sequence[Example] | None = None if examples is None else examples(split)
        if found is None:
            raise ConfigError(
                "the data do not say what a right answer is, so that there is no "
                "reward; use data.name=llada-prompts"
            )
        return found[row]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer, up to its end."""
        template = str(getattr(self.source, "template", "none"))
        return answer_text(self.source.tokenizer, ids, template)

    def reward(self, split: str, row: int, text: str) -> float:
        """Return the reward of a text: the task's own, and a share for likeness.

        Likeness is the ratio of `difflib.SequenceMatcher`: twice the characters in
        common blocks over those of both texts.

        Raises:
            DataError: if a reward is not finite, or there is no answer to be like.
        """
        example = self.example(split, row)
        value = float(self.task.reward(text, example))
        if not math.isfinite(value):
            raise DataError(
                f"task '{self.task.name}' gives example '{example.id}' the reward "
                f"{value}; it must be a finite number"
            )
        if not self.partial:
            return value
        if not example.answer:
            raise DataError(
                f"task.partial is {self.partial}, but example '{example.id}' has no "
                f"written-out answer to be like; set task.partial=0"
            )
        matcher = SequenceMatcher(None, example.answer, text, autojunk=False)
        return (1 - self.partial) * value + self.partial * matcher.ratio()

    def measure(self, decode: Decode, *, count: int) -> dict[str, float]:
        """Answer held-out prompts, and return what the answers are worth.

        Every process answers its own share, and all get the same numbers.

        Args:
            decode: the model.
            count: how many prompts, spread evenly; 0 means all.

        Returns:
            ``reward`` with ``reward_se``, ``accuracy`` with the ends of its 95 %
            interval (Wilson, 1927), and ``nfe``, the forward passes of an answer.
        """
        asked = places(self.source, count)
        state, mine, start = PartialState(), [], 0
        for index, batch in enumerate(held_out(self.source, count)):
            rows = asked[start : start + len(batch)]
            start += len(batch)
            if index % state.num_processes != state.process_index:
                continue
            mine.append(
                [
                    (*self._judged(row, self.text(answer.ids)), float(answer.nfe))
                    for row, answer in zip(rows, decode(batch), strict=True)
                ]
            )
        found = [item for part in gather(mine) for item in part]
        rewards, right, nfe = zip(*found, strict=True)
        total = len(found)
        mean = sum(rewards) / total
        share = wilson(int(sum(right)), total)
        numbers = {"reward": mean, "nfe": sum(nfe) / total}
        if total > 1:
            spread = sum((value - mean) ** 2 for value in rewards) / (total - 1)
            numbers["reward_se"] = math.sqrt(spread / total)
        return numbers | {
            "accuracy": share.value,
            "accuracy_low": share.low,
            "accuracy_high": share.high,
        }

    def _judged(self, row: int, text: str) -> tuple[float, float]:
        right = self.task.correct(text, self.example("validation", row))
        return self.reward("validation", row, text), float(right)
