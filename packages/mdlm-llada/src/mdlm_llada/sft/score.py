"""How many decoded answers to held-out prompts are right."""

from __future__ import annotations

from collections.abc import Callable

from accelerate import PartialState

from mdlm_core.data.batch import Batch
from mdlm_core.protocols import DataSource
from mdlm_core.tasks.bound import gather
from mdlm_llada.registry import get_task
from mdlm_llada.scoring.statistics import wilson
from mdlm_llada.template import answer_text

from .answers import Answer, longest_answer
from .held_out import held_out, places

Decode = Callable[[Batch, int], list[Answer]]
"""``(rows, answer length) -> answers``, one for each row."""


def score_answers(
    decode: Decode, source: DataSource, task: str, *, count: int, length: int = 0
) -> dict[str, float]:
    """Decode answers to held-out prompts, and judge them by the task.

    Every process answers its own share of the batches, and all get the same numbers.

    Args:
        decode: the model.
        source: data whose ``examples("validation")`` are those of its rows.
        task: the name of the task, which judges.
        count: how many prompts, spread evenly; 0 means all.
        length: tokens of an answer; 0 takes the longest of these answers.

    Returns:
        ``accuracy``, the ends of its 95 % interval (Wilson, 1927) and ``nfe``, the
        mean number of forward passes of an answer.
    """
    judge = get_task(task)
    examples = source.examples("validation")  # type: ignore[attr-defined]
    asked = [examples[place] for place in places(source, count)]
    batches = list(held_out(source, count))
    length = length or longest_answer(batches)
    template = str(getattr(source, "template", "none"))
    state = PartialState()
    mine, start = [], 0
    for index, batch in enumerate(batches):
        if index % state.num_processes == state.process_index:
            answers = decode(batch, length)
            pairs = zip(answers, asked[start : start + len(batch)], strict=True)
            mine.append(
                [
                    (
                        judge.correct(
                            answer_text(source.tokenizer, answer.ids, template), example
                        ),
                        answer.nfe,
                    )
                    for answer, example in pairs
                ]
            )
        start += len(batch)
    found = [item for part in gather(mine) for item in part]
    right, total = sum(correct for correct, _ in found), len(found)
    share = wilson(right, total)
    return {
        "accuracy": share.value,
        "accuracy_low": share.low,
        "accuracy_high": share.high,
        "nfe": sum(nfe for _, nfe in found) / total,
    }
