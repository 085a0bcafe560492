"""Models of transformers as backbones: adapters, and what is read elsewhere."""

from __future__ import annotations

import json

import pytest
import torch

from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.testing.contract import cases
from mdlm_core.testing.tiny import tiny_batch
from mdlm_core.train.state import named_tensors
from mdlm_llada.config import HuggingFaceModelConfig, LoraConfig
from mdlm_llada.hugging_face import build
from mdlm_llada.lora import adapters, merge_lora

transformers = pytest.importorskip("transformers")

V, MASK, L = 40, 11, 12
SIZES = {
    "vocab_size": V,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODELS = {
    "Bert": ("ForMaskedLM", SIZES),
    "Llama": ("ForCausalLM", {**SIZES, "num_key_value_heads": 1}),
    "GPT2": (
        "LMHeadModel",
        {**SIZES, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folder of each model."""
    made = {}
    for name, (head, settings) in MODELS.items():
        with global_seed(Noise(0).child(name)):
            config = getattr(transformers, f"{name}Config")(**settings)
            model = getattr(transformers, f"{name}{head}")(config)
        made[name] = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(made[name])
    return made


def backbone(path, **settings):
    config = HuggingFaceModelConfig(path=path, **settings)
    return build(config, vocab_size=V, mask_id=MASK, length=L).eval()


def logits(model, batch):
    """Return ``(B, L, V)``."""
    with torch.no_grad():
        states = model.hidden(batch)
        return model.logits(states.flatten(0, 1)).view(*states.shape[:2], -1)


def rows():
    return tiny_batch(length=L, vocab_size=V, mask_id=MASK)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_the_laws_of_backbones_hold(kind):
    settings = {"backbone-hugging-face": {"kind": kind}}
    laws = [
        case
        for case in cases("llada", settings=settings)
        if case.id.startswith("backbone-hugging-face-")
    ]
    assert len(laws) > 10
    for case in laws:
        case.run()


@pytest.mark.parametrize("name", ["Bert", "Llama", "GPT2"])
def test_adapters_go_into_the_trunk_alone(models, name):
    pytest.importorskip("peft", reason="adapters need peft")
    path = models[name]
    made = backbone(path, lora=LoraConfig(rank=2))
    prefix = f"model.{made.model.base_model_prefix}."
    assert adapters(made)
    assert all(layer.startswith(prefix) for layer in adapters(made))
    assert all("lora_" in tensor for tensor in named_tensors(made))
    batch, plain = rows(), backbone(path)
    there = ~batch.pad
    torch.testing.assert_close(logits(made, batch)[there], logits(plain, batch)[there])
    with torch.no_grad():
        for tensor, parameter in made.named_parameters():
            if "lora_B" in tensor:
                parameter.fill_(0.05)
    before = logits(made, batch)[there]
    assert not torch.allclose(before, logits(plain, batch)[there])
    merge_lora(made)
    torch.testing.assert_close(logits(made, batch)[there], before)
    assert set(made.state_dict()) == set(plain.state_dict())


def test_the_own_family_is_read_elsewhere(tmp_path):
    config = {"architectures": ["DreamModel"], "model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"model\.name=llada"):
        backbone(str(tmp_path))


def test_what_is_no_model_says_where_the_own_family_is_read(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot be loaded.*model\.name=llada"):
        backbone(str(tmp_path))
