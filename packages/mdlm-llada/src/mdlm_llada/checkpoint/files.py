"""The files of weights of a checkpoint, and what their headers say is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mdlm_core.errors import CheckpointError

from .names import Shape
from .write import INDEX, SINGLE

SHOWN = 4
"""Names that a report shows."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a tensor before it is read."""

    file: str
    shape: Shape
    kind: str
    """Its type, as safetensors calls it: F32, BF16, ..."""


def headers(folder: Path) -> dict[str, Header]:
    """Return what the files of weights hold, by the names of the tensors.

    Raises:
        CheckpointError: if a file is missing or damaged, a tensor is in two files, or
            the index says something else.
    """
    found: dict[str, Header] = {}
    for file in weight_files(folder):
        with opened(folder / file) as content:
            for name in tuple(content.keys()):
                if name in found:
                    raise CheckpointError(
                        f"in '{folder}' both '{found[name].file}' and '{file}' hold "
                        f"'{name}'"
                    )
                view = content.get_slice(name)
                shape = tuple(view.get_shape())
                found[name] = Header(file, shape, view.get_dtype())
    if (folder / INDEX).is_file() and not (folder / SINGLE).is_file():
        _check_index(folder, found)
    return found


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file of safetensors; tensors are read from it when they are asked for.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as content:
            yield content
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"'{path}' cannot be read as safetensors: {error}; fetch it again"
        ) from error


def weight_files(folder: Path) -> list[str]:
    """Return the names of the files of weights.

    Raises:
        CheckpointError: if there are none, or one of them is missing.
    """
    held = sorted(path.name for path in folder.glob("*.safetensors"))
    if not held and not (folder / INDEX).is_file():
        others = sorted(path.name for path in folder.glob("*.bin"))
        hint = f"; '{others[0]}' is a pickle, which could run code" if others else ""
        raise CheckpointError(f"'{folder}' has no weights in safetensors{hint}")
    if missing := missing_files(folder):
        some = ", ".join(f"'{name}'" for name in missing[:SHOWN])
        raise CheckpointError(
            f"the checkpoint '{folder}' lacks {len(missing)} of its files: {some}; "
            f"fetch it again"
        )
    if (folder / SINGLE).is_file():
        return [SINGLE]
    if (folder / INDEX).is_file():
        return sorted(set(_index(folder).values()))
    return held


def missing_files(folder: Path) -> list[str]:
    """Return the files of weights that should be in `folder` and are not."""
    if (folder / SINGLE).is_file():
        return []
    if (folder / INDEX).is_file():
        named = sorted(set(_index(folder).values()))
        return [name for name in named if not (folder / name).is_file()]
    numbered = sorted(folder.glob("model-*-of-*.safetensors"))
    if not numbered:
        return [] if any(folder.glob("*.safetensors")) else [SINGLE]
    total = numbered[0].stem.rpartition("-")[2]
    if not total.isdecimal():
        return []
    have = {path.name for path in numbered}
    numbers = (f"{i:0{len(total)}d}" for i in range(1, int(total) + 1))
    names = (f"model-{number}-of-{total}.safetensors" for number in numbers)
    return [name for name in names if name not in have]


def _index(folder: Path) -> dict[str, str]:
    """Return which tensor is in which file, by the index."""
    path = folder / INDEX
    try:
        content = json.loads(path.read_bytes())["weight_map"]
        places = {str(name): str(file) for name, file in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"'{path}' cannot be read as an index of weights: {error!r}; fetch it again"
        ) from error
    for name, file in places.items():
        if Path(file).name != file:
            raise CheckpointError(
                f"'{path}' says that '{name}' is in '{file}'; that is not a file of "
                f"the same folder"
            )
    return places


def _check_index(folder: Path, found: dict[str, Header]) -> None:
    """Check that the index says what the files hold."""
    said = _index(folder)
    for name in sorted(said.keys() | found.keys()):
        held = found[name].file if name in found else None
        if said.get(name) != held:
            raise CheckpointError(
                f"'{folder / INDEX}' says that '{name}' is in {_quoted(said.get(name))}"
                f", but it is in {_quoted(held)}; fetch the checkpoint again"
            )


def _quoted(file: str | None) -> str:
    return "no file" if file is None else f"'{file}'"
