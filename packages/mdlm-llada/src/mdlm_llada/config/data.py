"""Settings of the data sets for fine-tuning. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mdlm_core.config.schema import at_least, require

Template = Literal["auto", "llada", "plain", "none"]
"""How a prompt becomes text: LLaDA's chat template; the prompt and a line break; the
prompt alone. auto is llada if the tokenizer has the header tokens, and plain if not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsConfig:
    """What all data of prompts and answers share."""

    tokenizer: str = "byte"
    """byte, or the name or folder of a Hugging Face tokenizer."""
    mask_token_id: int | None = None
    """The mask, for a tokenizer that does not name one."""
    max_length: int = 512
    """Tokens of a row, prompt and answer together, at most."""
    too_long: Literal["drop", "truncate", "error"] = "drop"
    """What happens to longer rows."""
    eos_pad: Literal["none", "loss", "loss_k", "fixed"] = "none"
    """What stands behind the end of a row in a batch: padding that nobody sees; ends
    of text that are learned, up to the longest row (LLaDA); `eos_count` of them; or as
    many as make each answer `answer_length` long, which is how it is decoded."""
    eos_count: int = 8
    """Learned ends of text behind each answer, for eos_pad=loss_k."""
    answer_length: int = 0
    """Tokens of an answer with its ends, for eos_pad=fixed, which needs it; longer
    ones stay. What else pads has no use for it."""
    train_ratio: float = 0.9
    """Share of the rows to learn from, chosen by a hash; 1.0 holds nothing out."""
    random_length: float = 0.0
    """Chance that a batch is cut to a random length; LLaDA's pretraining has 0.01."""

    def __post_init__(self) -> None:
        at_least(2, "data", self, "max_length")
        at_least(1, "data", self, "eos_count")
        at_least(0, "data", self, "answer_length")
        require(
            self.eos_pad != "fixed" or self.answer_length > 0,
            "data.eos_pad is fixed and data.answer_length is 0; say how long answers "
            "become, as in data.answer_length=64, or choose another data.eos_pad",
        )
        require(
            0 < self.train_ratio <= 1,
            f"data.train_ratio is {self.train_ratio}; it must be in (0, 1]",
        )
        require(
            0 <= self.random_length <= 1,
            f"data.random_length is {self.random_length}; it must be in [0, 1]",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessedConfig(RowsConfig):
    """JSON lines of `input_ids` and `prompt_length`, from `mdlm llada preprocess`."""

    path: str = ""
    """The file; beside it stands FILE.meta.json, which names its tokenizer."""
    validation_path: str = ""
    """Rows to measure on; empty takes a share of `path`, see `train_ratio`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRowsConfig(RowsConfig):
    """The examples of a task of the registry, tokenised on the fly."""

    task: str = "addition"
    """gsm8k, countdown, sudoku4, addition, math, humaneval, mbpp, arc, jsonl, ..."""
    path: str = ""
    """Where the task's files are; empty for tasks that generate their examples."""
    template: Template = "auto"
    """How a prompt becomes text."""
    rows: int = 10_000
    """Examples to learn from, at most; 0 means all (generated ones need a number)."""
    held_out: int = 256
    """Examples to measure on, at most."""

    def __post_init__(self) -> None:
        RowsConfig.__post_init__(self)
        at_least(0, "data", self, "rows")
        at_least(1, "data", self, "held_out")


def _no_learned_ends(config: RowsConfig) -> None:
    """Refuse ends of text behind rows where nothing learns them."""
    require(
        config.eos_pad == "none",
        f"data.eos_pad is {config.eos_pad}; answers that are compared or rewarded end "
        f"with one end of text: set data.eos_pad=none",
    )
    require(
        config.random_length == 0,
        f"data.random_length is {config.random_length}; it is for text without "
        f"prompts: set data.random_length=0",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferencesConfig(RowsConfig):
    """JSON lines of `prompt`, `chosen` and `rejected`, for preference optimisation."""

    path: str = ""
    """The file; empty makes sums with a right and a wrong answer, to try it out."""
    template: Template = "auto"
    """How a prompt becomes text."""
    rows: int = 0
    """Pairs, at most; 0 means all of the file, or 1000 sums."""

    def __post_init__(self) -> None:
        RowsConfig.__post_init__(self)
        at_least(0, "data", self, "rows")
        _no_learned_ends(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptsConfig(RowsConfig):
    """The prompts of a task alone, for learning from rewards."""

    task: str = "addition"
    """A task of the registry that gives rewards."""
    path: str = ""
    """Where the task's files are."""
    template: Template = "auto"
    """How a prompt becomes text."""
    rows: int = 1000
    """Prompts, at most; 0 means all."""
    held_out: int = 64
    """Prompts to measure on, at most."""
    repeats: int = 1
    """How many batches in a row have the same prompts: the inner steps."""

    def __post_init__(self) -> None:
        RowsConfig.__post_init__(self)
        at_least(0, "data", self, "rows")
        at_least(1, "data", self, "held_out", "repeats")
        _no_learned_ends(self)
        require(
            self.too_long != "truncate",
            "data.too_long is truncate, but a prompt that is cut is another prompt; "
            "set data.too_long to drop or error",
        )
