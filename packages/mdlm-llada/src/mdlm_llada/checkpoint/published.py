"""What stands in the config.json of published checkpoints. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping

SPECIALS: Mapping[str, tuple[str, ...]] = {
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
BYTES = 256
"""Ids of a tokenizer of bytes; the special tokens follow."""

GROUPED = ("dream", "llada2")
"""Families whose published checkpoints have fewer key heads than query heads."""


def published(family: str, sizes: Mapping[str, int], dtype: str) -> dict[str, object]:
    """Return config.json with the fields of the published one.

    ``auto_map`` is left out: it names files of code, and there is none here.
    """
    ids = {token: BYTES + i for i, token in enumerate(SPECIALS[family])}
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
