"""The optimisers and their learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mdlm_core.config.schema import TrainConfig

from .muon import MuonAdamW, muon_matrices


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of optimiser step `step`, the first being 0.

    A pure function, so that nothing about it needs to be saved: linear warm-up to
    `config.lr` over `config.warmup` steps, then constant, half a cosine down to
    ``lr * lr_min_ratio``, or (wsd) constant and a linear fall to the same value in
    the last `decay_fraction` of the steps.
    """
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * warm * _after_warmup(step, config)


def _after_warmup(step: int, config: TrainConfig) -> float:
    if config.lr_schedule == "cosine":
        start = min(config.warmup, config.steps)
        shape = 0.5 * (1 + math.cos(math.pi * _share(step, start, config.steps)))
    elif config.lr_schedule == "wsd":
        start = config.steps - round(config.decay_fraction * config.steps)
        shape = 1 - _share(step, start, config.steps)
    else:
        return 1.0
    return config.lr_min_ratio + (1 - config.lr_min_ratio) * shape


def _share(step: int, start: int, stop: int) -> float:
    """Return how much of `start` to `stop` is over at `step`, in [0, 1]."""
    return min(1.0, max(0.0, (step - start) / max(1, stop - start)))


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices decay, vectors (norms and biases) do not."""
    learned = [p for p in parameters if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build `config.optimizer` for everything in `module` that is learned.

    AdamW is in its fused form, or multi-tensor where there is none.
    """
    device = next(module.parameters()).device.type
    settings: dict[str, Any] = {
        "lr": config.lr,
        "betas": (config.beta1, config.beta2),
        "eps": config.adam_eps,
        "fused" if device in ("cpu", "cuda", "xpu") else "foreach": True,
    }
    if config.optimizer == "adamw":
        groups = parameter_groups(module.parameters(), config.weight_decay)
        return torch.optim.AdamW(groups, **settings)
    matrices = muon_matrices(module)
    chosen = {id(matrix) for matrix in matrices}
    rest = [p for p in module.parameters() if id(p) not in chosen]
    return MuonAdamW(
        matrices,
        parameter_groups(rest, config.weight_decay),
        weight_decay=config.weight_decay,
        **settings,
    )


def scale_gradients(module: nn.Module, factor: float) -> None:
    """Multiply every gradient by `factor`, in one pass."""
    gradients: list[Tensor] = [
        p.grad for p in module.parameters() if p.grad is not None
    ]
    torch._foreach_mul_(gradients, factor)
