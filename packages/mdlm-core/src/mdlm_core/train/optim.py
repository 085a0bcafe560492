"""The optimiser and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mdlm_core.config.schema import TrainConfig


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


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return AdamW's groups: matrices decay, vectors (norms and biases) do not."""
    learned = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, object]] = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Build AdamW in its fused form, or multi-tensor where there is none."""
    device = next(module.parameters()).device.type
    return torch.optim.AdamW(
        parameter_groups(module, config.weight_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.adam_eps,
        **({"fused": True} if device in ("cpu", "cuda", "xpu") else {"foreach": True}),
    )


def scale_gradients(module: nn.Module, factor: float) -> None:
    """Multiply every gradient by `factor`, in one pass."""
    gradients: list[Tensor] = [
        p.grad for p in module.parameters() if p.grad is not None
    ]
    torch._foreach_mul_(gradients, factor)
