"""A run folder: what is where, who may write to it, and with which settings.

::

    runs/python-docs-1/
        config.yaml      the resolved settings, and the versions of the packages
        data.json        what identifies the data
        tokenizer/       what `load_tokenizer` reads
        metrics.jsonl    one JSON object a line
        checkpoints/     see `checkpoint`
        samples/         step-N.txt
        run.lock         held by the process that trains
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig, to_dict, to_yaml
from mdlm_core.config.layers import leaves
from mdlm_core.config.schema import KIND_OF_FIELD
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_core.protocols import DataSource

from .checkpoint import checkpoints, sweep
from .lock import NAME as LOCK
from .lock import FolderLock

HARMLESS = (
    "train.steps",
    "train.epochs",
    "train.eval_every",
    "train.eval_start",
    "train.patience",
    "train.save_every",
    "train.sample_every",
    "train.log_every",
    "train.keep_last",
    "train.keep_best",
    "train.report_to",
    "task.sample_count",
    "sampler",
)
"""Settings that may differ when a run goes on: none changes a step that is done."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The places inside a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The settings."""
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        """What identifies the data."""
        return self.path / "data.json"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder."""
        return self.path / "tokenizer"

    @property
    def metrics(self) -> Path:
        """The numbers."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints' folder."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """The samples' folder."""
        return self.path / "samples"

    def write_samples(self, step: int, texts: list[str]) -> Path:
        """Write the samples of a step to a file, and return it."""
        self.samples.mkdir(exist_ok=True)
        path = self.samples / f"step-{step:08d}.txt"
        body = "".join(f"--- {i} ---\n{text}\n" for i, text in enumerate(texts, 1))
        path.write_text(body, encoding="utf-8")
        return path


def next_folder(name: str, root: Path = Path("runs")) -> Path:
    """Create ``runs/<name>-<number>`` with the first number that is free."""
    number = 1
    while True:
        path = root / f"{name}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return path


def claim(path: Path, *, resume: bool) -> tuple[RunFolder, FolderLock]:
    """Take a folder for a new run, or an existing run's to go on with it.

    Raises:
        UsageError: if the folder already holds something and `resume` is false, or
            holds no run and `resume` is true.
        TrainingError: if another process trains in it.
    """
    folder = RunFolder(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"'{path}' is a file; --out must name a folder")
    if resume:
        if not folder.config.is_file():
            raise UsageError(
                f"there is no run in '{path}' to go on with; leave out --resume to "
                f"start one there"
            )
        lock = FolderLock(path)
        sweep(folder.checkpoints)
        return folder, lock
    if path.is_dir() and not (path / LOCK).exists():
        _refuse_if_taken(folder)
    path.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(path)
    try:
        _refuse_if_taken(folder)
    except UsageError:
        lock.release()
        raise
    return folder, lock


def give_back(path: Path, *, made: bool) -> None:
    """Leave nothing where a run was refused before it wrote anything.

    Call it while the lock is held. A folder that holds more is left as it is.

    Args:
        path: the run folder.
        made: whether the folder was made for the run.
    """
    with suppress(OSError):
        if [item.name for item in path.iterdir()] == [LOCK]:
            (path / LOCK).unlink()
            if made:
                path.rmdir()


def _refuse_if_taken(folder: RunFolder) -> None:
    if folder.config.exists() or checkpoints(folder.checkpoints):
        raise UsageError(
            f"'{folder.path}' already holds a run; add --resume to go on with it, or "
            f"give another --out"
        )
    if others := [item.name for item in folder.path.iterdir() if item.name != LOCK]:
        raise UsageError(
            f"'{folder.path}' is not empty (it holds '{others[0]}'); give another --out"
        )


# ---- settings ---------------------------------------------------------------


def write_config(folder: RunFolder, config: RunConfig, catalog: Catalog) -> None:
    """Write the settings and the versions of the packages that made the run."""
    text = to_yaml(config) + to_yaml({"versions": versions(config, catalog)})
    place = folder.config.with_suffix(".tmp")
    place.write_text(text, encoding="utf-8")
    os.replace(place, folder.config)


def versions(config: RunConfig, catalog: Catalog) -> dict[str, str]:
    """Return the versions of Python, core, its libraries and the plugins in use."""
    names = {"mdlm-core", "torch", "accelerate", "safetensors"}
    for field, kind in KIND_OF_FIELD.items():
        record = catalog.provider(kind, getattr(config, field).name)
        names |= {record.dist} - {""}
    found = {"python": platform.python_version()}
    for name in sorted(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def check_same(old: RunConfig, new: RunConfig) -> None:
    """Refuse settings under which a run would not go on as it began.

    Raises:
        ConfigError: which settings differ that must not.
    """
    before, after = dict(leaves(to_dict(old))), dict(leaves(to_dict(new)))
    changed = [
        f"{path} ({before.get(path)} -> {after.get(path)})"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path) and not _harmless(path)
    ]
    if changed:
        raise ConfigError(
            f"a run goes on only with the settings it began with; these differ: "
            f"{', '.join(changed)}. Leave them as they were, or start a new run with "
            f"another --out. Allowed to change: {', '.join(HARMLESS)}"
        )


def fingerprint(config: RunConfig) -> str:
    """Return a hash of the settings that must stay the same."""
    fixed = {
        path: value for path, value in leaves(to_dict(config)) if not _harmless(path)
    }
    text = json.dumps(fixed, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _harmless(path: str) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in HARMLESS)


# ---- data -------------------------------------------------------------------


def write_data(folder: RunFolder, source: DataSource) -> None:
    """Write the tokenizer and what identifies the data."""
    card = json.dumps(_plain(source.card()), indent=1, sort_keys=True)
    folder.tokenizer.mkdir(exist_ok=True)
    source.tokenizer.save(folder.tokenizer)
    folder.data.write_text(card, encoding="utf-8")


def check_data(folder: RunFolder, source: DataSource) -> None:
    """Refuse data other than what the run began with.

    Raises:
        CheckpointError: what is different.
    """
    if not folder.data.is_file():
        return
    before = dict(leaves(json.loads(folder.data.read_text(encoding="utf-8"))))
    after = dict(leaves(_plain(source.card())))
    for path in sorted(before.keys() & after.keys()):
        if before[path] != after[path]:
            raise CheckpointError(
                f"the data is not what '{folder.path}' was trained on: {path} was "
                f"{before[path]} and is {after[path]}. Bring the old data back, or "
                f"start a new run with another --out"
            )


def _plain(card: Mapping[str, object]) -> dict[str, Any]:
    """Return the card as it comes back from JSON."""
    result: dict[str, Any] = json.loads(json.dumps(dict(card), default=str))
    return result
