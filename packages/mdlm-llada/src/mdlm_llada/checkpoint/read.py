"""A checkpoint of a published format, read straight into a trunk.

The model is made without memory, then each tensor is read from its file into its
place, so that there is never a second copy of the model.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_llada.architecture import Architecture

from .files import SHOWN, Header, headers, opened
from .locate import locate
from .names import IGNORED, Piece, Shape, parts_of, pieces, shapes
from .write import CONFIG

if TYPE_CHECKING:
    from mdlm_llada.nn.trunk import LLaDA

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}


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
    found = headers(folder)
    _check(folder, shapes(table), found)
    kind = _common_type(found) if dtype == "auto" else getattr(torch, dtype)
    with torch.device("meta"):
        model = LLaDA(architecture, mask_id=mask_id)
    model = model.to(kind).to_empty(device=device)
    if architecture.tied:  # what has just been undone
        model.head.weight = model.embed.weight
    _fill(folder, model, parts_of(table), found)
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
            f"'{folder}' is neither a run nor a checkpoint: it has no {CONFIG}"
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
    """Return the mask: the one given, that of config.json, or the tokenizer's.

    Raises:
        ConfigError: if none is known, two of them are different, or it is outside the
            vocabulary, or it is the end of text or padding.
    """
    from mdlm_llada.tokenizer import check_masks

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
    check_masks(
        [
            ("mask_token_id is given as", given),
            (f"'{folder / CONFIG}' says mask_token_id", architecture.mask_token_id),
            (f"the mask of the tokenizer in '{folder}' is", _tokenizers_mask(folder)),
        ]
    )
    return mask


def _tokenizers_mask(folder: Path) -> int | None:
    """Return the mask that the tokenizer beside the weights has as a token."""
    from mdlm_core.data.pretrained import PretrainedTokenizer
    from mdlm_core.data.tokenizers import build_tokenizer
    from mdlm_llada.tokenizer import named_mask, quiet_settings

    if not any(folder.glob("tokenizer*")):
        return None
    with quiet_settings():
        tokenizer = build_tokenizer(str(folder))
    # A tokenizer without a mask gets a new id, which the model knows nothing of.
    if isinstance(tokenizer, PretrainedTokenizer):
        return named_mask(tokenizer)
    return None


def _check(
    folder: Path, wanted: Mapping[str, Shape], found: Mapping[str, Header]
) -> None:
    """Check names, shapes and types of all tensors before anything is read."""
    held = {name for name in found if not name.endswith(IGNORED)}
    wrong = []
    for name in sorted(wanted.keys() & held):
        header = found[name]
        if header.shape != wanted[name]:
            wrong.append(f"{name} is {header.shape} and should be {wanted[name]}")
        elif header.kind not in _DTYPES:
            wrong.append(f"{name} is of type {header.kind}, which is not read")
    report = [
        f"{what} {len(names)}: {', '.join(names[:SHOWN])}"
        + ", ..." * (len(names) > SHOWN)
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


def _common_type(found: Mapping[str, Header]) -> torch.dtype:
    """Return the type that most numbers of a checkpoint have."""
    counts: Counter[str] = Counter()
    for header in found.values():
        counts[header.kind] += math.prod(header.shape)
    return _DTYPES[counts.most_common(1)[0][0]]


def _fill(
    folder: Path,
    model: nn.Module,
    parts: Mapping[str, list[Piece]],
    found: Mapping[str, Header],
) -> None:
    """Read every tensor into its place, one file after the other."""
    state = model.state_dict()
    for file in sorted({found[name].file for name in parts}):
        with opened(folder / file) as content:
            for name in (name for name in parts if found[name].file == file):
                tensor: Tensor = content.get_tensor(name)
                for piece in parts[name]:
                    part = tensor if piece.rows is None else tensor[slice(*piece.rows)]
                    place = state[piece.ours]
                    place = place if piece.layer is None else place[piece.layer]
                    place.copy_(part)
