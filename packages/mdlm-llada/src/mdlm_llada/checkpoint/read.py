"""A checkpoint of a published format, read straight into a trunk.

The model is made without memory, then each tensor is read from its file into its
place, so that there is never a second copy of the model.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_llada.architecture import Architecture

from .locate import locate
from .names import IGNORED, Piece, Shape, parts_of, pieces, shapes
from .write import CONFIG, INDEX, SINGLE

if TYPE_CHECKING:
    from mdlm_llada.nn.trunk import LLaDA

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}
_SHOWN = 4
"""Names that a report of each kind shows."""


def read_checkpoint(
    path: Path | str,
    *,
    mask_token_id: int | None = None,
    vocab_size: int = 0,
    dtype: Dtype = "auto",
    device: torch.device | str = "cpu",
) -> LLaDA:
    """Return the model of a checkpoint, in training mode.

    Args:
        path: a folder, or a name on the Hugging Face hub.
        mask_token_id: the mask, if neither config.json nor the tokenizer names it.
        vocab_size: ids of the tokenizer that the model will be used with.
        dtype: type of the weights; auto is the one that most of them have.
        device: where they go.

    Raises:
        CheckpointError: if a file is missing or damaged, or the tensors are not
            exactly those that config.json asks for.
        ConfigError: if the mask is not known, or cannot be one; or the tokenizer has
            more ids than the model.
    """
    from mdlm_llada.nn.trunk import LLaDA

    folder = locate(path)
    architecture = read_architecture(folder)
    mask_id = find_mask(folder, architecture, mask_token_id)
    rows = architecture.vocab_size
    if vocab_size > rows:
        raise ConfigError(
            f"the tokenizer has {vocab_size} ids, but the checkpoint '{path}' has rows "
            f"for {rows}; use the tokenizer that belongs to it"
        )
    if mask_token_id is not None:
        architecture = replace(architecture, mask_token_id=mask_token_id)
    table = pieces(architecture)
    with ExitStack() as stack:
        files = {name: _open(stack, folder / name) for name in weight_files(folder)}
        where = _where(folder, files)
        _check(folder, shapes(table), where, files)
        kind = _common_type(where, files) if dtype == "auto" else getattr(torch, dtype)
        with torch.device("meta"):
            model = LLaDA(architecture, mask_id=mask_id)
        for parameter in model.parameters():  # buffers keep the types they have
            parameter.data = parameter.data.to(kind)
        model = model.to_empty(device=device)
        if architecture.tied:  # what has just been undone
            model.head.weight = model.embed.weight
        _fill(model, parts_of(table), where, files)
    return model


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json.

    Raises:
        CheckpointError: if there is none, or it is no JSON object.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"'{folder}' is no checkpoint: it has no {CONFIG}"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{path}' cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"'{path}' holds {type(config).__name__}, not an object")
    return config


def read_architecture(folder: Path) -> Architecture:
    """Return what the checkpoint in `folder` is like, from its config.json."""
    return Architecture.from_json(read_config(folder), str(folder / CONFIG))


def find_mask(folder: Path, architecture: Architecture, given: int | None) -> int:
    """Return the mask: the one given, or that of config.json, or the tokenizer's.

    Raises:
        ConfigError: if none is known, or it is outside the vocabulary, or it is the
            end of text or padding.
    """
    mask, source = given, "mask_token_id"
    if mask is None:
        mask, source = architecture.mask_token_id, f"mask_token_id of {CONFIG}"
    if mask is None:
        mask, source = _tokenizers_mask(folder), "the tokenizer's mask"
    if mask is None:
        raise ConfigError(
            f"the checkpoint '{folder}' does not say which token is the mask, neither "
            f"in {CONFIG} nor in its tokenizer; give mask_token_id"
        )
    rows = architecture.vocab_size
    if not 0 <= mask < rows:
        raise ConfigError(
            f"{source} is {mask}, but the checkpoint '{folder}' has ids from 0 to "
            f"{rows - 1}"
        )
    for name in ("eos_token_id", "pad_token_id"):
        if mask == getattr(architecture, name):
            raise ConfigError(
                f"{source} is {mask}, which is also {name} of the checkpoint "
                f"'{folder}'; the mask is a token of its own"
            )
    return mask


def _tokenizers_mask(folder: Path) -> int | None:
    """Return the mask that the tokenizer beside the weights has as a token."""
    from mdlm_llada.tokenizer import load_tokenizer, special_ids

    if not any(folder.glob("tokenizer*")):
        return None
    tokenizer = load_tokenizer(str(folder))
    # A tokenizer without a mask gets a new id, which the model knows nothing of.
    known = tokenizer.mask_id in special_ids(tokenizer).values()
    return tokenizer.mask_id if known else None


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
        some = ", ".join(f"'{name}'" for name in missing[:_SHOWN])
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
    width, have = len(total), {path.name for path in numbered}
    names = (f"model-{i:0{width}d}-of-{total}.safetensors" for i in _from_1(total))
    return [name for name in names if name not in have]


def _from_1(total: str) -> range:
    return range(1, int(total) + 1)


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


def _open(stack: ExitStack, path: Path) -> Any:
    """Open a file of weights; its header is read, not its tensors."""
    try:
        return stack.enter_context(safe_open(path, framework="pt"))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"'{path}' cannot be read as safetensors: {error}; fetch it again"
        ) from error


def _where(folder: Path, files: Mapping[str, Any]) -> dict[str, str]:
    """Return the file of each tensor, and check that the index says the same."""
    where: dict[str, str] = {}
    for file, opened in files.items():
        for name in tuple(opened.keys()):
            if name in where:
                raise CheckpointError(
                    f"in '{folder}' both '{where[name]}' and '{file}' hold '{name}'"
                )
            where[name] = file
    if SINGLE in files or not (folder / INDEX).is_file():
        return where
    said = _index(folder)
    for name in sorted(said.keys() | where.keys()):
        if said.get(name) != where.get(name):
            raise CheckpointError(
                f"'{folder / INDEX}' says that '{name}' is in '{said.get(name)}', but "
                f"it is in '{where.get(name)}'; fetch the checkpoint again"
            )
    return where


def _check(
    folder: Path,
    wanted: Mapping[str, Shape],
    where: Mapping[str, str],
    files: Mapping[str, Any],
) -> None:
    """Check names, shapes and types of all tensors before anything is read."""
    held = {name for name in where if not name.endswith(IGNORED)}
    wrong = []
    for name in sorted(wanted.keys() & held):
        view = files[where[name]].get_slice(name)
        shape = tuple(view.get_shape())
        if shape != wanted[name]:
            wrong.append(f"{name} is {shape} and should be {wanted[name]}")
        elif view.get_dtype() not in _DTYPES:
            wrong.append(f"{name} is of type {view.get_dtype()}, which is not read")
    report = [
        f"{what} {len(names)}: {', '.join(names[:_SHOWN])}"
        + ", ..." * (len(names) > _SHOWN)
        for what, names in (
            ("missing", sorted(wanted.keys() - held)),
            ("unexpected", sorted(held - wanted.keys())),
            ("wrong", wrong),
        )
        if names
    ]
    if report:
        raise CheckpointError(
            f"the tensors in '{folder}' are not those that its {CONFIG} asks for: "
            f"{'; '.join(report)}"
        )


def _common_type(where: Mapping[str, str], files: Mapping[str, Any]) -> torch.dtype:
    """Return the type that most numbers of a checkpoint have."""
    counts: Counter[torch.dtype] = Counter()
    for name, file in where.items():
        view = files[file].get_slice(name)
        if view.get_dtype() in _DTYPES:
            size = torch.Size(view.get_shape()).numel()
            counts[_DTYPES[view.get_dtype()]] += size
    return counts.most_common(1)[0][0]


def _fill(
    model: nn.Module,
    parts: Mapping[str, list[Piece]],
    where: Mapping[str, str],
    files: Mapping[str, Any],
) -> None:
    """Read every tensor into its place."""
    state = model.state_dict()
    for name in sorted(parts, key=where.__getitem__):  # file by file
        try:
            tensor: Tensor = files[where[name]].get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"'{name}' in '{where[name]}' cannot be read: {error}"
            ) from error
        for piece in parts[name]:
            part = tensor if piece.rows is None else tensor[slice(*piece.rows)]
            place = state[piece.ours]
            (place if piece.layer is None else place[piece.layer]).copy_(part)
