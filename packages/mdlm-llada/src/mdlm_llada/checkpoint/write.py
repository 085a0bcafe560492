"""A trunk written as a checkpoint of its published format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mdlm_core.errors import CheckpointError, UsageError

from .names import Piece, parts_of, pieces

if TYPE_CHECKING:
    from mdlm_llada.nn.trunk import LLaDA

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
"""Size that a file of weights may have, as transformers writes them."""

TOKENIZER_FILES = (
    "tokenizer*",
    "mdlm_tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "chat_template*",
)
"""The files of a tokenizer."""
PROMPTS = "mdlm_prompts.json"
"""How prompts became text when the model was trained, where that is known."""
BESIDE_FILES = (PROMPTS, "*.py", "generation_config.json")
"""What else belongs to a format. Code is carried over for other programs, not run."""


def write_checkpoint(
    model: LLaDA,
    folder: Path | str,
    *,
    tokenizer: Path | str | None = None,
    beside: Path | str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write `model` in the format of its family, wholly or not at all.

    The settings that the model was read with are kept, those that are not understood
    here included, so that what is read and written again is the same, bit by bit.

    Args:
        model: the trunk; adapters must be merged into it before.
        folder: where; it must not exist, or be empty.
        tokenizer: a folder whose tokenizer is copied.
        beside: the folder of a checkpoint of the same format, from which
            `BESIDE_FILES` are copied.
        shard_bytes: bytes of a file of weights, at most, if no tensor is larger.

    Returns:
        The folder.

    Raises:
        UsageError: if the folder holds something.
        CheckpointError: if it cannot be written.
    """
    config = _config(model)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    tensors = _Tensors(model)

    def fill(place: Path) -> None:
        (place / CONFIG).write_text(text, encoding="utf-8")
        groups = split(tensors.bytes, shard_bytes)
        write_groups(place, groups, tensors)
        if tokenizer is not None:
            copy_files(Path(tokenizer), place, TOKENIZER_FILES)
        if beside is not None:
            copy_files(Path(beside), place, BESIDE_FILES)

    return write_folder(folder, fill)


def _config(model: LLaDA) -> dict[str, object]:
    """Return config.json, with the type of the weights as it is now."""
    config = model.architecture.to_json()
    field = "dtype" if "dtype" in config else "torch_dtype"
    if field in config or not model.architecture.raw:
        config[field] = str(model.embed.weight.dtype).removeprefix("torch.")
    return config


def write_folder(folder: Path | str, fill: Callable[[Path], None]) -> Path:
    """Make `folder` out of what `fill` writes, wholly or not at all.

    Raises:
        UsageError: if the folder holds something.
        CheckpointError: if it cannot be written.
    """
    folder = Path(folder)
    check_empty(folder)
    place: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = folder.with_name(f".{folder.name}.{uuid4().hex}")
        place.mkdir()
        fill(place)
        if folder.exists():
            folder.rmdir()  # it is empty
        return place.rename(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint '{folder}' could not be written: {error}"
        ) from error
    finally:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds something, or a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"'{folder}' is there already and is not an empty folder; name another, or "
            f"remove it first"
        )


def write_template(folder: Path, template: str) -> None:
    """Note in a checkpoint how prompts become text."""
    text = json.dumps({"template": template}) + "\n"
    (folder / PROMPTS).write_text(text, encoding="utf-8")


def copy_files(source: Path, target: Path, patterns: Sequence[str]) -> None:
    """Copy the files of a folder that one of `patterns` fits."""
    found = {path for pattern in patterns for path in source.glob(pattern)}
    for path in sorted(found):
        if path.is_file():
            shutil.copyfile(path, target / path.name)


class _Tensors:
    """The tensors of a format, each put together when it is asked for."""

    def __init__(self, model: LLaDA) -> None:
        table = pieces(model.architecture)
        self._parts = parts_of(table)
        self._state: Mapping[str, Tensor] = model.state_dict()
        known = {piece.ours for piece in table}
        known |= {"head.weight"} if model.architecture.tied else set()
        if strange := sorted(self._state.keys() - known):
            raise CheckpointError(
                f"the model has '{strange[0]}' (and {len(strange) - 1} more), which "
                f"the format '{model.architecture.family}' has no name for; if these "
                f"are adapters, merge them first"
            )

    @property
    def bytes(self) -> dict[str, int]:
        """How large each tensor is."""
        return {
            name: sum(self._part(piece).nbytes for piece in parts)
            for name, parts in self._parts.items()
        }

    def _part(self, piece: Piece) -> Tensor:
        ours = self._state[piece.ours]
        return ours if piece.layer is None else ours[piece.layer]

    def __call__(self, name: str) -> Tensor:
        """Return the tensor `name`, on the CPU."""
        parts = [self._part(piece).detach().cpu() for piece in self._parts[name]]
        return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)


def split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Return names in groups, in order, each of `limit` bytes at most where it can."""
    groups: list[list[str]] = [[]]
    room = limit
    for name, size in sizes.items():
        if groups[-1] and size > room:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return groups


def write_groups(
    folder: Path, groups: Sequence[Sequence[str]], tensor: Callable[[str], Tensor]
) -> None:
    """Write each group as a file of safetensors, and the index if there are several.

    The tensors of one file are in memory at a time.
    """
    count, total = len(groups), 0
    index: dict[str, str] = {}
    for number, names in enumerate(groups, start=1):
        file = SINGLE
        if count > 1:
            file = f"model-{number:05d}-of-{count:05d}.safetensors"
        values = {name: tensor(name) for name in names}
        save_file(values, folder / file, metadata={"format": "pt"})
        # who may read the folder may read the file
        (folder / file).chmod(folder.stat().st_mode & 0o666)
        total += sum(value.numel() * value.element_size() for value in values.values())
        index |= dict.fromkeys(names, file)
    if count > 1:
        text = {
            "metadata": {"total_size": total},
            "weight_map": dict(sorted(index.items())),
        }
        (folder / INDEX).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
