"""Names and shapes of the tensors of published checkpoints."""

import pytest

from mdlm_llada.architecture import Architecture
from mdlm_llada.checkpoint.names import NAMES, parts_of, pieces, shapes

LLADA_8B = {
    "architectures": ["LLaDAModelLM"],
    "model_type": "llada",
    "d_model": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "mlp_hidden_size": 12288,
    "vocab_size": 126464,
    "embedding_size": 126464,
    "rope_theta": 500000.0,
    "mask_token_id": 126336,
}
DREAM_7B = {
    "architectures": ["DreamModel"],
    "model_type": "Dream",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "rope_theta": 1000000.0,
    "mask_token_id": 151666,
}
LLADA_MOE = {
    "architectures": ["LLaDAMoEModelLM"],
    "model_type": "llada",
    "hidden_size": 8,
    "dense_intermediate_size": 20,
    "expert_intermediate_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "qk_layernorm": True,
    "rope_theta": 50000.0,
    "vocab_size": 11,
}
LLADA2 = {
    "architectures": ["LLaDA2MoeModelLM"],
    "model_type": "llada2_moe",
    "hidden_size": 8,
    "intermediate_size": 20,
    "moe_intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "first_k_dense_replace": 1,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "num_shared_experts": 2,
    "partial_rotary_factor": 0.5,
    "rope_theta": 600000.0,
    "use_bias": False,
    "vocab_size": 11,
}


def table(config, **changes):
    return shapes(pieces(Architecture.from_json({**config, **changes}, "config.json")))


def count(found):
    total = 0
    for shape in found.values():
        size = 1
        for side in shape:
            size *= side
        total += size
    return total


def test_llada_has_the_names_and_the_size_that_are_published():
    found = table(LLADA_8B)
    block = "model.transformer.blocks.31."
    assert {name for name in found if name.startswith(block)} == {
        f"{block}{leaf}.weight"
        for leaf in (
            "attn_norm",
            "q_proj",
            "k_proj",
            "v_proj",
            "attn_out",
            "ff_norm",
            "ff_proj",
            "up_proj",
            "ff_out",
        )
    }
    # a block's down projection and the head have names that end the same
    assert found[f"{block}ff_out.weight"] == (4096, 12288)
    assert found["model.transformer.ff_out.weight"] == (126464, 4096)
    assert {name for name in found if ".blocks." not in name} == {
        "model.transformer.wte.weight",
        "model.transformer.ln_f.weight",
        "model.transformer.ff_out.weight",
    }
    assert len(found) == 291
    assert count(found) == 8_015_581_184


def test_dream_has_the_names_and_the_size_of_qwen2():
    found = table(DREAM_7B)
    assert count(found) == 7_615_616_512  # as Qwen2.5-7B's card says: 7.61 billion
    assert found["model.layers.27.self_attn.k_proj.bias"] == (512,)
    assert found["model.layers.27.mlp.down_proj.weight"] == (3584, 18944)
    assert "model.layers.27.self_attn.o_proj.bias" not in found
    assert found["lm_head.weight"] == found["model.embed_tokens.weight"]


def test_llada_moe_has_a_router_norms_of_heads_and_experts_by_number():
    layer = "model.layers.0."
    experts = {
        f"{layer}mlp.experts.{e}.{name}_proj.weight": shape
        for e in range(2)
        for name, shape in (("gate", (6, 8)), ("up", (6, 8)), ("down", (8, 6)))
    }
    assert table(LLADA_MOE) == {
        "model.embed_tokens.weight": (11, 8),
        f"{layer}input_layernorm.weight": (8,),
        f"{layer}self_attn.q_proj.weight": (8, 8),
        f"{layer}self_attn.k_proj.weight": (8, 8),
        f"{layer}self_attn.v_proj.weight": (8, 8),
        f"{layer}self_attn.q_norm.weight": (4,),
        f"{layer}self_attn.k_norm.weight": (4,),
        f"{layer}self_attn.o_proj.weight": (8, 8),
        f"{layer}post_attention_layernorm.weight": (8,),
        f"{layer}mlp.gate.weight": (2, 8),
        **experts,
        "model.norm.weight": (8,),
        "lm_head.weight": (11, 8),
    }


def test_llada2_has_one_tensor_for_queries_keys_and_values():
    found = table(LLADA2)
    dense, mixed = "model.layers.0.", "model.layers.1."
    names = {name.removeprefix(dense) for name in found if name.startswith(dense)}
    assert names == {
        "input_layernorm.weight",
        "attention.query_key_value.weight",
        "attention.query_layernorm.weight",
        "attention.key_layernorm.weight",
        "attention.dense.weight",
        "post_attention_layernorm.weight",
        "mlp.gate_proj.weight",
        "mlp.up_proj.weight",
        "mlp.down_proj.weight",
    }
    assert found[f"{dense}attention.query_key_value.weight"] == (16 + 8 + 8, 8)
    assert found[f"{dense}attention.dense.weight"] == (8, 16)
    assert found[f"{mixed}mlp.gate.weight"] == (2, 8)
    assert found[f"{mixed}mlp.gate.expert_bias"] == (2,)
    assert found[f"{mixed}mlp.experts.1.down_proj.weight"] == (8, 6)
    assert found[f"{mixed}mlp.shared_experts.gate_proj.weight"] == (12, 8)
    assert "model.word_embeddings.weight" in found
    assert "lm_head.weight" in found


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (LLADA_8B, {}),
        (DREAM_7B, {}),
        (LLADA_MOE, {}),
        (LLADA2, {}),
        (LLADA2, {"use_qkv_bias": True, "use_bias": True}),
    ],
)
def test_every_row_of_every_tensor_is_one_part(config, changes):
    architecture = Architecture.from_json({**config, **changes}, "config.json")
    found = pieces(architecture)
    assert len({(p.ours, p.layer) for p in found}) == len(found)
    for name, parts in parts_of(found).items():
        if parts[0].rows is None:
            assert len(parts) == 1, name
            continue
        ends = [row for part in parts for row in part.rows]
        assert ends[0] == 0
        assert ends[1:-1:2] == ends[2::2], name  # each begins where the last one ends
        for part in parts:
            assert part.rows[1] - part.rows[0] == part.shape[0]


def test_a_tied_head_is_not_a_tensor_of_its_own():
    untied, tied = table(LLADA_8B), table(LLADA_8B, weight_tying=True)
    assert untied.keys() - tied.keys() == {"model.transformer.ff_out.weight"}


def test_every_family_has_names():
    from typing import get_args

    from mdlm_llada.config.model import Family

    assert set(NAMES) == set(get_args(Family))
