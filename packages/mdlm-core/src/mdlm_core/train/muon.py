"""Muon for the matrices of a network, AdamW for everything else, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mdlm_core.errors import ConfigError

MOMENTUM = 0.95


def muon_matrices(module: nn.Module) -> list[Tensor]:
    """Return the weights of all linear layers but the vocabulary head.

    Raises:
        ConfigError: if there is none.
    """
    heads = {id(getattr(part, "head", None)) for part in module.modules()}
    found = [
        part.weight
        for part in module.modules()
        if isinstance(part, nn.Linear)
        and id(part) not in heads
        and part.weight.requires_grad
    ]
    if not found:
        raise ConfigError(
            "train.optimizer is muon, but the model has no linear layer besides its "
            "head; use adamw"
        )
    return found


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) where it applies, AdamW elsewhere.

    Muon replaces the momentum of a matrix by the nearest semi-orthogonal one, by five
    Newton-Schulz steps, so that every direction moves alike. The update of an (a, b)
    matrix is scaled by ``0.2 sqrt(max(a, b))``, which gives it the root mean square of
    AdamW's (Liu et al., 2025, arXiv 2502.16982, section 2.2): one learning rate serves
    both. Embeddings, the vocabulary head, biases, norms and convolutions go to AdamW.

    Args:
        matrices: Muon's parameter groups; each parameter is two-dimensional.
        others: AdamW's parameter groups.
        lr: the learning rate of both.
        weight_decay: decoupled, of the matrices in a group that says nothing else.
        adamw: further settings of AdamW.
    """

    def __init__(
        self,
        matrices: list[dict[str, Any]],
        others: list[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        **adamw: Any,
    ) -> None:
        muon = torch.optim.Muon(
            matrices,
            lr=lr,
            weight_decay=weight_decay,
            momentum=MOMENTUM,
            adjust_lr_fn="match_rms_adamw",
        )
        self._parts: list[torch.optim.Optimizer] = [muon]
        if others:  # with adapters alone there are none
            self._parts.append(torch.optim.AdamW(others, lr=lr, **adamw))
        super().__init__([g for part in self._parts for g in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do one step of both; `closure` is not supported and must be None."""
        assert closure is None
        # Loading a state replaces groups and state, so they are handed on here.
        start = 0
        for part in self._parts:
            end = start + len(part.param_groups)
            part.param_groups, start = self.param_groups[start:end], end
            part.state = self.state
            part.step()
