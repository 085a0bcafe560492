"""What a task is: examples, how an answer is read, and when it is right. Light."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from mdlm_core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog

Settings = Mapping[str, Any]
"""Settings of a task: path, rows, held_out, seed, and what the task adds."""

SHARED_SETTINGS = ("path", "rows", "held_out", "seed", "instructions")
"""Settings that every task has; see `BaseTaskSpec.build_dataset`."""

GOLD_KEYS = ("gold_raw", "answer", "gold", "output", "ground_truth", "label")
"""Names under which files hold what is right, the first that is there wins."""


@dataclass(frozen=True, slots=True)
class Example:
    """One item of a task."""

    id: str
    """Unique in its split, and the same each time."""
    prompt: str
    """What is asked, without any chat template."""
    answer: str
    """The text to learn; empty if only the result is known."""
    gold: str
    """What a prediction is judged by; holds all that the judgement needs."""
    meta: Mapping[str, object] = field(default_factory=dict)
    """What else is known, in terms of JSON."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one prediction."""

    extracted: str | None
    """The answer that was found in the text; None if there is none."""
    gold: str | None
    """The answer that was expected."""
    correct: bool
    numbers: Mapping[str, float] = field(default_factory=dict)
    """More to average over rows, for example one number for each way of reading."""
    how: str = ""
    """Which check decided, where there are several."""


