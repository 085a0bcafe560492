"""Prompts without answers, for learning from rewards.

Letters: B rows of a batch, R rows of a split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from mdlm_core.data.batch import Batch
from mdlm_core.errors import DataError, UsageError
from mdlm_core.protocols import Tokenizer
from mdlm_llada.config import PromptsConfig, TaskRowsConfig
from mdlm_llada.registry import Example
from mdlm_llada.template import end_id, prompt_ids

from .examples import read_examples
from .rows import Row, Rows
from .sources import RowSource


class PromptSource(RowSource):
    """Rows of a prompt and one end of text, which is all there is to an answer.

    That end is the only free position of a row; answers are written from there on.
    Each training batch comes `repeats` times in a row.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        splits: Mapping[str, Rows],
        config: PromptsConfig,
        *,
        template: str = "none",
        card: Mapping[str, object] | None = None,
        examples: Mapping[str, Sequence[Example]] | None = None,
    ) -> None:
        """Take over the rows; see `RowSource`."""
        super().__init__(
            tokenizer,
            splits,
            config,
            template=template,
            card={**(card or {}), "repeats": config.repeats},
            examples=examples,
        )
        self.repeats = config.repeats

    def size(self, split: str) -> int:
        """Return the rows that `split` gives in an epoch, repeated ones counted."""
        times = self.repeats if split == "train" else 1
        return super().size(split) * times

    def steps_per_epoch(self, batch: int) -> int:
        """Return the batches of `batch` rows in which all training rows come.

        Those that fill no batch wait for the next epoch; the others come `repeats`
        times.
        """
        return super().size("train") // batch * self.repeats

    def batches(
        self,
        split: str,
        *,
        size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """Yield this process's rows of global batch `start`, `start + 1`, ...

        Training batch k holds the rows of batch ``k // repeats`` of `RowSource`.

        Raises:
            DataError: at once, if the training rows do not fill one batch.
        """
        times = self.repeats if split == "train" else 1
        found = super().batches(
            split, size=size, seed=seed, start=start // times, rank=rank, world=world
        )
        repeated = (batch for batch in found for _ in range(times))
        return islice(repeated, start % times, None)


def build(config: PromptsConfig) -> PromptSource:
    """Return the data source of a task's prompts.

    Raises:
        ConfigError: if the template does not go with the tokenizer.
        DataError: if there is no prompt, or none fits.
        UnknownNameError: if there is no such task.
    """
    limits = TaskRowsConfig(
        task=config.task,
        path=config.path,
        template=config.template,
        rows=config.rows,
        held_out=config.held_out,
        train_ratio=config.train_ratio,
    )
    return read_examples(
        config, limits, name="llada-prompts", kind=PromptSource, encoded=_encoded
    )


def _encoded(tokenizer: Tokenizer, example: Example, template: str) -> Row:
    try:
        prompt = prompt_ids(tokenizer, example.prompt, template)
    except (DataError, UsageError) as error:
        raise DataError(f"example '{example.id}': {error}") from None
    if not prompt:
        raise DataError(f"example '{example.id}' has an empty prompt")
    end = end_id(tokenizer, template)
    return Row([*prompt, end], len(prompt), f"example '{example.id}'")
