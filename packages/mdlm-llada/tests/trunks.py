"""Small random trunks of every family, for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdlm_llada.architecture import Architecture
from mdlm_llada.config import ExpertsConfig, LLaDAConfig
from mdlm_llada.nn.trunk import LLaDA

V = 61
MASK = 7

MIXTURES: dict[str, ExpertsConfig] = {
    "llada-moe": ExpertsConfig(count=6, per_token=2, width=24),
    "llada2": ExpertsConfig(
        count=8,
        per_token=3,
        width=24,
        shared=1,
        dense_layers=1,
        groups=4,
        groups_per_token=2,
        scale=2.5,
    ),
}


def trunk(family: str = "llada", *, seed: int = 0, **sizes: Any) -> LLaDA:
    """Return a trunk with weights so large that its laws are not flat."""
    settings: dict[str, Any] = {
        "family": family,
        "blocks": 3,
        "width": 32,
        "heads": 4,
        "kv_heads": 2,
        "mlp_width": 48,
        "rope_theta": 5e4,
        "block_size": 4,
        **sizes,
    }
    if family in MIXTURES:
        settings.setdefault("experts", MIXTURES[family])
    config = LLaDAConfig(**settings)
    model = LLaDA(Architecture.from_settings(config, V, MASK), mask_id=MASK)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            matrix = tensor.dim() > 1
            drawn = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(0.16 * drawn if matrix else tensor + 0.2 * drawn)
    return model.eval()


def tokens(rows: int = 2, length: int = 14, *, seed: int = 0) -> Tensor:
    """Return ``(B, L)`` random ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (rows, length), generator=generator)
