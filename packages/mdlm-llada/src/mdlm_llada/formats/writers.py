"""The config.json of the four formats, from an architecture."""

from __future__ import annotations

from collections.abc import Callable

from mdlm_llada.architecture import Architecture
from mdlm_llada.config.model import ExpertsConfig, Family


def _llada(a: Architecture) -> dict[str, object]:
    return {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "d_model": a.width,
        "n_layers": a.blocks,
        "n_heads": a.heads,
        "n_kv_heads": a.kv_heads,
        "mlp_hidden_size": a.mlp_width,
        "vocab_size": a.vocab_size,
        "embedding_size": a.vocab_size,
        "max_sequence_length": a.max_positions,
        "rms_norm_eps": a.norm_eps,
        "rope_theta": a.rope_theta,
        "weight_tying": a.tied,
        "include_qkv_bias": a.qkv_bias,
        **_LLADA_ALWAYS,
        **_tokens(a),
    }


_LLADA_ALWAYS: dict[str, object] = {
    "activation_type": "silu",
    "alibi": False,
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_type": "llama",
    "embedding_dropout": 0.0,
    "include_bias": False,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mlp_ratio": 4,
    "residual_dropout": 0.0,
    "rope": True,
    "rope_full_precision": True,
    "scale_logits": False,
}


def _dream(a: Architecture) -> dict[str, object]:
    return {
        "architectures": ["DreamModel"],
        "model_type": "Dream",
        "intermediate_size": a.mlp_width,
        "use_sliding_window": False,
        **_sizes(a),
        **_tokens(a),
    }


def _llada_moe(a: Architecture) -> dict[str, object]:
    experts = _experts(a)
    return {
        "architectures": ["LLaDAMoEModelLM"],
        "model_type": "llada",
        "dense_intermediate_size": a.mlp_width,
        "expert_intermediate_size": experts.width,
        "shared_expert_intermediate_size": None,
        "moe_layer_freq": [1] * a.blocks,
        "norm_topk_prob": a.norm_topk,
        "num_experts": experts.count,
        "num_experts_per_tok": experts.per_token,
        "partial_rotary_factor": a.rotary_size / a.head_size,
        "qk_layernorm": a.qk_norm,
        "routed_scaling_factor": experts.scale,
        "attention_bias": False,
        **_sizes(a),
        **_tokens(a),
    }


def _llada2(a: Architecture) -> dict[str, object]:
    experts = _experts(a)
    return {
        "architectures": ["LLaDA2MoeModelLM"],
        "model_type": "llada2_moe",
        "block_size": a.block_size,
        "first_k_dense_replace": experts.dense_layers,
        "intermediate_size": a.mlp_width,
        "moe_intermediate_size": experts.width,
        "moe_router_enable_expert_bias": True,
        "n_group": experts.groups,
        "norm_topk_prob": True,
        "num_experts": experts.count,
        "num_experts_per_tok": experts.per_token,
        "num_shared_experts": experts.shared,
        "partial_rotary_factor": a.rotary_size / a.head_size,
        "routed_scaling_factor": experts.scale,
        "score_function": "sigmoid",
        "topk_group": experts.groups_per_token,
        "use_bias": a.out_bias,
        "use_qk_norm": a.qk_norm,
        "use_qkv_bias": a.qkv_bias,
        "use_sliding_window": False,
        **_sizes(a),
        **_tokens(a),
    }


def _sizes(a: Architecture) -> dict[str, object]:
    return {
        "head_dim": a.head_size,
        "hidden_act": "silu",
        "hidden_size": a.width,
        "max_position_embeddings": a.max_positions,
        "num_attention_heads": a.heads,
        "num_hidden_layers": a.blocks,
        "num_key_value_heads": a.kv_heads,
        "rms_norm_eps": a.norm_eps,
        "rope_scaling": None,
        "rope_theta": a.rope_theta,
        "tie_word_embeddings": a.tied,
        "vocab_size": a.vocab_size,
    }


def _tokens(a: Architecture) -> dict[str, object]:
    tokens = {
        "mask_token_id": a.mask_token_id,
        "eos_token_id": a.eos_token_id,
        "pad_token_id": a.pad_token_id,
    }
    return {name: token for name, token in tokens.items() if token is not None}


def _experts(a: Architecture) -> ExpertsConfig:
    assert a.experts is not None
    return a.experts


WRITERS: dict[Family, Callable[[Architecture], dict[str, object]]] = {
    "llada": _llada,
    "dream": _dream,
    "llada-moe": _llada_moe,
    "llada2": _llada2,
}
"""From the architecture to the fields of a config.json."""
