"""Pairs of answers to a prompt, one of them preferred.

A file has one JSON object a line: `prompt`, a text or the turns of a conversation,
and the texts `chosen` and `rejected`. Letters: B rows of a batch, L the length of its
rows, K that of the rows with the rejected answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.data.batch import Batch
from mdlm_core.data.source import share
from mdlm_core.data.split import SPLITS, is_held_out
from mdlm_core.data.tokenizers import utf8
from mdlm_core.errors import DataError, UsageError
from mdlm_core.protocols import Tokenizer
from mdlm_llada.config import PreferencesConfig
from mdlm_llada.json_lines import read_rows
from mdlm_llada.template import Prompt, answer_ids, prompt_ids, resolve_template
from mdlm_llada.tokenizer import load_tokenizer

from .rows import Fit, Gathered, Row, Rows, collate
from .sources import RowSource

REJECTED = "rejected"
"""The condition with the tokens ``(B, K)``: prompt, rejected answer, padding."""
REJECTED_LENGTH = "rejected_length"
"""The condition ``(B,)``: how many of those are no padding."""

_SUMS = 1000


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, and two answers to it."""

    prompt: Prompt
    chosen: str
    rejected: str
    where: str
    """What an error calls it."""


class PreferenceSource(RowSource):
    """Rows of a prompt and its chosen answer, with the rejected one as a condition.

    ``condition["rejected"]`` ``(B, K)`` holds the same prompt with the rejected answer,
    and ``condition["rejected_length"]`` ``(B,)`` the tokens that are there. K is the
    same for all processes.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        chosen: Mapping[str, Rows],
        rejected: Mapping[str, Rows],
        config: PreferencesConfig,
        *,
        template: str = "none",
        card: Mapping[str, object] | None = None,
    ) -> None:
        """Take over the rows: those of an index belong together."""
        super().__init__(tokenizer, chosen, config, template=template, card=card)
        self._rejected = dict(rejected)

    def _batch(
        self,
        split: str,
        whole: NDArray[Any],
        rank: int,
        world: int,
        epoch: int = 0,
        cut: float | None = None,
    ) -> Batch:
        batch = super()._batch(split, whole, rank, world, epoch, cut)
        rows = self._rejected[split]
        lengths = rows.lengths[whole]
        mine = share(lengths, rank, world)
        other = collate(
            rows,
            share(whole, rank, world),
            width=int(lengths.max()),
            learned=mine,
            eod_id=self.tokenizer.eod_id,
            pad_id=self.tokenizer.pad_id,
        )
        condition = {
            REJECTED: other.tokens,
            REJECTED_LENGTH: torch.from_numpy(mine.astype(np.int64)),
        }
        return replace(batch, condition=condition)

    def _split_card(self, split: str) -> Mapping[str, object]:
        facts = super()._split_card(split)
        return {**facts, "rejected_sha256": self._rejected[split].sha256()}


def build(config: PreferencesConfig) -> PreferenceSource:
    """Return the data source of a file of pairs, or of sums if there is none.

    All pairs of a prompt are on the same side: to learn from, or to measure on.

    Raises:
        ConfigError: if the template does not go with the tokenizer.
        DataError: which line is no pair, or that no pair is left.
    """
    tokenizer = load_tokenizer(config.tokenizer, config.mask_token_id)
    template = resolve_template(config.template, tokenizer)
    pairs = _read(Path(config.path).expanduser()) if config.path else sums(config.rows)
    fit = Fit(config.max_length, config.too_long)
    sides = {
        name: {split: Gathered(config) for split in SPLITS}
        for name in ("chosen", "rejected")
    }
    for number, pair in enumerate(pairs):
        if config.rows and number >= config.rows:
            break
        chosen, rejected = _encoded(tokenizer, pair, template)
        # A pair stays or goes as one: the longer answer decides.
        if fit(max(chosen, rejected, key=lambda row: len(row.ids))) is None:
            continue
        digest = sha256(utf8(json.dumps(pair.prompt, ensure_ascii=False))).digest()
        split = SPLITS[is_held_out(digest, 1 - config.train_ratio)]
        sides["chosen"][split].add(chosen)
        sides["rejected"][split].add(rejected)
    what = f"'{config.path}'" if config.path else "data.rows"
    fit.check(what)
    fit.tell(what)
    _check_split(sides["chosen"], config, what)
    found = {
        name: {split: gathered.rows() for split, gathered in side.items()}
        for name, side in sides.items()
    }
    return PreferenceSource(
        tokenizer,
        found["chosen"],
        found["rejected"],
        config,
        template=template,
        card={
            "name": "llada-preferences",
            "path": config.path,
            "too_long": fit.card(),
        },
    )


def _check_split(
    side: Mapping[str, Gathered], config: PreferencesConfig, what: str
) -> None:
    """Refuse a side without pairs.

    Raises:
        DataError: which one.
    """
    for split, gathered in side.items():
        wanted = split == "train" or config.train_ratio < 1
        if wanted and not gathered.fit.kept:
            raise DataError(
                f"{what} has no pair for the {split} split: whole prompts are divided "
                f"by a hash, and data.train_ratio is {config.train_ratio}; change it, "
                f"or give more pairs"
            )


def _read(path: Path) -> Iterator[Pair]:
    """Yield the pairs of a file.

    Raises:
        DataError: file, line, field and rule.
    """
    for where, row in read_rows(path):
        chosen, rejected = (_text(row, where, name) for name in ("chosen", "rejected"))
        if chosen == rejected:
            raise DataError(
                f"{where}: 'chosen' and 'rejected' are the same text, so that nothing "
                f"is preferred; remove the line"
            )
        yield Pair(_prompt(row, where), chosen, rejected, where)


def _text(row: Mapping[str, Any], where: str, name: str) -> str:
    value = row.get(name)
    if isinstance(value, str) and value:
        return value
    if name not in row:
        keys = ", ".join(sorted(map(repr, row))) or "none"
        raise DataError(f"{where} has no field '{name}'; its fields are {keys}")
    raise DataError(
        f"{where}: the field '{name}' is {value!r}; it must be a text that is not empty"
    )


def _prompt(row: Mapping[str, Any], where: str) -> Prompt:
    value = row.get("prompt")
    turns = isinstance(value, list) and all(isinstance(turn, dict) for turn in value)
    if turns and value:
        return cast("Prompt", value)
    return _text(row, where, "prompt")


def _encoded(tokenizer: Tokenizer, pair: Pair, template: str) -> tuple[Row, Row]:
    """Return the rows of both answers; each answer ends with one end token."""
    try:
        prompt = prompt_ids(tokenizer, pair.prompt, template)
        chosen, rejected = (
            Row(
                [*prompt, *answer_ids(tokenizer, text, template)],
                len(prompt),
                pair.where,
            )
            for text in (pair.chosen, pair.rejected)
        )
    except (DataError, UsageError) as error:
        raise DataError(f"{pair.where}: {error}") from None
    return chosen, rejected


def sums(count: int) -> Iterable[Pair]:
    """Yield sums with their right answer, and one whose carries are all wrong.

    Args:
        count: how many; 0 takes 1000.
    """
    from mdlm_llada.tasks.addition import Addition

    examples = Addition().build_dataset("train", {"rows": count or _SUMS})
    for example in examples:
        yield Pair(
            example.prompt,
            example.answer,
            miscarried(example.prompt),
            f"sum '{example.id}'",
        )


def miscarried(question: str) -> str:
    """Return a worked answer to ``a+b`` that carries 1 just where there is none.

    The numbers have the same digits, two or more, so that it is always wrong.
    """
    left, _, right = question.partition("+")
    steps, digits, carry, right_carry = [], "", 0, 0
    for place, (x, y) in enumerate(zip(reversed(left), reversed(right), strict=True)):
        carry = 1 - right_carry if place else 0
        total = int(x) + int(y) + carry
        steps.append(f"{x}+{y}+{carry}={total}")
        right_carry = (int(x) + int(y) + right_carry) // 10
        digits = (
            f"{total % 10}{digits}" if place < len(left) - 1 else f"{total}{digits}"
        )
    return f"{';'.join(steps)}#### {int(digits)}"
