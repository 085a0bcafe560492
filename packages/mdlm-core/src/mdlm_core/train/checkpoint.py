"""Checkpoints: a folder of safetensors and JSON that is whole or not there.

::

    checkpoints/step-00000500/
        model.safetensors      every parameter and buffer, by name
        ema.safetensors        the averaged parameters, by name
        optimizer.safetensors  AdamW's state, as "parameter.key"
        state.json             step, score, precision, versions, ...
        manifest.json          size and sha256 of each of them

A checkpoint is written to a folder with another name, every file and the folder are
synced, and only then is it renamed: a crash leaves the old ones and at most a folder
that is never read. When one is read, the hashes are checked first.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdlm_core.errors import CheckpointError, UsageError

MANIFEST = "manifest.json"
STATE = "state.json"
MODEL = "model"
EMA = "ema"
OPTIMIZER = "optimizer"

_NAME = re.compile(r"step-(\d{8,})")
_TEMPORARY = ".writing-"
_DAMAGED = "damaged-"

Say = Callable[[str], None]


def name_of(step: int) -> str:
    """Return the folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def temporary(folder: Path, step: int) -> Path:
    """Return where the checkpoint of `step` is written before it is renamed."""
    return folder / f"{_TEMPORARY}{name_of(step)}"


# ---- writing ----------------------------------------------------------------


def write_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> Path:
    """Write one checkpoint, wholly or not at all, and return its folder.

    Args:
        folder: the run's ``checkpoints``.
        step: optimiser steps done.
        tensors: file name without suffix -> name -> tensor, on the CPU.
        state: what ``state.json`` holds besides the step.

    Raises:
        CheckpointError: if it cannot be written, for example on a full disk. What is
            already saved stays as it is.
    """
    place = temporary(folder, step)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, values in tensors.items():
            _write_tensors(place / f"{name}.safetensors", values)
        _write_text(place / STATE, json.dumps({"step": step, **state}, indent=1))
        _seal(place)
        return _put_in_place(place, folder / name_of(step))
    except (OSError, SafetensorError) as error:
        shutil.rmtree(place, ignore_errors=True)
        raise CheckpointError(_failure(folder, step, tensors, error)) from error