@runtime_checkable
class TaskSpec(Protocol):
    """The least a task has; what else there is comes from `BaseTaskSpec`."""

    name: str

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Any]:
        """Return the examples of a split."""
        ...

    def collate_fn(self, batch: Sequence[Any]) -> Any:
        """Return several examples as one value."""
        ...

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return the answer in a text; None if there is none."""
        ...

    def metrics(
        self, pred_path: Path, gt_path: Path | None, cfg: Settings
    ) -> Mapping[str, float]:
        """Return the numbers of a file of predictions."""
        ...


class BaseTaskSpec(ABC):
    """A task: derive from it, write `build_dataset`, and register it."""

    name: str = ""
    """How it is called."""
    summary: ClassVar[str] = ""
    """One line for lists."""
    generated: ClassVar[bool] = False
    """Whether it makes its examples itself when ``cfg["path"]`` is empty."""
    runs_code: ClassVar[bool] = False
    """Whether judging runs a prediction as a program, which has to be allowed."""
    settings: ClassVar[tuple[str, ...] | None] = None
    """Names of the settings it has besides `SHARED_SETTINGS`; None: any."""
    stop: tuple[str, ...] = ()
    """Strings at which an answer ends."""
    instructions: str = ""
    """What a model that follows instructions is told first; ``cfg["instructions"]``
    (true or a text of one's own) puts it before every prompt."""

    @abstractmethod
    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return the examples of a split, in an order that is always the same.

        Args:
            split: "train" or "test", or another name that the task's files have.
            cfg: `path`: a file (read whatever the split is) or a folder with a file for
                each split; `rows` and `held_out`: how many examples to learn from and
                to measure on, at most, 0 for all; `seed`: which examples are
                generated; `instructions`: see the attribute.
        """

    def check(self, cfg: Settings) -> None:
        """Refuse settings that the task does not have.

        Raises:
            ConfigError: if there is one; near misses are named.
        """
        if self.settings is None:
            return
        code = ("run_code", "jobs", "timeout") if self.runs_code else ()
        known = sorted({*SHARED_SETTINGS, *self.settings, *code})
        for key in cfg:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                guess = f" (did you mean '{near[0]}'?)" if near else ""
                raise ConfigError(
                    f"task '{self.name}' has no setting '{key}'{guess}; it has "
                    f"{', '.join(known)}"
                )

    def require_code(self, cfg: Settings) -> None:
        """Refuse to run programs if ``cfg["run_code"]`` does not allow it.

        Raises:
            UsageError: if the task runs code and that is not allowed.
        """
        if self.runs_code and not cfg.get("run_code", False):
            raise UsageError(
                f"task '{self.name}' runs what a model wrote as a program; allow it "
                f"with --run-code (run_code=True), on a machine where that may go "
                f"wrong: limits on time and memory are no protection against ill will"
            )

    def splits(self, cfg: Settings) -> tuple[str, ...]:
        """Return the splits that stand apart; none if one file holds all rows."""
        if not cfg.get("path"):
            return ("train", "test")
        return (
            () if Path(str(cfg["path"])).expanduser().is_file() else ("train", "test")
        )

    def collate_fn(self, batch: Sequence[Example]) -> dict[str, list[Any]]:
        """Return examples as a mapping of lists, one list for each field."""
        names = ("id", "prompt", "answer", "gold", "meta")
        return {name: [getattr(example, name) for example in batch] for name in names}

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return the answer in a text; None if there is none."""
        return pred.strip() or None

    def gold_of(self, row: Mapping[str, Any]) -> str | None:
        """Return what is right from a row of a file; None if the row does not say."""
        for key in GOLD_KEYS:
            if row.get(key) is not None:
                return str(row[key])
        return None

    def expected(self, gold: str, cfg: Settings) -> str | None:
        """Return the answer that `gold` asks for; by default read as a prediction."""
        return self.postprocess(gold, cfg)

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Return what becomes of a prediction: equal answers are right."""
        found = self.postprocess(prediction, cfg)
        expected = self.expected(gold, cfg)
        return Verdict(found, expected, found is not None and found == expected)

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether a text answers the example."""
        return self.judge(prediction, example.gold, {}).correct

    def reward(self, prediction: str, example: Example) -> float:
        """Return the reward in [0, 1] of a text, for learning from rewards."""
        return float(self.correct(prediction, example))

    def metrics(
        self, pred_path: Path, gt_path: Path | None, cfg: Settings
    ) -> Mapping[str, float]:
        """Return total, correct, accuracy with its interval, and extraction rate.

        ``cfg["allow_missing"]`` leaves out rows that only one file has.
        """
        from mdlm_llada.scoring.report import score_files

        allow = bool(cfg.get("allow_missing", False))
        report = score_files(self, pred_path, gt_path, cfg, allow_missing=allow)
        return report.numbers()

    def build(self, config: Any, *, run: Any, catalog: Catalog) -> Any:
        """Return the task as something that trains, for the catalog.

        A module with the line ``build = MyTask().build`` can be named as the factory of
        a `mdlm_core.TaskSpec`, with `mdlm_llada.config.SFTConfig`, or what derives from
        it, as its settings. The run's data must be of this task.

        Raises:
            ConfigError: if the run's data are those of another task.
        """
        from mdlm_llada.registry import get_task
        from mdlm_llada.sft.task import build

        theirs = getattr(run.data.config, "task", None)
        if theirs is not None and get_task(theirs).name != self.name:
            raise ConfigError(
                f"task.name is '{self.name}' but data.task is '{theirs}'; set "
                f"data.task={self.name}, or task.name=llada-sft for any data"
            )
        return build(config, run=run, catalog=catalog)


class Adapted(BaseTaskSpec):
    """A task that has only the methods of the protocol `TaskSpec`."""

    def __init__(self, wrapped: TaskSpec) -> None:
        self.wrapped = wrapped
        self.name = wrapped.name

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return the wrapped task's examples.

        Raises:
            ConfigError: if they are no `Example`.
        """
        rows = self.wrapped.build_dataset(split, cfg)
        bad = next((row for row in rows if not isinstance(row, Example)), None)
        if bad is not None:
            raise ConfigError(
                f"build_dataset of task '{self.name}' gave a {type(bad).__name__}; it "
                f"must give mdlm_llada.registry.Example"
            )
        return rows

    def collate_fn(self, batch: Sequence[Example]) -> Any:
        """Call the wrapped task's method."""
        return self.wrapped.collate_fn(batch)

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Call the wrapped task's method."""
        return self.wrapped.postprocess(pred, cfg)

    def metrics(
        self, pred_path: Path, gt_path: Path | None, cfg: Settings
    ) -> Mapping[str, float]:
        """Call the wrapped task's method."""
        return self.wrapped.metrics(pred_path, gt_path, cfg)
