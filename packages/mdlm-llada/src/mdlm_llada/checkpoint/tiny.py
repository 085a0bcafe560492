"""Tiny random checkpoints in the published formats, for tests and for trying things.

A folder has what a published one has: ``config.json`` with the same fields, weights
in safetensors under the same names, and the files of a tokenizer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mdlm_core.errors import ConfigError, UnknownNameError
from mdlm_core.kernels.noise import Noise
from mdlm_llada.architecture import Architecture
from mdlm_llada.config.model import Family

from .names import pieces, shapes
from .published import BYTES, GROUPED, SPECIALS, published
from .write import CONFIG, split, write_folder, write_groups

if TYPE_CHECKING:
    import torch

FAMILIES: tuple[str, ...] = get_args(Family)


def tiny_checkpoint(
    folder: Path | str,
    family: str = "llada",
    *,
    shards: int = 1,
    seed: int = 0,
    blocks: int = 2,
    width: int = 32,
    heads: int = 2,
    kv_heads: int = 0,
    mlp_width: int = 64,
    vocab_size: int = 0,
    dtype: str = "float32",
    scale: float = 1.0,
    changes: Mapping[str, object] | None = None,
) -> Path:
    """Write a random checkpoint and return its folder.

    Args:
        folder: where; it is made, and must be empty.
        family: one of `FAMILIES`.
        shards: files that the weights are spread over.
        seed: of the weights.
        blocks: transformer blocks.
        width: D, a multiple of `heads`.
        heads: query heads.
        kv_heads: key and value heads; 0 means as many, and half as many for Dream
            and LLaDA 2.x.
        mlp_width: inner width of the MLP.
        vocab_size: rows of the embedding; 0 means as many as the tokenizer has ids.
            Published checkpoints have some more.
        dtype: type of the weights, "float32" or "bfloat16".
        scale: factor on the weights' standard deviation, ``1 / sqrt(columns)``.
            Larger ones make a model that is surer of itself.
        changes: fields of ``config.json`` to set besides.

    Raises:
        UnknownNameError: if there is no such family.
        ConfigError: if the sizes do not go together.
        UsageError: if the folder holds something.
    """
    folder = Path(folder)
    if family not in FAMILIES:
        near = get_close_matches(family, FAMILIES, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UnknownNameError(
            f"there is no family '{family}'{hint}; there are {', '.join(FAMILIES)}"
        )
    least = BYTES + len(SPECIALS[family])
    if (vocab_size or least) < least:
        raise ConfigError(
            f"vocab_size is {vocab_size}; the tokenizer of a tiny '{family}' has "
            f"{least} ids"
        )
    if width % (2 * heads):
        raise ConfigError(
            f"width ({width}) must be a multiple of twice heads ({heads})"
        )
    sizes = {
        "blocks": blocks,
        "width": width,
        "heads": heads,
        "kv_heads": kv_heads or (heads // 2 if family in GROUPED else heads),
        "mlp_width": mlp_width,
        "vocab_size": vocab_size or least,
    }
    config = {**published(family, sizes, dtype), **(changes or {})}
    architecture = Architecture.from_json(config, str(folder / CONFIG))
    weights = _weights(architecture, seed, dtype, scale)
    groups = split(dict.fromkeys(weights, 1), -(-len(weights) // shards))

    def fill(place: Path) -> None:
        text = json.dumps(config, indent=2) + "\n"
        (place / CONFIG).write_text(text, encoding="utf-8")
        write_groups(place, groups, weights.__getitem__)
        _write_tokenizer(place, family)

    return write_folder(folder, fill)


def _weights(
    architecture: Architecture, seed: int, dtype: str, scale: float
) -> dict[str, torch.Tensor]:
    """Return a tensor for every name of the format."""
    import torch

    noise = Noise(seed)
    weights = {}
    for name, shape in shapes(pieces(architecture)).items():
        rows = torch.arange(math.prod(shape[:-1]))
        uniform = noise.child(name).uniform(rows, shape[-1])
        normal = torch.special.ndtri(uniform).view(shape)
        if "norm.weight" in name or name.endswith("ln_f.weight"):
            value = 1 + 0.1 * normal
        else:
            value = normal * (scale / math.sqrt(shape[-1]))
        # A router's correction is a buffer, which is published in float32.
        kind = "float32" if name.endswith("expert_bias") else dtype
        weights[name] = value.to(getattr(torch, kind))
    return weights


def _write_tokenizer(folder: Path, family: str) -> None:
    """Write a tokenizer of 256 bytes without merges, and the family's special tokens.

    LLaDA's does not name its mask; the others' do.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = _letters()
    vocab = {letter: byte for byte, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = SPECIALS[family]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in specials]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    if "<|startoftext|>" in specials:
        named["bos_token"] = "<|startoftext|>"
    if family != "llada":
        named["mask_token"] = "<|mask|>"
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 4096,
        "clean_up_tokenization_spaces": False,
        **named,
    }
    text = json.dumps(settings, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    text = json.dumps(named, indent=2) + "\n"
    (folder / "special_tokens_map.json").write_text(text, encoding="utf-8")


def _letters() -> list[str]:
    """Return the character that stands for each byte in a byte-level vocabulary.

    Bytes that print stand for themselves, the others follow from U+0100 on (GPT-2).
    """
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in printed else chr(next(others)) for b in range(BYTES)]
