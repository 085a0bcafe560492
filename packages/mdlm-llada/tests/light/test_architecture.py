"""Architectures from config.json and back, without torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mdlm_core.errors import CheckpointError
from mdlm_llada.architecture import Architecture
from mdlm_llada.config import ExpertsConfig, LLaDAConfig

WHERE = "model/config.json"

LLADA_8B: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"],
    "model_type": "llada",
    "d_model": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "mlp_hidden_size": 12288,
    "mlp_ratio": 4,
    "vocab_size": 126464,
    "embedding_size": 126464,
    "mask_token_id": 126336,
    "eos_token_id": 126081,
    "pad_token_id": 126081,
    "max_sequence_length": 4096,
    "activation_type": "silu",
    "block_type": "llama",
    "layer_norm_type": "rms",
    "rms_norm_eps": 1e-5,
    "layer_norm_with_affine": True,
    "bias_for_layer_norm": False,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "alibi": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "weight_tying": False,
    "scale_logits": False,
    "input_emb_norm": False,
    "attention_layer_norm": False,
    "flash_attention": False,
    "init_fn": "mitchell",
}
DREAM_7B: dict[str, Any] = {
    "architectures": ["DreamModel"],
    "model_type": "Dream",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": None,
    "use_sliding_window": False,
    "vocab_size": 152064,
    "mask_token_id": 151666,
    "pad_token_id": 151643,
    "eos_token_id": 151643,
}
LLADA_MOE: dict[str, Any] = {
    "architectures": ["LLaDAMoEModel"],
    "model_type": "llada",
    "hidden_size": 2048,
    "dense_intermediate_size": 8192,
    "expert_intermediate_size": 1024,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "norm_topk_prob": None,
    "qk_layernorm": True,
    "moe_layer_freq": [1] * 16,
    "router_num_group": None,
    "partial_rotary_factor": 1,
    "rms_norm_eps": 1e-5,
    "rope_theta": 50000,
    "vocab_size": 157184,
    "eos_token_id": 156892,
}
LLADA2_MINI: dict[str, Any] = {
    "architectures": ["LLaDA2MoeModelLM"],
    "model_type": "llada2_moe",
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "first_k_dense_replace": 1,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "moe_intermediate_size": 512,
    "n_group": 8,
    "topk_group": 4,
    "routed_scaling_factor": 2.5,
    "score_function": "sigmoid",
    "norm_topk_prob": True,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-6,
    "rope_theta": 600000,
    "use_bias": False,
    "use_qkv_bias": False,
    "use_qk_norm": True,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
    "pad_token_id": 156892,
    "vocab_size": 157184,
}
ALL = (LLADA_8B, DREAM_7B, LLADA_MOE, LLADA2_MINI)


def test_dense_llada() -> None:
    a = Architecture.from_json(LLADA_8B, WHERE)
    assert (a.family, a.width, a.blocks, a.heads) == ("llada", 4096, 32, 32)
    assert (a.head_size, a.rotary_size, a.mlp_width) == (128, 128, 12288)
    assert (a.rope_theta, a.norm_eps) == (5e5, 1e-5)
    assert (a.mask_token_id, a.eos_token_id, a.vocab_size) == (126336, 126081, 126464)
    assert (a.tied, a.qkv_bias, a.shift, a.block_size) == (False, False, False, 0)
    assert a.experts is None


def test_the_mlp_is_four_times_as_wide_if_nothing_is_said() -> None:
    config = {**LLADA_8B, "mlp_hidden_size": None}
    assert Architecture.from_json(config, WHERE).mlp_width == 4 * 4096


def test_dream_has_biases_and_is_shifted() -> None:
    a = Architecture.from_json(DREAM_7B, WHERE)
    assert (a.family, a.shift, a.qkv_bias, a.out_bias) == ("dream", True, True, False)
    assert (a.kv_heads, a.head_size) == (4, 128)


@pytest.mark.parametrize("name", ["LLaDAMoEModel", "LLaDAMoEModelLM", "LLaDAModelLM"])
def test_a_mixture_may_call_itself_llada(name: str) -> None:
    a = Architecture.from_json({**LLADA_MOE, "architectures": [name]}, WHERE)
    assert (a.family, a.router, a.norm_topk) == ("llada-moe", "softmax", False)
    assert a.experts == ExpertsConfig(count=64, per_token=8, width=1024)
    assert a.qk_norm
    assert a.mask_token_id is None


def test_a_mixture_norms_its_weights_if_it_says_so() -> None:
    """One that has `norm_topk_prob` true was trained with weights that add up to 1."""
    a = Architecture.from_json({**LLADA_MOE, "norm_topk_prob": True}, WHERE)
    assert a.norm_topk
    assert Architecture.from_json(replace(a, raw={}).to_json(), WHERE) == a
    without = {k: v for k, v in LLADA_MOE.items() if k != "norm_topk_prob"}
    assert not Architecture.from_json(without, WHERE).norm_topk
    with pytest.raises(CheckpointError, match="norm_topk_prob is 1; it must be true"):
        Architecture.from_json({**LLADA_MOE, "norm_topk_prob": 1}, WHERE)


def test_block_diffusion() -> None:
    a = Architecture.from_json(LLADA2_MINI, WHERE)
    assert (a.family, a.block_size, a.rotary_size) == ("llada2", 32, 64)
    assert (a.router, a.norm_topk, a.out_bias) == ("sigmoid-groups", True, False)
    assert a.experts == ExpertsConfig(
        count=256,
        per_token=8,
        width=512,
        shared=1,
        dense_layers=1,
        groups=8,
        groups_per_token=4,
        scale=2.5,
    )
    other = Architecture.from_json({**LLADA2_MINI, "block_size": 16}, WHERE)
    assert other.block_size == 16


@pytest.mark.parametrize("config", [LLADA_8B, LLADA_MOE, LLADA2_MINI])
def test_fields_alone_tell_the_format(config: dict[str, Any]) -> None:
    bare = {name: value for name, value in config.items() if name != "architectures"}
    assert Architecture.from_json(bare, WHERE) == Architecture.from_json(config, WHERE)


@pytest.mark.parametrize("config", ALL)
def test_what_was_read_is_written_again(config: dict[str, Any]) -> None:
    config = {**config, "auto_map": {"AutoModel": "a.B"}, "unknown": [1, 2]}
    a = Architecture.from_json(config, WHERE)
    assert a.to_json() == config
    bigger = replace(a, vocab_size=a.vocab_size + 64, mask_token_id=3)
    written = bigger.to_json()
    assert written["unknown"] == [1, 2]
    assert Architecture.from_json(written, WHERE) == bigger


@pytest.mark.parametrize("family", ["llada", "dream", "llada-moe", "llada2"])
def test_a_new_model_can_be_written_and_read(family: Any) -> None:
    mixed = family in ("llada-moe", "llada2")
    config = LLaDAConfig(
        family=family,
        kv_heads=2,
        tied=True,
        rope_theta=5e5,
        block_size=8,
        experts=ExpertsConfig(count=6, scale=2.0) if mixed else ExpertsConfig(),
    )
    a = Architecture.from_settings(config, vocab_size=300, mask_id=299)
    assert Architecture.from_json(a.to_json(), WHERE) == a


def test_scaled_positions_in_either_spelling() -> None:
    plain = {"rope_type": "default", "rope_theta": 7.0}
    config = {**DREAM_7B, "rope_parameters": plain}
    assert Architecture.from_json(config, WHERE).rope_theta == 7.0
    for change in (
        {"rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
    ):
        with pytest.raises(CheckpointError, match="rotary positions of the kind"):
            Architecture.from_json({**DREAM_7B, **change}, WHERE)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (LLADA_8B, {"alibi": True}, "alibi is true, which is not implemented"),
        (LLADA_8B, {"input_emb_norm": True}, "input_emb_norm is true"),
        (LLADA_8B, {"attention_layer_norm": True}, "attention_layer_norm is true"),
        (LLADA_8B, {"include_bias": True}, "include_bias is true"),
        (LLADA_8B, {"block_type": "sequential"}, "it must be 'llama'"),
        (LLADA_8B, {"activation_type": "swiglu"}, "it must be 'silu'"),
        (LLADA_8B, {"layer_norm_type": "default"}, "layer_norm_type is 'default'"),
        (LLADA_8B, {"n_layers": None}, "n_layers is missing; a LLaDAModelLM must"),
        (LLADA_8B, {"n_heads": "32"}, "n_heads is '32'; it must be a whole number"),
        (LLADA_8B, {"n_heads": 31, "n_kv_heads": 31}, "does not divide d_model"),
        (LLADA_8B, {"n_kv_heads": 5}, "5 key and value heads do not divide 32"),
        (LLADA_8B, {"weight_tying": 1}, "weight_tying is 1; it must be true or false"),
        (LLADA_8B, {"mask_token_id": 126464}, "0 to 126463"),
        (LLADA_8B, {"architectures": ["LlamaForCausalLM"]}, "hugging-face"),
        (DREAM_7B, {"architectures": None}, "architectures is not set"),
        (DREAM_7B, {"use_sliding_window": True}, "use_sliding_window is true"),
        (DREAM_7B, {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        (LLADA_MOE, {"moe_layer_freq": [0, 1]}, "moe_layer_freq is"),
        (LLADA_MOE, {"num_experts_per_tok": 65}, "must be at most"),
        (LLADA2_MINI, {"score_function": "softmax"}, "score_function is 'softmax'"),
        (LLADA2_MINI, {"n_group": 7}, "must divide count"),
        (LLADA2_MINI, {"num_nextn_predict_layers": 1}, "num_nextn_predict_layers is 1"),
        (LLADA2_MINI, {"partial_rotary_factor": 0.51}, "65 entries of a head"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(
    config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        Architecture.from_json({**config, **change}, WHERE)
    assert str(caught.value).startswith(WHERE)
