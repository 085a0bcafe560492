"""Architectures from the config.json of the four formats.

A field that changes what the model computes is read or refused; dropout is neither,
since the models here have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from mdlm_core.errors import CheckpointError
from mdlm_llada.architecture import Architecture
from mdlm_llada.config.model import ExpertsConfig, Family

from .fields import Fields


def _llada(fields: Fields) -> Architecture:
    for name in ("alibi", "input_emb_norm", "attention_layer_norm", "scale_logits"):
        fields.only(name, False)
    fields.only("include_bias", False)
    fields.only("bias_for_layer_norm", False, None)
    fields.only("multi_query_attention", False, None)
    fields.only("layer_norm_with_affine", True)
    fields.only("clip_qkv", None)
    fields.only("rope", True)
    fields.only("block_type", "llama")
    fields.only("layer_norm_type", "rms")
    fields.only("activation_type", "silu")
    width, heads = fields.integer("d_model"), fields.integer("n_heads")
    head_size = width // max(heads, 1)
    inner = fields.integer("mlp_ratio", 4) * width
    return Architecture(
        family="llada",
        vocab_size=fields.integer("embedding_size", fields.integer("vocab_size")),
        width=width,
        blocks=fields.integer("n_layers"),
        heads=heads,
        kv_heads=fields.integer("n_kv_heads", heads),
        head_size=head_size,
        mlp_width=fields.integer("mlp_hidden_size", inner),
        rope_theta=fields.theta(10_000.0),
        rotary_size=head_size,
        norm_eps=fields.number("rms_norm_eps", 1e-5),
        tied=fields.flag("weight_tying", default=False),
        qkv_bias=fields.flag("include_qkv_bias", default=False),
        max_positions=fields.integer("max_sequence_length", 4096),
        **_tokens(fields),
    )


def _dream(fields: Fields) -> Architecture:
    fields.only("use_sliding_window", False, None)
    return Architecture(
        family="dream",
        mlp_width=fields.integer("intermediate_size"),
        qkv_bias=True,
        shift=True,
        **_sizes(fields),
        **_tokens(fields),
    )


def _llada_moe(fields: Fields) -> Architecture:
    fields.only("moe_router_score_function", None, "softmax")
    fields.only("moe_router_enable_expert_bias", None, False)
    fields.only("router_num_group", None, -2, -1, 0, 1)
    fields.only("attention_bias", None, False)
    fields.only("clip_qkv", None)
    frequency = fields.config.get("moe_layer_freq") or []
    if not isinstance(frequency, list) or any(one != 1 for one in frequency):
        raise CheckpointError(
            f"{fields.where}: moe_layer_freq is {frequency}; models with layers that "
            f"have no experts are not implemented here, it must be all 1"
        )
    width = fields.integer("expert_intermediate_size")
    return Architecture(
        family="llada-moe",
        mlp_width=fields.integer("dense_intermediate_size", width),
        qk_norm=fields.flag("qk_layernorm", default=False),
        experts=ExpertsConfig(
            count=fields.integer("num_experts"),
            per_token=fields.integer("num_experts_per_tok"),
            width=width,
            scale=fields.number("routed_scaling_factor", 1.0),
        ),
        router="softmax",
        norm_topk=fields.flag("norm_topk_prob", default=False),
        **_sizes(fields),
        **_tokens(fields),
    )


def _llada2(fields: Fields) -> Architecture:
    fields.only("score_function", "sigmoid")
    fields.only("use_sliding_window", False, None)
    fields.only("use_linear_attention", False, None)
    fields.only("norm_head", False, None)
    fields.only("norm_topk_prob", True, None)
    fields.only("num_nextn_predict_layers", 0, None)
    fields.only("moe_router_enable_expert_bias", True, None)
    width = fields.integer("moe_intermediate_size")
    return Architecture(
        family="llada2",
        mlp_width=fields.integer("intermediate_size", width),
        qkv_bias=fields.flag("use_qkv_bias", default=False),
        out_bias=fields.flag("use_bias", default=True),
        qk_norm=fields.flag("use_qk_norm", default=True),
        block_size=fields.integer("block_size", fields.integer("block_length", 32)),
        experts=ExpertsConfig(
            count=fields.integer("num_experts"),
            per_token=fields.integer("num_experts_per_tok"),
            width=width,
            shared=fields.integer("num_shared_experts", 0),
            dense_layers=fields.integer("first_k_dense_replace", 0),
            groups=fields.integer("n_group", 1),
            groups_per_token=fields.integer("topk_group", 1),
            scale=fields.number("routed_scaling_factor", 1.0),
        ),
        router="sigmoid-groups",
        norm_topk=True,
        **_sizes(fields),
        **_tokens(fields),
    )


class _Sizes(TypedDict):
    vocab_size: int
    width: int
    blocks: int
    heads: int
    kv_heads: int
    head_size: int
    rope_theta: float
    rotary_size: int
    norm_eps: float
    tied: bool
    max_positions: int


def _sizes(fields: Fields) -> _Sizes:
    """Read what the three formats with transformers' names share."""
    fields.only("hidden_act", "silu")
    width, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    head_size = fields.integer("head_dim", width // max(heads, 1))
    turning = fields.number("partial_rotary_factor", 1.0)
    return _Sizes(
        vocab_size=fields.integer("vocab_size"),
        width=width,
        blocks=fields.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads) or heads,
        head_size=head_size,
        rope_theta=fields.theta(),
        rotary_size=int(head_size * turning),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        tied=fields.flag("tie_word_embeddings", default=False),
        max_positions=fields.integer("max_position_embeddings", 4096),
    )


class _Tokens(TypedDict):
    mask_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None


def _tokens(fields: Fields) -> _Tokens:
    return _Tokens(
        mask_token_id=fields.token("mask_token_id"),
        eos_token_id=fields.token("eos_token_id"),
        pad_token_id=fields.token("pad_token_id"),
    )


READERS: dict[Family, Callable[[Fields], Architecture]] = {
    "llada": _llada,
    "dream": _dream,
    "llada-moe": _llada_moe,
    "llada2": _llada2,
}
"""From the fields of a config.json to the architecture, without `raw`."""