def _write_tensors(path: Path, values: Mapping[str, Tensor]) -> None:
    # Two names of one tensor are two tensors here: safetensors refuses shared memory.
    save_file({name: value.contiguous() for name, value in values.items()}, path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _seal(place: Path) -> None:
    """Sync every file, then write the manifest that vouches for them."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    for path in files:
        _sync(path)
    manifest = {
        path.relative_to(place).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in files
    }
    _write_text(place / MANIFEST, json.dumps(manifest, indent=1))
    _sync(place / MANIFEST)
    _sync(place)


def _put_in_place(place: Path, target: Path) -> Path:
    if target.exists():  # damaged, or written by a run that was set back
        old = target.with_name(f"{_TEMPORARY}old-{target.name}")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        place.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        place.rename(target)
    _sync(target.parent)
    return target


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder; a rename there is journaled
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _failure(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    error: Exception,
) -> str:
    need = sum(value.nbytes for part in tensors.values() for value in part.values())
    reason = getattr(error, "strerror", None) or str(error)
    steps = [step_of(path) for path in checkpoints(folder)]
    left = (
        f"the checkpoint of step {steps[-1]} is untouched"
        if steps
        else "there is no earlier checkpoint"
    )
    return (
        f"the checkpoint of step {step} could not be written to '{folder}': {reason} "
        f"(it takes {need / 1e6:.1f} MB); {left}. Make room and go on with --resume"
    )


# ---- reading ----------------------------------------------------------------


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first, unchecked."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Return the step of a checkpoint by its name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"'{path}' is no checkpoint; its name is not step-N")
    return int(match[1])


def damage(path: Path) -> str:
    """Return what is wrong with a checkpoint, or an empty string."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest.items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["bytes"]:
                size = file.stat().st_size
                return f"{name} has {size} bytes instead of {expected['bytes']}"
            if _sha256(file) != expected["sha256"]:
                return f"the content of {name} is not what was written"
        return "" if STATE in manifest else f"{MANIFEST} does not list {STATE}"
    except OSError as error:
        return f"{MANIFEST} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"


def newest_sound(folder: Path, say: Say) -> Path | None:
    """Return the newest checkpoint that is whole; each damaged one is told of.

    Raises:
        CheckpointError: if there are checkpoints, and all are damaged.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        problem = damage(path)
        if not problem:
            return path
        say(f"warning: checkpoint '{path.name}' is damaged ({problem}); skipping it")
    if found:
        raise CheckpointError(
            f"every checkpoint in '{folder}' is damaged; start again with another --out"
        )
    return None


def choose(folder: Path, which: str | int, say: Say) -> Path:
    """Return a checkpoint: "best" by held-out loss, "last", or that of a step.

    "best" is the newest one if none was measured. A damaged one is told of and the
    next in line is used, unless it was asked for by its step.

    Raises:
        CheckpointError: if there is none, or it is damaged.
        UsageError: if `which` is none of these.
    """
    found = checkpoints(folder)
    if not found:
        raise CheckpointError(f"there is no checkpoint in '{folder}'")
    if which not in ("best", "last"):
        return _of_step(found, which)
    order = list(reversed(found))
    if which == "best":
        order.sort(key=score)  # stable: the newest first among those without a score
    for path in order:
        problem = damage(path)
        if not problem:
            return path
        say(f"warning: checkpoint '{path.name}' is damaged ({problem}); skipping it")
    raise CheckpointError(f"every checkpoint in '{folder}' is damaged")


def _of_step(found: list[Path], which: str | int) -> Path:
    if not str(which).isdigit():
        raise UsageError(
            f"checkpoint '{which}' is not 'best', 'last' or the number of a step"
        )
    for path in found:
        if step_of(path) == int(which):
            if problem := damage(path):
                raise CheckpointError(f"checkpoint '{path}' is damaged: {problem}")
            return path
    steps = ", ".join(str(step_of(path)) for path in found)
    raise CheckpointError(
        f"there is no checkpoint of step {which} in '{found[0].parent}'; there are "
        f"those of steps {steps}"
    )


def read_state(path: Path) -> dict[str, Any]:
    """Return what ``state.json`` holds.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{path / STATE}' cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"'{path / STATE}' is not a JSON object")
    return state


def read_tensors(path: Path, name: str) -> dict[str, Tensor]:
    """Return the tensors of one file of a checkpoint.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    file = path / f"{name}.safetensors"
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"'{file}' cannot be read: {error}") from error
    return tensors


def has_tensors(path: Path, name: str) -> bool:
    """Whether a checkpoint has the file `name`."""
    return (path / f"{name}.safetensors").is_file()


# ---- rotation ---------------------------------------------------------------


def score(path: Path) -> float:
    """Return the held-out loss of a checkpoint, infinity if it was not measured."""
    try:
        value = read_state(path).get("score")
    except CheckpointError:
        return math.inf
    return float(value) if isinstance(value, int | float) else math.inf


def set_aside(folder: Path, step: int, say: Say) -> None:
    """Rename the checkpoints after `step`, which is where a run goes on.

    `step` is that of the newest sound one, so they are damaged. They must not count as
    the newest when checkpoints are rotated, and are kept for whoever wants to look.
    """
    for path in checkpoints(folder):
        if step_of(path) > step:
            kept = path.with_name(f"{_DAMAGED}{path.name}")
            shutil.rmtree(kept, ignore_errors=True)
            path.rename(kept)
            say(f"note: it is kept as '{kept.name}', which may be removed")


def rotate(folder: Path, written: int, *, keep_last: int, keep_best: int) -> None:
    """Remove all but the newest `keep_last` and the best `keep_best` checkpoints.

    That of the step `written`, just saved, is never removed.
    """
    found = checkpoints(folder)
    measured = [path for path in found if score(path) < math.inf]
    best = sorted(measured, key=score)[:keep_best]
    for path in found[:-keep_last]:
        if path not in best and step_of(path) != written:
            # Renamed first, so that a crash half-way leaves nothing that looks whole.
            gone = path.with_name(f"{_TEMPORARY}gone-{path.name}")
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def is_among_best(folder: Path, value: float, keep_best: int) -> bool:
    """Whether a checkpoint with this held-out loss would be kept as one of the best."""
    scores = sorted(score(path) for path in checkpoints(folder))
    better = [other for other in scores if other <= value]
    return math.isfinite(value) and len(better) < keep_best


def sweep(folder: Path) -> None:
    """Remove what a crash left half-written."""
    if folder.is_dir():
        for path in folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(path, ignore_errors=True)
