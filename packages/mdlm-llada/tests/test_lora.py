"""Adapters: nothing at first, only they learn, only they are saved, merged exactly."""

from __future__ import annotations

import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from mdlm_core.errors import CheckpointError, ConfigError, MissingExtraError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.testing.tiny import tiny_batch, tiny_canvas
from mdlm_core.train.state import load, named_tensors, restore
from mdlm_llada.backbone import build
from mdlm_llada.config import LLaDAConfig, LoraConfig
from mdlm_llada.lora import adapters, apply_lora, merge_lora
from mdlm_llada.lora_base import checksum_of

V, MASK = 12, 11
LAYERS = {"q", "k", "v", "out", "gate", "up", "down"}

pytest.importorskip("peft", reason="adapters need peft")


def model(**settings):
    sizes = {"blocks": 2, "width": 16, "heads": 2, "mlp_width": 24}
    with global_seed(Noise(0)):
        return build(
            LLaDAConfig(**{**sizes, **settings}), vocab_size=V, mask_id=MASK, length=8
        )


def adapted(backbone=None, *, outside=True, **settings):
    backbone = model() if backbone is None else backbone
    with global_seed(Noise(1)):
        apply_lora(backbone, LoraConfig(**{"rank": 4, **settings}), outside=outside)
    return backbone


def trained(backbone):
    """Return the model with adapters that do something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return backbone


def states(backbone):
    canvas = tiny_canvas(tiny_batch(length=8, vocab_size=V, mask_id=MASK), MASK)
    with torch.no_grad():
        return backbone.eval().hidden(canvas)[~canvas.pad]


def test_rank_0_is_no_adapter():
    backbone = model()
    apply_lora(backbone, LoraConfig(), outside=True)
    assert not adapters(backbone)
    assert all(p.requires_grad for p in backbone.parameters())


def test_adapters_change_nothing_at_first():
    torch.testing.assert_close(states(adapted()), states(model()), atol=0, rtol=0)


def test_adapters_are_in_attention_and_mlp_alone():
    backbone = adapted()
    assert {name.rpartition(".")[2] for name in adapters(backbone)} == LAYERS
    assert len(adapters(backbone)) == 2 * len(LAYERS)
    assert type(backbone.head) is nn.Linear


def test_only_adapters_learn():
    backbone = adapted()
    learning = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert learning == {n for n in backbone.state_dict() if ".lora_" in n}
    batch = tiny_batch(length=8, vocab_size=V, mask_id=MASK)
    backbone.logits(backbone.hidden(batch)[batch.free]).logsumexp(-1).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == (name in learning), name


def test_the_scale_is_alpha_over_rank():
    """W x + (alpha / rank) B A x, layer by layer."""
    backbone = trained(adapted(rank=4, alpha=6.0))
    x = torch.linspace(-1, 1, 16)[None]
    layer = next(iter(adapters(backbone).values()))
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = layer.base_layer(x) + 1.5 * x @ a.T @ b.T
    torch.testing.assert_close(layer(x), expected)


def test_only_adapters_are_saved_if_the_rest_is_outside():
    backbone = trained(adapted())
    saved = {name: value.clone() for name, value in named_tensors(backbone).items()}
    assert saved.pop("lora_base.checksum").shape == ()
    assert all(".lora_" in name for name in saved)
    assert len(saved) == 2 * len(adapters(backbone))
    saved = {n: value.clone() for n, value in named_tensors(backbone).items()}
    other = adapted()
    load(other, saved)
    torch.testing.assert_close(states(other), states(backbone), atol=0, rtol=0)


def other_base():
    backbone = model()
    with torch.no_grad():
        backbone.blocks[0].q.weight[0, 0] += 1e-3
    return adapted(backbone)


def test_adapters_of_another_base_are_not_loaded():
    saved = {name: value.clone() for name, value in named_tensors(adapted()).items()}
    with pytest.raises(CheckpointError, match="trained on other weights"):
        load(other_base(), saved)


def test_adapters_of_another_base_are_not_trained_on():
    saved = {name: value.clone() for name, value in named_tensors(adapted()).items()}
    for backbone, good in ((adapted(), True), (other_base(), False)):
        live = backbone if good else deepcopy(backbone)  # as averages are made
        restore(named_tensors(live), saved, "the checkpoint")
        if good:
            states(live)
            continue
        with pytest.raises(CheckpointError, match="bring back the checkpoint"):
            states(live)


def test_weights_that_changed_places_are_others():
    weights = {"a": torch.arange(4.0), "b": torch.ones(4)}
    swapped = {"a": weights["b"], "b": weights["a"]}
    assert checksum_of(weights) != checksum_of(swapped)
    assert checksum_of(weights) == checksum_of(dict(reversed(weights.items())))


def test_everything_is_saved_if_the_rest_is_new():
    backbone = adapted(outside=False)
    assert set(named_tensors(backbone)) == set(backbone.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_is_the_same_model(dtype):
    plain, backbone = model().to(dtype), trained(adapted(model().to(dtype)))
    learning = [p for p in backbone.parameters() if p.requires_grad]
    assert {p.dtype for p in learning} == {torch.float32}
    before = states(backbone)
    merge_lora(backbone)
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(states(backbone), before, atol=tolerance, rtol=tolerance)
    assert not torch.allclose(before, states(plain), atol=2 * tolerance)
    assert set(backbone.state_dict()) == set(plain.state_dict())
    assert {p.dtype for p in backbone.parameters()} == {dtype}
    assert all(p.requires_grad for p in backbone.parameters())
    assert set(named_tensors(backbone)) == set(plain.state_dict())


def test_merging_nothing_changes_nothing():
    backbone = model()
    before = states(backbone)
    merge_lora(backbone)
    torch.testing.assert_close(states(backbone), before, atol=0, rtol=0)


def test_a_merge_of_nan_is_refused():
    backbone = adapted()
    with torch.no_grad():
        next(p for n, p in backbone.named_parameters() if "lora_B" in n).fill_(
            torch.nan
        )
    with pytest.raises(ConfigError, match="cannot be merged"):
        merge_lora(backbone)


def test_targets_are_names_or_ends_of_names():
    names = set(adapters(adapted(targets=("q", "blocks.1.up"))))
    assert names == {"blocks.0.q", "blocks.1.q", "blocks.1.up"}


@pytest.mark.parametrize("target", ["qq", "head", "norm"])
def test_unknown_targets_are_refused(target):
    with pytest.raises(ConfigError, match=f"names '{target}'.*its layers are called"):
        adapted(targets=(target,))


def test_a_near_miss_is_named():
    with pytest.raises(ConfigError, match="did you mean 'gate'"):
        adapted(targets=("gates",))


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"mdlm-llada\[peft\]"):
        adapted()
