"""Read the original's YAML files and its ``--section.key value`` options.

Light: imports nothing heavy. The table is `keys`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from mdlm_core.config import RunConfig
from mdlm_core.config.schema import TrainConfig
from mdlm_core.errors import ConfigError, UsageError
from mdlm_msa.config import (
    AlignConfig,
    AlignmentsConfig,
    MSAConfig,
    PairsConfig,
    ProteinDiTConfig,
)
from mdlm_msa.run_settings import setting

from .keys import CHECKPOINT, KEYS, ONLY, OUT, Key

_OURS: Mapping[str, Sequence[type]] = {
    "model": (ProteinDiTConfig,),
    "data": (AlignmentsConfig, PairsConfig),
    "task": (MSAConfig, AlignConfig),
    "train": (TrainConfig,),
}


@dataclass(frozen=True, slots=True)
class Translated:
    """A configuration of the original in our settings."""

    sets: tuple[str, ...]
    """Assignments ``path=value``, in an order in which the last one holds."""
    path: str | None
    """The data."""
    checkpoint: str | None
    """The run to begin with."""
    out: str | None
    """The folder of the new run."""


def translate(
    program: str, files: Sequence[Path], arguments: Sequence[str]
) -> Translated:
    """Translate the files of ``--config`` and the options after them.

    Later ones win. Our own settings, such as ``train.steps``, are taken as they are.

    Args:
        program: "train_mdlm" or "train_mdlm_dpo".
        files: YAML.
        arguments: such as ``--data.path``, ``FILE``, or ``--data.path=FILE``.

    Raises:
        ConfigError: if a file cannot be read, a key is unknown (with near misses), or
            its value is none that it can have.
        UsageError: if an option has no value.
    """
    given: dict[str, tuple[Any, str]] = {}
    for file in files:
        for path, value in _leaves(_read(file)):
            given[path] = value, f" (from {file})"
    for path, value in dotted(arguments):
        given[path] = value, ""
    sets: list[str] = []
    special: dict[str, str | None] = {OUT: None, CHECKPOINT: None, "data.path": None}
    for path, (value, origin) in given.items():
        if path in special:
            special[path] = _text(path, value, origin)
        elif path in KEYS:
            _check_program(program, path, origin)
            sets += _assignments(path, KEYS[path], value, origin)
        elif _is_ours(path):
            sets.append(setting(path, value))
        else:
            raise ConfigError(_unknown(path) + origin)
    # a name resets what follows it
    sets.sort(key=lambda text: ".name=" not in text)
    return Translated(
        tuple(sets), special["data.path"], _run(special[CHECKPOINT]), special[OUT]
    )


def dotted(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of ``--section.key value`` options.

    Raises:
        UsageError: if an argument is no option, or an option has no value.
    """
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise UsageError(f"'{option}' is no option; write --section.key value")
        path, equals, value = option[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"--{path} has no value")
            value = rest.pop(0)
        try:
            yield path, yaml.safe_load(value)
        except yaml.YAMLError:
            yield path, value


def _read(file: Path) -> Mapping[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config {file} is no YAML: {reason}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"--config {file} holds no mapping; write key: value lines")
    return loaded


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _assignments(path: str, key: Key, value: Any, origin: str) -> list[str]:
    if not key.values:
        if isinstance(value, str):
            value = _number(value)
        return [setting(ours, value) for ours in key.paths]
    if isinstance(value, list | dict) or value not in key.values:
        options = ", ".join(str(option) for option in key.values)
        raise ConfigError(
            f"{path} is {value!r}; it must be {options}: {key.reason}{origin}"
        )
    return list(key.values[value])


def _number(text: str) -> Any:
    """Return a number that YAML reads as text, such as 1e-4."""
    try:
        return float(text)
    except ValueError:
        return text


def _text(path: str, value: Any, origin: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path} is {value!r}; it must be a path{origin}")
    return value


def _run(path: str | None) -> str | None:
    """Return a run folder, from that of a run or of something in it."""
    if path is not None and path.endswith((".ckpt", ".pt", ".pth", ".bin")):
        raise ConfigError(
            f"{CHECKPOINT} is '{path}'; a model is a run folder here, as 'mdlm train' "
            f"writes it: give the folder"
        )
    return path


def _check_program(program: str, path: str, origin: str) -> None:
    for other, prefixes in ONLY.items():
        if other != program and path.startswith(prefixes):
            raise ConfigError(f"{path} is a key of {other}, not of {program}{origin}")


def _is_ours(path: str) -> bool:
    root, _, rest = path.partition(".")
    if root in _OURS:
        names = {entry.name for cls in _OURS[root] for entry in fields(cls)}
        return rest in names | {"name"}
    return root in {entry.name for entry in fields(RunConfig)}


def _unknown(path: str) -> str:
    ours = [
        f"{root}.{entry.name}"
        for root, classes in _OURS.items()
        for cls in classes
        for entry in fields(cls)
    ]
    near = difflib.get_close_matches(path, [*KEYS, CHECKPOINT, OUT, *ours], n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no key '{path}'{hint}"
