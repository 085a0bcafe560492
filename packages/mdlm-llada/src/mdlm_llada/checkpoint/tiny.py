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
from .write import CONFIG, split, write_folder, write_groups

if TYPE_CHECKING:
    import torch

FAMILIES: tuple[str, ...] = get_args(Family)

_SPECIALS: Mapping[str, tuple[str, ...]] = {
    "llada": (
        "<|startoftext|>",
        "<|endoftext|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|mdm_mask|>",
    ),
    "dream": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|mask|>"),
    "llada-moe": ("<|startoftext|>", "<|endoftext|>", "<|role_end|>", "<|mask|>"),
    "llada2": ("<|startoftext|>", "<|endoftext|>", "<|role_end|>", "<|mask|>"),
}
_BYTES = 256


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
    least = _BYTES + len(_SPECIALS[family])
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
        "kv_heads": kv_heads or (heads // 2 if family in _GROUPED else heads),
        "mlp_width": mlp_width,
        "vocab_size": vocab_size or least,
    }
    config = {**_config(family, sizes, dtype), **(changes or {})}
    architecture = Architecture.from_json(config, str(folder / CONFIG))
    weights = _weights(architecture, seed, dtype, scale)
    groups = split(dict.fromkeys(weights, 1), -(-len(weights) // shards))

    def fill(place: Path) -> None:
        text = json.dumps(config, indent=2) + "\n"
        (place / CONFIG).write_text(text, encoding="utf-8")
        write_groups(place, groups, weights.__getitem__)
        _write_tokenizer(place, family)

    return write_folder(folder, fill)


_GROUPED = ("dream", "llada2")
"""Families whose published checkpoints have fewer key heads than query heads."""


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


def _config(family: str, sizes: Mapping[str, int], dtype: str) -> dict[str, object]:
    """Return config.json with the fields of the published one.

    ``auto_map`` is left out: it names files of code, and there is none here.
    """
    ids = {token: _BYTES + i for i, token in enumerate(_SPECIALS[family])}
    end = ids["<|endoftext|>"]
    shared: dict[str, object] = {
        "torch_dtype": dtype,
        "transformers_version": "4.46.3",
        "use_cache": False,
        "vocab_size": sizes["vocab_size"],
    }
    if family == "llada":
        return {**shared, **_llada(sizes), "mask_token_id": ids["<|mdm_mask|>"]} | {
            "eos_token_id": end,
            "pad_token_id": end,
        }
    shared |= {
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": sizes["width"],
        "initializer_range": 0.02,
        "num_attention_heads": sizes["heads"],
        "num_hidden_layers": sizes["blocks"],
        "num_key_value_heads": sizes["kv_heads"],
        "pad_token_id": end,
        "tie_word_embeddings": False,
    }
    make = {"dream": _dream, "llada-moe": _llada_moe, "llada2": _llada2}[family]
    return {**shared, **make(sizes, ids)}


def _llada(sizes: Mapping[str, int]) -> dict[str, object]:
    return {
        "activation_type": "silu",
        "alibi": False,
        "alibi_bias_max": 8.0,
        "architectures": ["LLaDAModelLM"],
        "attention_dropout": 0.0,
        "attention_layer_norm": False,
        "attention_layer_norm_with_affine": True,
        "bias_for_layer_norm": False,
        "block_group_size": 1,
        "block_type": "llama",
        "d_model": sizes["width"],
        "embedding_dropout": 0.0,
        "embedding_size": sizes["vocab_size"],
        "flash_attention": False,
        "include_bias": False,
        "include_qkv_bias": False,
        "init_cutoff_factor": None,
        "init_device": "meta",
        "init_fn": "mitchell",
        "init_std": 0.02,
        "input_emb_norm": False,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "max_sequence_length": 4096,
        "mlp_hidden_size": sizes["mlp_width"],
        "mlp_ratio": 4,
        "model_type": "llada",
        "multi_query_attention": None,
        "n_heads": sizes["heads"],
        "n_kv_heads": sizes["kv_heads"],
        "n_layers": sizes["blocks"],
        "precision": "amp_bf16",
        "residual_dropout": 0.0,
        "rms_norm_eps": 1e-05,
        "rope": True,
        "rope_full_precision": True,
        "rope_theta": 500000.0,
        "scale_logits": False,
        "weight_tying": False,
    }


def _dream(sizes: Mapping[str, int], ids: Mapping[str, int]) -> dict[str, object]:
    return {
        "architectures": ["DreamModel"],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "intermediate_size": sizes["mlp_width"],
        "mask_token_id": ids["<|mask|>"],
        "max_position_embeddings": 131072,
        "max_window_layers": sizes["blocks"],
        "model_type": "Dream",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "use_sliding_window": False,
    }


def _llada_moe(sizes: Mapping[str, int], ids: Mapping[str, int]) -> dict[str, object]:
    """Return the fields of LLaDA-MoE, which names no mask and calls itself llada."""
    return {
        "architectures": ["LLaDAMoEModelLM"],
        "attention_bias": False,
        "clip_qkv": None,
        "dense_intermediate_size": 2 * sizes["mlp_width"],
        "eos_token_id": ids["<|endoftext|>"],
        "expert_intermediate_size": sizes["mlp_width"] // 2,
        "max_position_embeddings": 8192,
        "model_type": "llada",
        "moe_layer_freq": [1] * sizes["blocks"],
        "moe_router_enable_expert_bias": False,
        "moe_router_score_function": "softmax",
        "norm_topk_prob": None,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "output_router_logits": False,
        "partial_rotary_factor": 1,
        "qk_layernorm": True,
        "rms_norm_eps": 1e-05,
        "rope_theta": 50000,
        "routed_scaling_factor": 1,
        "router_aux_loss_coef": 0.01,
        "router_num_group": None,
        "router_topk_group": None,
        "shared_expert_intermediate_size": None,
    }


def _llada2(sizes: Mapping[str, int], ids: Mapping[str, int]) -> dict[str, object]:
    """Return the fields of LLaDA 2.x, which names no mask and no size of a block."""
    return {
        "architectures": ["LLaDA2MoeModelLM"],
        "embedding_dropout": 0.0,
        "eos_token_id": ids["<|endoftext|>"],
        "first_k_dense_replace": 1,
        "head_dim": sizes["width"] // sizes["heads"],
        "intermediate_size": 2 * sizes["mlp_width"],
        "max_position_embeddings": 32768,
        "max_window_layers": sizes["blocks"],
        "model_type": "llada2_moe",
        "moe_intermediate_size": sizes["mlp_width"] // 2,
        "moe_router_enable_expert_bias": True,
        "n_group": 4,
        "norm_head": False,
        "norm_topk_prob": True,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "output_dropout": 0.0,
        "output_router_logits": False,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-06,
        "rope_theta": 600000,
        "rotary_dim": sizes["width"] // sizes["heads"] // 2,
        "routed_scaling_factor": 2.5,
        "router_dtype": "fp32",
        "score_function": "sigmoid",
        "sliding_window": 4096,
        "topk_group": 2,
        "use_bias": False,
        "use_qk_norm": True,
        "use_qkv_bias": False,
        "use_sliding_window": False,
    }


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
    specials = _SPECIALS[family]
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
    return [chr(b) if b in printed else chr(next(others)) for b in range(_BYTES)]
