"""A model from one format to another: read, renamed, written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mdlm_core.data.hub import quiet, require
from mdlm_core.errors import CheckpointError, UsageError
from mdlm_llada.lora import adapters, merge_lora
from mdlm_llada.models import is_family, is_run, trained_template
from mdlm_llada.nn.trunk import LLaDA
from mdlm_llada.tokenizer import check_masks

from .llama import PARTNERS, from_transformers, silent, to_transformers
from .locate import locate
from .read import Dtype, read_checkpoint, read_config
from .write import (
    CONFIG,
    SHARD_BYTES,
    TOKENIZER_FILES,
    check_empty,
    copy_files,
    write_checkpoint,
    write_folder,
    write_template,
)

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog


def convert(
    source: Path | str,
    out: Path | str,
    *,
    to: str = "auto",
    mask_token_id: int | None = None,
    dtype: Dtype = "auto",
    checkpoint: str | int = "best",
    weights: str = "ema",
    shard_bytes: int = SHARD_BYTES,
    catalog: Catalog | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write the model at `source` to the folder `out`, and return what was done.

    Args:
        source: a run; or a checkpoint of the family, of Llama or of Qwen2, by its
            folder or its name on the hub.
        out: where; it must not exist, or be empty.
        to: the format: a family, or ``llama`` or ``qwen2``; auto is the model's own,
            and for a Llama or a Qwen2 the family that it can be.
        mask_token_id: the mask, for a checkpoint that does not name one.
        dtype: type of the weights; auto leaves them as they are.
        checkpoint: of a run: "best", "last", or the number of a step.
        weights: of a run: "ema", or "raw".
        shard_bytes: bytes of a file of weights, at most.
        catalog: where the components of a run come from.
        say: told what else happens.

    Raises:
        UsageError: if `out` holds something, or there is no way to that format.
        CheckpointError: if the source cannot be read, or `out` not be written.
    """
    check_empty(Path(out))
    beside: Path | None = None
    template = "auto"
    if is_run(source):
        folder = Path(source).expanduser()
        model, template = _trained(folder, checkpoint, weights, catalog)
        tokenizer = folder / "tokenizer"
    else:
        folder = tokenizer = locate(source)
        if is_family(read_config(folder)):
            model = read_checkpoint(folder, mask_token_id=mask_token_id)
            beside = folder
        else:
            model = _foreign(folder, mask_token_id)
    if merged := len(adapters(model)):
        merge_lora(model)
        say(f"added {merged} adapters to the weights below them")
    if dtype != "auto":
        model = model.to(getattr(torch, dtype))
    family = model.architecture.family
    form = family if to == "auto" else to
    if form == family:
        place = write_checkpoint(
            model, out, tokenizer=tokenizer, beside=beside, shard_bytes=shard_bytes
        )
        if template != "auto":
            write_template(place, template)
    elif form == PARTNERS.get(family):
        partner = to_transformers(model)
        partner.config.mdlm_shift = (
            model.architecture.shift
        )  # `hugging_face.build` asks for it

        def fill(place: Path) -> None:
            size = max(1, shard_bytes // 10**6)
            with silent():
                partner.save_pretrained(place, max_shard_size=f"{size}MB")
            copy_files(tokenizer, place, TOKENIZER_FILES)
            if template != "auto":
                write_template(place, template)

        place = write_folder(out, fill)
    else:
        own = [family, *([PARTNERS[family]] if family in PARTNERS else [])]
        raise UsageError(
            f"'{source}' is of the format {family}, which cannot be written as "
            f"{form}; it can be {' or '.join(own)}"
        )
    return {
        "source": str(source),
        "out": str(place),
        "format": form,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.embed.weight.dtype).removeprefix("torch."),
        "mask_token_id": model.mask_id,
        "merged_adapters": merged,
    }


def _trained(
    folder: Path, checkpoint: str | int, weights: str, catalog: Catalog | None
) -> tuple[LLaDA, str]:
    """Return the backbone of a run, if it is of the family, and its template."""
    from mdlm_core.train import load_run

    run = load_run(folder, checkpoint=checkpoint, weights=weights, catalog=catalog)
    backbone: nn.Module = run.module.get_submodule("backbone")
    if not isinstance(backbone, LLaDA):
        raise UsageError(
            f"the model of the run '{folder}' is a {type(backbone).__name__}, which "
            f"none of the formats has room for; those trained with model=llada can be "
            f"converted"
        )
    return backbone, trained_template(run)


def _foreign(folder: Path, mask_token_id: int | None) -> LLaDA:
    """Return a Llama or a Qwen2 as a model of the family."""
    config = read_config(folder)
    known = ("LlamaForCausalLM", "Qwen2ForCausalLM")
    names = config.get("architectures") or []
    if not set(names) & set(known):
        raise CheckpointError(
            f"'{folder}' is of the kind {', '.join(map(str, names))}, which is none of "
            f"the family; {' and '.join(known)} can be converted to it"
        )
    mask = config.get("mask_token_id")
    check_masks(
        [
            ("mask_token_id is given as", mask_token_id),
            (f"'{folder / CONFIG}' says mask_token_id", mask),
        ]
    )
    mask = mask_token_id if mask is None else mask
    if mask is None:
        raise UsageError(
            f"'{folder}' does not say which token is the mask; choose one that it has "
            f"not used, such as a reserved one, and give --mask-token-id"
        )
    transformers = require("transformers", f"reading '{folder}'")
    load = transformers.AutoModelForCausalLM.from_pretrained
    try:
        with quiet(), silent():
            found = load(folder, dtype="auto", local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"'{folder}' cannot be loaded: {error}") from error
    return from_transformers(found, int(mask))
