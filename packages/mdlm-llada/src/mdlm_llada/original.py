"""Read configurations in the original's flat spelling, ``train.batch_size_per_gpu``.

Light: imports nothing heavy. The table is `original_keys`.
"""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mdlm_core.errors import ConfigError, UsageError

from .original_keys import ENGINE, KEYS, OURS_TOO, REQUIRED, TOP, Key

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Translated:
    """A configuration of the original in our settings."""

    sets: tuple[str, ...]
    """Assignments ``path=value``, in an order in which the last one holds."""
    out: str | None
    """The output folder; None if none is named."""
    mirror: bool
    """Whether the hub is to be reached through a mirror."""


# ---- reading -----------------------------------------------------------------


def merge(files: Sequence[Path], sets: Sequence[str]) -> Tree:
    """Return the YAML files merged from left to right, then the assignments.

    Mappings are merged key by key; everything else is replaced, lists too.

    Raises:
        ConfigError: if a file is not there, is no YAML, or holds no mapping.
        UsageError: if an assignment is none.
    """
    tree: Tree = {}
    for file in files:
        _merge(tree, _read(file))
    for item in sets:
        path, equals, value = item.partition("=")
        if not equals or not all(part.strip() for part in path.split(".")):
            raise UsageError(
                f"--set takes path=value, such as train.lr=1e-5; got '{item}'"
            )
        *parents, last = [part.strip() for part in path.split(".")]
        place = tree
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = _value(value.strip())
    return tree


def _read(file: Path) -> Tree:
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


def _merge(into: Tree, tree: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, Mapping):
            into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value


def _value(text: str) -> object:
    """Return what a value of ``--set`` is: a Python literal, or else text."""
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# ---- translating ---------------------------------------------------------------


def is_original(tree: Mapping[str, Any]) -> bool:
    """Return whether a configuration has a key that only the original has."""
    if "engine" in tree or isinstance(tree.get("task"), str):
        return True
    return any(
        path in KEYS and path not in OURS_TOO for path, _ in leaves(_section(tree))
    )


def _section(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    section = tree.get("train")
    return section if isinstance(section, Mapping) else {}


def translate(tree: Mapping[str, Any], *, processes: int = 1) -> Translated:
    """Translate a merged configuration; our own settings in it stay as they are.

    Args:
        tree: what `merge` returns.
        processes: of the launch, for the size of the global batch.

    Raises:
        ConfigError: if a key is unknown (with a near miss), its value is none that it
            can have, or one that is needed is missing.
    """
    _check_engine(tree)
    given = dict(leaves(_section(tree)))
    for name in TOP[1:]:
        if name in tree and not isinstance(tree[name], Mapping):
            given.setdefault(name, tree[name])
    ours = [
        (f"train.{path}", value) for path, value in given.items() if path not in KEYS
    ]
    for path, value in leaves(tree):
        root = path.partition(".")[0]
        if root != "train" and not (root in TOP and not isinstance(tree[root], dict)):
            ours.append((path, value))
    _check_known(path for path, _ in ours)
    task = given.get("task")
    if not isinstance(task, str) or not task:
        raise ConfigError("train.task is missing; it names the data, such as gsm8k")
    values = {}
    for name, key in KEYS.items():
        value = key.default if given.get(name) is None else given[name]
        if value is not None:
            values[name] = value
    values.setdefault("tokenizer_path", values["model_path"])
    values.setdefault("train_data_path", f"./data/train/{task}.jsonl")
    sets = ["task.name=llada-sft", "data.name=llada-processed"]
    fitted = _truth("PPOTS", values["PPOTS"])
    for name, value in values.items():
        if name == "p_model" and not fitted:
            continue  # which density is fitted, if one is
        sets += _assignments(name, KEYS[name], value, values)
    batch = _whole("batch_size_per_gpu", values) * _whole("grad_accum", values)
    sets.append(f"train.batch_size={batch * processes}")
    sets += [f"{path}={text(value)}" for path, value in ours]
    return Translated(
        sets=tuple(sets),
        out=str(values.get("output_dir", f"./logs/{task}")),
        mirror=_truth("china", values["china"]),
    )


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"train.{name} is {value!r}; it must be true or false")
    return value


def _whole(name: str, values: Mapping[str, Any]) -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"train.{name} is {value!r}; it must be a whole number, at least 1"
        )
    return value


def _check_engine(tree: Mapping[str, Any]) -> None:
    engine = tree.get("engine", ENGINE)
    if engine != ENGINE:
        raise ConfigError(f"engine is '{engine}'; there is one, {ENGINE}")


def _check_known(paths: Iterable[str]) -> None:
    """Refuse keys that are neither the original's nor look like ours."""
    from dataclasses import fields

    from mdlm_core.config import RunConfig
    from mdlm_core.config.schema import TrainConfig

    sections = {entry.name for entry in fields(RunConfig)}
    known = {entry.name for entry in fields(TrainConfig)}
    for path in paths:
        root, _, rest = path.partition(".")
        if root in sections and (root != "train" or rest in known):
            continue
        names = sorted({*(f"train.{name}" for name in KEYS), *TOP, *sections})
        near = difflib.get_close_matches(path, names, n=1, cutoff=0.6)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"there is no setting '{path}'{hint}")


def _assignments(
    name: str, key: Key, value: Any, values: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return our assignments for one key."""
    if value is REQUIRED:
        raise ConfigError(f"train.{name} is missing")
    if not key.values:
        return tuple(f"{path}={text(value)}" for path in key.paths)
    if value is False and "no" in key.values:  # YAML reads a bare no as false
        value = "no"
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | dict) or value not in key.values:
        options = ", ".join(f"'{option}'" for option in key.values)
        raise ConfigError(f"train.{name} is {value!r}; it must be one of {options}")
    steps = {n: values[n] for n in ("eval_steps", "save_steps")}
    return tuple(rule.format(**steps) for rule in key.values[value])


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the values of a tree with their dotted paths."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def text(value: object) -> str:
    """Return a value as ``--set`` reads it."""
    return value if isinstance(value, str) and value else json.dumps(value)
