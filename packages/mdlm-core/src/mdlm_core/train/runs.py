"""Load a trained model from its run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.config import RunConfig, read_run
from mdlm_core.data.batch import Batch
from mdlm_core.data.tokenizers import load_tokenizer
from mdlm_core.errors import CheckpointError, DataError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.protocols import Backbone, DataSource, Schedule, Task, Tokenizer

from . import checkpoint as saved
from .devices import choose_device
from .folder import RunFolder
from .state import check_names, named_tensors


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A trained model and what belongs to it."""

    config: RunConfig
    module: nn.Module
    """What was trained, in evaluation mode; `backbone` is a child."""
    tokenizer: Tokenizer
    schedule: Schedule
    task: Task
    catalog: Catalog
    source: DataSource
    """The data it was trained on, read when it is first asked for more than the
    tokenizer and the length."""
    step: int
    weights: str
    """"ema", or "raw" as the optimiser left them."""
    folder: Path
    checkpoint: Path

    @property
    def data(self) -> dict[str, Any]:
        """What identified the data when the run was made, empty if not known."""
        path = RunFolder(self.folder).data
        if not path.is_file():
            return {}
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return card

    @property
    def backbone(self) -> Backbone:
        """The denoiser."""
        return cast("Backbone", self.module.backbone)


class LazySource:
    """A `DataSource` that knows its tokenizer and length, and reads data when asked."""

    def __init__(
        self, tokenizer: Tokenizer, length: int, build: Callable[[], DataSource]
    ) -> None:
        self.tokenizer = tokenizer
        self.length = length
        self._build = build
        self._source: DataSource | None = None

    @property
    def source(self) -> DataSource:
        """The real one.

        Raises:
            DataError: if it has another tokenizer now, for example because that was
                made from a text that has changed.
        """
        if self._source is None:
            source = self._build()
            _check_tokenizer(self.tokenizer, source.tokenizer)
            self._source = source
        return self._source

    def size(self, split: str) -> int | None:
        """Return the rows of a split."""
        return self.source.size(split)

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
        """Yield batches of a split."""
        return self.source.batches(
            split, size=size, seed=seed, start=start, rank=rank, world=world
        )

    def card(self) -> Mapping[str, object]:
        """Return what identifies the data."""
        return self.source.card()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


def _check_tokenizer(saved: Tokenizer, rebuilt: Tokenizer) -> None:
    before, after = saved.fingerprint(), rebuilt.fingerprint()
    if before != after:
        raise DataError(
            f"the data has another tokenizer than the run: '{saved.name}' with "
            f"fingerprint {before} in the run folder, '{rebuilt.name}' with {after} "
            f"made from the data as it is now. Bring the old data back, or train on "
            f"the new with another --out"
        )


def load_run(
    path: Path | str,
    *,
    device: str = "cpu",
    weights: str = "ema",
    checkpoint: str | int = "best",
    catalog: Catalog | None = None,
    task: Task | None = None,
    source: DataSource | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> LoadedRun:
    """Load a model from a run folder.

    Args:
        path: the run folder.
        device: where the model goes; "auto" takes a GPU if there is one.
        weights: "ema" for the averaged weights, where there are any; "raw" for those
            of the optimiser.
        checkpoint: "best" by held-out loss, "last", or the number of a step.
        catalog: where components come from; by default the installed plugins.
        task: the task, instead of the one in the settings.
        source: the data, instead of the one in the settings.
        say: told about damaged checkpoints that were passed over.

    Raises:
        ConfigError: if `path` is no run.
        UsageError: if `weights` or `checkpoint` is none of these, or there is no such
            device.
        CheckpointError: if there is no sound checkpoint, or it is of another model.
    """
    if weights not in ("ema", "raw"):
        raise UsageError(f"weights are '{weights}'; they must be 'ema' or 'raw'")
    catalog = catalog or load_catalog()
    folder = RunFolder(Path(path))
    config = read_run(folder.path, catalog)
    chosen = _choose(folder, checkpoint, say)
    state = _state(chosen)
    task = task or catalog.build("task", config.task, run=config, catalog=catalog)
    source = source or LazySource(
        load_tokenizer(folder.tokenizer),
        int(state["length"]),
        lambda: catalog.build("dataset", config.data),
    )
    with global_seed(Noise(config.seed).child("init")):
        module = task.build(source)
    used = _load_weights(module, chosen, weights)
    return LoadedRun(
        config=config,
        module=module.to(choose_device(device)).eval(),
        tokenizer=source.tokenizer,
        schedule=catalog.build("schedule", config.schedule),
        task=task,
        catalog=catalog,
        source=source,
        step=int(state["step"]),
        weights=used,
        folder=folder.path,
        checkpoint=chosen,
    )


def _choose(folder: RunFolder, which: str | int, say: Callable[[str], None]) -> Path:
    return saved.choose(folder.checkpoints, which, say)


def _state(chosen: Path) -> dict[str, Any]:
    return saved.read_state(chosen)


def _load_weights(module: nn.Module, chosen: Path, weights: str) -> str:
    """Fill `module`, and return which weights it has now."""
    what = f"checkpoint '{chosen}'"
    values = saved.read_tensors(chosen, saved.MODEL)
    averaged = weights == "ema" and saved.has_tensors(chosen, saved.EMA)
    if averaged:
        means = saved.read_tensors(chosen, saved.EMA)
        if strange := sorted(means.keys() - values.keys()):
            raise CheckpointError(f"{what} averages '{strange[0]}', which it lacks")
        values |= means
    check_names(named_tensors(module), values, what)
    module.load_state_dict(values, strict=False)  # what is missing is from outside
    return "ema" if averaged else "raw"
