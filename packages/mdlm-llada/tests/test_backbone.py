"""The backbone `llada` as a run builds it: a checkpoint, or a new model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError
from mdlm_llada.backbone import build
from mdlm_llada.checkpoint.read import read_checkpoint
from mdlm_llada.checkpoint.tiny import tiny_checkpoint
from mdlm_llada.config import LLaDAConfig, LoraConfig

from .trunks import MASK, V


@pytest.mark.parametrize("family", ["llada", "dream", "llada-moe", "llada2"])
def test_a_checkpoint_is_built_as_it_is(tmp_path: Path, family: Any) -> None:
    path = str(tiny_checkpoint(tmp_path / "model", family, seed=3))
    known = read_checkpoint(path)
    ids = known.vocab_size
    config = LLaDAConfig(path=path, blocks=99)  # whose sizes are not read
    model = build(config, vocab_size=ids - 1, mask_id=known.mask_id, length=8)
    batch = Batch.of(torch.arange(20).view(2, 10))
    with torch.no_grad():
        assert torch.equal(model.hidden(batch), known.hidden(batch))
    assert model.architecture.family == family
    with pytest.raises(ConfigError, match=f"is {known.mask_id}, but that of the"):
        build(config, vocab_size=ids, mask_id=known.mask_id - 1, length=8)
    with pytest.raises(ConfigError, match=f"tokenizer has {ids + 1} ids"):
        build(config, vocab_size=ids + 1, mask_id=known.mask_id, length=8)


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ("bfloat16", "auto", torch.bfloat16),
        ("bfloat16", "float32", torch.float32),
        ("float32", "bfloat16", torch.bfloat16),
    ],
)
def test_the_type_of_the_weights(
    tmp_path: Path, stored: str, asked: Any, found: torch.dtype
) -> None:
    path = str(tiny_checkpoint(tmp_path / "model", dtype=stored))
    mask = read_checkpoint(path).mask_id
    model = build(
        LLaDAConfig(path=path, dtype=asked), vocab_size=9, mask_id=mask, length=8
    )
    assert {parameter.dtype for parameter in model.parameters()} == {found}


def test_a_new_model_has_the_sizes_of_the_settings() -> None:
    config = LLaDAConfig(blocks=3, width=24, heads=3, mlp_width=40, dtype="bfloat16")
    model = build(config, vocab_size=V, mask_id=MASK, length=8)
    assert (len(model.blocks), model.vocab_size, model.mask_id) == (3, V, MASK)
    assert model.blocks[0].up.weight.shape == (40, 24)
    assert model.head.weight.dtype == torch.bfloat16


def test_adapters_leave_the_checkpoint_outside(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="adapters need peft")
    path = str(tiny_checkpoint(tmp_path / "model"))
    known = read_checkpoint(path)
    config = LLaDAConfig(path=path, lora=LoraConfig(rank=2))
    model = build(
        config, vocab_size=known.vocab_size, mask_id=known.mask_id, length=8
    ).eval()
    batch = Batch.of(torch.arange(20).view(2, 10))
    with torch.no_grad():
        assert torch.equal(model.hidden(batch), known.hidden(batch))
    learned = {n for n, p in model.named_parameters() if p.requires_grad}
    outside = model.external_tensors
    assert learned
    assert not learned & outside
    assert set(model.state_dict()) == learned | outside | {"lora_base.checksum"}
