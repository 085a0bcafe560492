"""The examples of a task as rows of token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, TypeVar

from mdlm_core.data.split import SPLITS, is_held_out
from mdlm_core.data.tokenizers import utf8
from mdlm_core.errors import DataError
from mdlm_core.protocols import Tokenizer
from mdlm_llada.config import RowsConfig, TaskRowsConfig
from mdlm_llada.registry import BaseTaskSpec, Example, get_task
from mdlm_llada.template import answer_ids, prompt_ids, resolve_template
from mdlm_llada.tokenizer import load_tokenizer

from .rows import Gathered, Row
from .sources import RowSource

Source = TypeVar("Source", bound=RowSource)


def encode(tokenizer: Tokenizer, example: Example, template: str) -> Row:
    """Return an example as a row; the answer ends with one end token.

    Prompt and answer are encoded apart, because decoding begins with the prompt's
    tokens alone.

    Args:
        tokenizer: makes the ids.
        example: a prompt and its answer.
        template: as `resolve_template` returns it.

    Raises:
        DataError: if there is no answer to learn, or its text cannot be encoded.
    """
    if not example.answer:
        raise DataError(
            f"example '{example.id}' has no answer to learn, only the result "
            f"{example.gold!r}; use data whose answers are written out"
        )
    try:
        prompt = prompt_ids(tokenizer, example.prompt, template)
        answer = answer_ids(tokenizer, example.answer, template)
    except DataError as error:
        raise DataError(f"example '{example.id}': {error}") from None
    return Row([*prompt, *answer], len(prompt), f"example '{example.id}'")


def divide(
    examples: Sequence[Example], share: float
) -> tuple[list[Example], list[Example]]:
    """Return the examples to learn from, and those held out, by a hash of their text.

    An example is on the same side whatever the tokenizer, the other examples and their
    order are.

    Args:
        examples: all there are.
        share: the expected share to learn from, in (0, 1].
    """
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        text = sha256(utf8(example.prompt)).digest() + utf8(example.answer)
        sides[is_held_out(sha256(text).digest(), 1 - share)].append(example)
    return sides


def divided(
    task: BaseTaskSpec, config: TaskRowsConfig
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Return the examples to learn from, and those to measure on.

    A task that generates its examples makes other ones to measure on. Of examples from
    files a share is held out, so that the test split is not used up in training; with
    `train_ratio` 1 nothing is, and the test split is measured on, if there is one.
    """
    cfg: dict[str, Any] = {"path": config.path}
    if task.generated and not config.path:
        cfg.update(rows=config.rows, held_out=config.held_out)
        return task.build_dataset("train", cfg), task.build_dataset("test", cfg)
    cfg.update(rows=0, held_out=0)  # all of them; the limits are for each side
    train, held = divide(task.build_dataset("train", cfg), config.train_ratio)
    if config.train_ratio == 1 and "test" in task.splits(cfg):
        held = list(task.build_dataset("test", cfg))
    return train[: config.rows or None], held[: config.held_out]


def read_examples(
    config: RowsConfig,
    limits: TaskRowsConfig,
    *,
    name: str,
    kind: Callable[..., Source],
    encoded: Callable[[Tokenizer, Example, str], Row],
) -> Source:
    """Return the data source of a task's examples, see `divided`.

    Args:
        config: of the rows.
        limits: which examples, and how many.
        name: of the data, for its card.
        kind: what is built.
        encoded: makes a row of an example, by a tokenizer and a template.

    Raises:
        ConfigError: if the template does not go with the tokenizer.
        DataError: if there is no example, or none fits.
        UnknownNameError: if there is no such task.
    """
    task = get_task(limits.task)
    tokenizer = load_tokenizer(config.tokenizer, config.mask_token_id)
    template = resolve_template(limits.template, tokenizer)
    sides = dict(zip(SPLITS, divided(task, limits), strict=True))
    gathered = {split: Gathered(config) for split in sides}
    examples: dict[str, tuple[Example, ...]] = {}
    for split, given in sides.items():
        examples[split] = tuple(
            example
            for example in given
            if gathered[split].add(encoded(tokenizer, example, template))
        )
        if split == "train" or limits.train_ratio < 1:
            gathered[split].fit.check(f"the {split} split of task '{task.name}'")
        gathered[split].fit.tell(f"the {split} split of task '{task.name}'")
    return kind(
        tokenizer,
        {split: found.rows() for split, found in gathered.items()},
        config,
        template=template,
        card={
            "name": name,
            "task": task.name,
            "path": limits.path,
            "too_long": {split: found.fit.card() for split, found in gathered.items()},
        },
        examples=examples,
    )
