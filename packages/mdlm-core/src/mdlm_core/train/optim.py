"""The optimisers and their learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mdlm_core.config.schema import TrainConfig
from mdlm_core.errors import ConfigError

from .muon import MuonAdamW, muon_matrices


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of optimiser step `step`, the first being 0.

    A pure function, so that nothing about it needs to be saved: linear warm-up to
    `config.lr` over `config.warmup` steps, then constant, or a fall down to
    ``lr * lr_min_ratio``: half a cosine (cosine), `lr_cycles` of them one after the
    other (cosine-restarts), linear, the power `lr_power` of linear (polynomial), or
    (wsd) constant and linear in the last `decay_fraction` of the steps.
    """
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * warm * _after_warmup(step, config)


def _after_warmup(step: int, config: TrainConfig) -> float:
    if config.lr_schedule == "constant":
        return 1.0
    start = min(config.warmup, config.steps)
    if config.lr_schedule == "wsd":
        start = config.steps - round(config.decay_fraction * config.steps)
    share = _share(step, start, config.steps)
    if config.lr_schedule in ("cosine", "cosine-restarts"):
        if config.lr_schedule == "cosine-restarts":
            share = share * config.lr_cycles % 1.0 if share < 1 else 1.0
        shape = 0.5 * (1 + math.cos(math.pi * share))
    elif config.lr_schedule == "polynomial":
        shape = (1 - share) ** config.lr_power
    else:
        shape = 1 - share
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

    A module may have a method ``parameter_groups(config)``, for parts that learn at
    another rate. It returns dicts with "params", a list, and any of "lr_factor", which
    multiplies the learning rate of every step, and "weight_decay", instead of
    `config.weight_decay`. Parameters in none of them are treated as ever.

    Raises:
        ConfigError: if such a group holds something else, or a parameter twice.
    """
    device = next(module.parameters()).device.type
    settings: dict[str, Any] = {
        "lr": config.lr,
        "betas": (config.beta1, config.beta2),
        "eps": config.adam_eps,
        "fused" if device in ("cpu", "cuda", "xpu") else "foreach": True,
    }
    chosen: set[int] = set()
    if config.optimizer == "muon":
        chosen = {id(matrix) for matrix in muon_matrices(module)}
    matrices: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for part in _parts(module, config):
        decay = part.get("weight_decay", config.weight_decay)
        factor = {"lr_factor": float(part.get("lr_factor", 1.0))}
        mine = [p for p in part["params"] if id(p) in chosen]
        rest = [p for p in part["params"] if id(p) not in chosen]
        if mine:
            matrices.append({"params": mine, "weight_decay": decay, **factor})
        others += [group | factor for group in parameter_groups(rest, decay)]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(others, **settings)
    return MuonAdamW(matrices, others, weight_decay=config.weight_decay, **settings)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group, times its "lr_factor"."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_factor", 1.0)


def _parts(module: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return a group of what is treated as ever, then those that the module wants."""
    wanted = getattr(module, "parameter_groups", None)
    groups = [] if wanted is None else [dict(group) for group in wanted(config)]
    names = {id(p): name for name, p in module.named_parameters()}
    seen: set[int] = set()
    for group in groups:
        if strange := sorted(group.keys() - {"params", "lr_factor", "weight_decay"}):
            raise ConfigError(
                f"parameter_groups of {type(module).__name__} has a group with "
                f"'{strange[0]}'; there may be params, lr_factor and weight_decay"
            )
        group["params"] = list(group["params"])
        for parameter in group["params"]:
            if id(parameter) not in names or id(parameter) in seen:
                name = names.get(id(parameter), "a tensor that is no parameter of it")
                raise ConfigError(
                    f"parameter_groups of {type(module).__name__} holds {name}"
                    f"{' twice' if id(parameter) in seen else ''}; every parameter "
                    f"of the module may be in one group"
                )
            seen.add(id(parameter))
    rest = [p for p in module.parameters() if id(p) not in seen]
    return [{"params": rest}, *groups]


def scale_gradients(module: nn.Module, factor: float) -> None:
    """Multiply every gradient by `factor`, in one pass."""
    gradients: list[Tensor] = [
        p.grad for p in module.parameters() if p.grad is not None
    ]
    torch._foreach_mul_(gradients, factor)
