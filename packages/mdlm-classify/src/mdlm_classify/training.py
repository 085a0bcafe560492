"""A classifier that core's training makes: a run folder, and what is kept of it.

`fit` resolves a preset and the settings on top of it, trains in a run folder, and loads
its best checkpoint. A subclass says which settings (`_assignments`) and what scores
texts afterwards (`_use`).
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mdlm_core.catalog import load_catalog
from mdlm_core.config import RunConfig, resolve
from mdlm_core.errors import DataError
from mdlm_core.protocols import DataSource, Schedule, Task, Tokenizer
from mdlm_core.train.devices import choose_device
from mdlm_core.train.engine import start_processes
from mdlm_core.train.processes import on_main
from mdlm_core.train.runs import LoadedRun, load_run
from mdlm_core.train.start import train as start

from .config import LabelledTextConfig
from .data.duplicates import overlap, signatures
from .data.source import LabelledSource
from .data.texts import LabelledTexts
from .inputs import names_of
from .saved import Card, json_classes, load_classifier, write_run

IN_MEMORY = "(texts given in memory)"
"""What `data.path` says of a run whose texts came through `fit`."""


@dataclass
class Trained:
    """What is kept of a run."""

    config: RunConfig
    module: nn.Module
    """What was trained, in evaluation mode."""
    tokenizer: Tokenizer
    schedule: Schedule
    length: int
    step: int
    data: dict[str, Any]
    """What identifies the data."""

    @classmethod
    def of(cls, run: LoadedRun) -> Trained:
        """Keep what is needed of a loaded run."""
        return cls(
            config=run.config,
            module=run.module,
            tokenizer=run.tokenizer,
            schedule=run.schedule,
            length=run.source.length,
            step=run.step,
            data=run.data,
        )


class TrainedByRun:
    """The part of a classifier that trains by core; mixed into a `TextClassifier`.

    Its parameters, besides those of the face: `preset`, `settings`, `tiny`, `out`,
    `device` and `verbose`.
    """

    kind: str
    """What ``classifier.json`` calls this class."""
    no_unlabelled: ClassVar[str] = ""
    """Why texts without a class are of no use; empty if they are."""
    trained_: Trained
    seed_: int
    preset: str
    settings: Mapping[str, Any] | None
    tiny: bool
    out: str | Path | None
    device: str
    verbose: bool

    @property
    def takes_unlabelled(self) -> bool:
        """Whether it learns from texts without labels."""
        return not self.no_unlabelled

    @abstractmethod
    def _assignments(self) -> dict[str, Any]:
        """Return settings by dotted path, under those of the user."""

    @abstractmethod
    def _use(self, trained: Trained, names: tuple[str, ...]) -> None:
        """Take what was trained, to score texts with from now on.

        Args:
            trained: the model.
            names: the classes in the order of the model.
        """

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        unlabelled: Any = None,
    ) -> Self:
        """Learn from N texts `X` and their classes `y`; see `TextClassifier.fit`."""
        cast("Any", super()).fit(X, y, validation=validation, unlabelled=unlabelled)
        if self.out is not None:
            card, out = self.card(), Path(self.out)
            on_main(lambda: card.save(out))
        return self

    def _distinct(self, train: LabelledTexts, names: tuple[str, ...]) -> LabelledTexts:
        """Return the texts without repetitions, which would stand on both sides.

        Raises:
            DataError: if no text can be held out then, or a class has none left.
        """
        config = self._config(names, keep=False)
        settings = cast("LabelledTextConfig", config.data.config)
        if settings.duplicates == "keep":
            return train
        found = overlap(signatures(train.texts), train.labels, ())
        self.dropped_ = found.card()
        fresh = train.select(found.fresh)
        left = Counter(fresh.labels)
        gone = [name for name in names if not left[name]]
        if gone:
            raise DataError(
                f"each text of the class '{gone[0]}' stands before with another "
                f"label; a text is learned once, with its first label"
            )
        if max(left.values()) < 2:
            raise DataError(
                f"of {len(train)} texts {len(fresh)} are different, one of each class, "
                f"so that none can be held out; give more texts, or held-out ones as "
                f"`validation`, or hold out nothing (validation_fraction=0)"
            )
        return fresh

    def _learn(
        self,
        train: LabelledTexts,
        held_out: LabelledTexts,
        names: tuple[str, ...],
        unlabelled: Sequence[str],
    ) -> None:
        """Train in a run folder; see `TextClassifier._learn`."""
        if unlabelled and self.no_unlabelled:
            raise ValueError(
                f"unlabelled texts are given, but {self.no_unlabelled}; leave them "
                f"out, or use MDLMClassifier"
            )
        config = self._config(names, keep=held_out is train)
        settings = cast("LabelledTextConfig", config.data.config)
        source = LabelledSource.from_texts(
            train,
            held_out,
            settings,
            unlabelled=unlabelled,
            card={"dropped_before_division": self.__dict__.pop("dropped_", {})},
        )
        cast("Any", self).class_count_ = source.class_sizes().numpy()
        with run_folder(self.out, device=self.device) as folder:
            run = train_run(
                fitting(config, source),
                folder,
                source=source,
                device=self.device,
                verbose=self.verbose,
            )
            self.trained_ = Trained.of(run)  # reads the folder
        self._use(self.trained_, names)

    def _config(self, names: tuple[str, ...], *, keep: bool) -> RunConfig:
        """Return the settings of the run.

        Args:
            names: the classes.
            keep: whether texts are held out that are also learned from.
        """
        given = {
            **self._assignments(),
            **({"data.duplicates": "keep"} if keep else {}),
            **(self.settings or {}),
            "seed": self.seed_,
            "data.path": IN_MEMORY,
            "data.labels": list(names),
        }
        sets = [f"{path}={json.dumps(value)}" for path, value in given.items()]
        config = resolve(
            load_catalog(), preset=self.preset, sets=sets, tiny=self.tiny
        ).config
        return config if "train.precision" in given else repeatable(config, self.device)

    # ---- files ---------------------------------------------------------------

    @classmethod
    def of_run(cls, run: LoadedRun, card: Card) -> Self:
        """Return the classifier of a run folder; see `saved.load_classifier`."""
        self = cls()
        face = cast("Any", self)
        face.classes_ = np.array(card.classes)
        sizes = dict(zip(card.labels, card.sizes, strict=True))
        face.class_count_ = np.array(
            [sizes[name] for name in names_of(face.classes_)], dtype=np.int64
        )
        self.seed_ = run.config.seed
        self.trained_ = Trained.of(run)
        self._use(self.trained_, card.labels)
        face._restore(card.facts)
        return self

    @classmethod
    def load(cls, run: Path | str, **options: Any) -> Any:
        """Return the classifier of a run folder; see `saved.load_classifier`."""
        return load_classifier(run, **options)

    def save(self, folder: Path | str) -> Path:
        """Write a run folder that `load_classifier` reads; it must be empty.

        It holds the weights that predict, but not the state of the optimiser.

        Raises:
            NotFittedError: if nothing has been learned yet.
            UsageError: if there is something in `folder`, or the classes cannot be
                written.
        """
        check_is_fitted(self, "trained_")
        card = self.card()
        write_run(Path(folder), self.trained_, card.labels)
        card.save(Path(folder))
        return Path(folder)

    def card(self) -> Card:
        """Return what ``classifier.json`` says of this classifier."""
        face = cast("Any", self)
        labels = self._labels()
        sizes = dict(
            zip(names_of(face.classes_), face.class_count_.tolist(), strict=True)
        )
        return Card(
            kind=self.kind,
            classes=json_classes(face.classes_),
            labels=labels,
            sizes=tuple(sizes[name] for name in labels),
            facts=face._facts(),
        )

    def _labels(self) -> tuple[str, ...]:
        """Return the names of the classes in the order of the model."""
        labels: tuple[str, ...] = self.trained_.config.data.config.labels
        return labels

    # ---- another device, and pickle ------------------------------------------

    def to(self, device: str | torch.device) -> Self:
        """Move the model to another device, and return the classifier."""
        self.trained_.module.to(device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle writes; the model goes to the CPU."""
        inherited = cast("Any", super()).__getstate__
        state: dict[str, Any] = inherited()
        trained = state.get("trained_")
        if trained is not None:
            first = next(trained.module.parameters(), None)
            if first is not None and first.device.type != "cpu":
                state = deepcopy(state)
                state["trained_"].module.to("cpu")
        return state


