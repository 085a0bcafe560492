"""transformers' models with the weights of a trunk, to compare against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    Glm4MoeConfig,
    Glm4MoeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from mdlm_llada.nn.trunk import LLaDA

_OURS = (
    ("model.embed_tokens.", "embed."),
    ("model.layers.", "blocks."),
    ("model.norm.", "norm."),
    ("lm_head.", "head."),
    ("input_layernorm.", "attention_norm."),
    ("post_attention_layernorm.", "mlp_norm."),
    ("self_attn.q_proj.", "q."),
    ("self_attn.k_proj.", "k."),
    ("self_attn.v_proj.", "v."),
    ("self_attn.o_proj.", "out."),
    ("self_attn.q_norm.", "q_norm."),
    ("self_attn.k_norm.", "k_norm."),
    ("mlp.gate_proj.", "gate."),
    ("mlp.up_proj.", "up."),
    ("mlp.down_proj.", "down."),
    ("mlp.gate.e_score_correction_bias", "experts.bias"),
    ("mlp.gate.", "experts.router."),
    ("mlp.experts.down_proj", "experts.down"),
    ("mlp.shared_experts.gate_proj.", "experts.shared.gate."),
    ("mlp.shared_experts.up_proj.", "experts.shared.up."),
    ("mlp.shared_experts.down_proj.", "experts.shared.down."),
)


def peer(model: LLaDA) -> Any:
    """Return the transformers model of the same kind, with the same weights."""
    kinds = {
        "llada": (LlamaConfig, LlamaForCausalLM),
        "dream": (Qwen2Config, Qwen2ForCausalLM),
        "llada-moe": (Qwen3MoeConfig, Qwen3MoeForCausalLM),
        "llada2": (Glm4MoeConfig, Glm4MoeForCausalLM),
    }
    config, causal = kinds[model.architecture.family]
    other: Any = causal(config(**_sizes(model)))
    ours = model.state_dict()
    theirs = {}
    for name in other.state_dict():
        if name.endswith("experts.gate_up_proj"):
            mine = _renamed(name.removesuffix("mlp.experts.gate_up_proj"))
            parts = [ours[f"{mine}experts.{part}"] for part in ("gate", "up")]
            theirs[name] = torch.cat(parts, dim=1)
        else:
            theirs[name] = ours[_renamed(name)]
    other.load_state_dict(theirs)
    return other.eval()


def peer_logits(other: Any, tokens: Tensor, see: Tensor | None = None) -> Tensor:
    """Return ``(B, L, V)`` under a mask ``(B, 1, L, L)``; all see all if None."""
    rows, length = tokens.shape
    bias = torch.zeros(rows, 1, length, length)
    if see is not None:
        bias = bias.masked_fill(~see, -torch.inf)
    with torch.no_grad():
        logits: Tensor = other(tokens, attention_mask=bias).logits
    return logits


def _renamed(name: str) -> str:
    for theirs, ours in _OURS:
        name = name.replace(theirs, ours)
    return name


def _sizes(model: LLaDA) -> dict[str, Any]:
    a = model.architecture
    sizes: dict[str, Any] = {
        "vocab_size": a.vocab_size,
        "hidden_size": a.width,
        "intermediate_size": a.mlp_width,
        "num_hidden_layers": a.blocks,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "head_dim": a.head_size,
        "rms_norm_eps": a.norm_eps,
        "tie_word_embeddings": a.tied,
        "pad_token_id": None,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": a.rope_theta,
            "partial_rotary_factor": a.rotary_size / a.head_size,
        },
    }
    if a.experts is not None:
        sizes |= {
            "num_experts": a.experts.count,
            "n_routed_experts": a.experts.count,
            "num_experts_per_tok": a.experts.per_token,
            "moe_intermediate_size": a.experts.width,
            "norm_topk_prob": a.norm_topk,
        }
    if a.family == "llada2":
        assert a.experts is not None
        sizes |= {
            "n_shared_experts": a.experts.shared,
            "n_group": a.experts.groups,
            "topk_group": a.experts.groups_per_token,
            "routed_scaling_factor": a.experts.scale,
            "first_k_dense_replace": a.experts.dense_layers,
            "use_qk_norm": a.qk_norm,
        }
    return sizes