@contextmanager
def run_folder(out: str | Path | None, *, device: str = "auto") -> Iterator[Path]:
    """Give the folder of a run: `out`, or a temporary one that all processes share.

    Args:
        out: the folder; None makes one that is removed at the end.
        device: where will be trained: "auto", or the device by name.
    """
    if out is not None:
        yield Path(out)
        return
    state = start_processes(device)
    place = on_main(lambda: mkdtemp(prefix="mdlm-classify-"))
    try:
        yield Path(place) / "run"
        state.wait_for_everyone()  # the others may still read
    finally:
        if state.is_main_process:
            rmtree(place, ignore_errors=True)


def train_run(
    config: RunConfig,
    folder: Path,
    *,
    source: DataSource,
    device: str = "auto",
    verbose: bool = False,
    task: Task | None = None,
    checkpoint: str = "best",
    say: Callable[[str], None] = lambda text: None,
) -> LoadedRun:
    """Train in a new run folder, and load what came of it.

    Args:
        config: the settings.
        folder: where; it must not hold a run.
        source: the data.
        device: "auto", or the device by name.
        verbose: whether to show progress on stdout.
        task: the task, instead of the one in the settings.
        checkpoint: "best" or "last".
        say: told about damaged checkpoints.

    Raises:
        KeyboardInterrupt: if training was interrupted; the run is saved.
    """
    outcome = start(
        config,
        out=folder,
        device=None if device == "auto" else device,
        source=source,
        task=task,
        verbose=verbose,
    )
    if outcome.signal is not None:
        raise KeyboardInterrupt(
            f"stopped by {outcome.signal.name} after step {outcome.step} of "
            f"{outcome.steps}"
        )
    return load_run(
        folder,
        device=device,
        checkpoint=checkpoint,
        source=source,
        task=task,
        say=say,
    )


def repeatable(config: RunConfig, device: str | None) -> RunConfig:
    """Return settings with which the same seed gives the same run.

    On a CPU ``train.precision: auto`` asks a stopwatch; here it is fp32.
    """
    auto = config.train.precision == "auto"
    if not auto or choose_device(device).type != "cpu":
        return config
    return replace(config, train=replace(config.train, precision="fp32"))


def fitting(config: RunConfig, source: DataSource) -> RunConfig:
    """Return the settings with a batch that is no larger than the data."""
    rows = source.size("train")
    if rows is None or rows >= config.train.batch_size:
        return config
    return replace(config, train=replace(config.train, batch_size=max(1, rows)))
