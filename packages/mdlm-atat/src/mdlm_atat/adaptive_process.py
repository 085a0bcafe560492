"""The process of adaptive masking and its learned reverse rate, on u in (0, 1).

Letters: B batch, L length, N hidden positions.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted, masked_cross_entropy
from mdlm_core.protocols import Backbone, Schedule

from .importance import FIXED_TIME
from .policy import AdaptiveMasking
from .reverse import rate_term
from .shift import power_velocity, velocity


class AdaptiveProcess:
    """What `own_bound` asks about a model with adaptive masking; see its `Process`.

    The chances are those of the policy with its present bias, over R(1), so that all
    is hidden at u = 1. The model's rate is that of the uniform process times what its
    network says; where the bias depends on positions alone, it is the true one.
    """

    def __init__(self, module: nn.Module, policy: AdaptiveMasking) -> None:
        """Keep the parts.

        Args:
            module: what was trained, with `backbone` and `schedule`.
            policy: its masking policy, of the objective nelbo.
        """
        self.backbone = cast("Backbone", module.backbone)
        self.schedule = cast("Schedule", module.schedule)
        self.policy = policy
        counts = policy.weighs and policy.biased
        self.kappa = policy.curriculum.kappa if counts else 0.0

    @property
    def label(self) -> str:
        """Which schedule this is."""
        shape = self.policy.config.shape
        return f"atat: {shape} by importance, kappa = {self.kappa:.3g}"

    def stretch(self, batch: Batch) -> Tensor:
        """Return 1, or for the shape power one over a row's smallest exponent."""
        t = torch.zeros(len(batch), dtype=torch.float64, device=batch.tokens.device)
        if self.policy.config.shape != "power":
            return t + 1
        offsets, _ = self._offsets(batch, t)
        return offsets.masked_fill(batch.frozen, 0.0).amax(1).clamp(min=0).exp()

    def log_chance(self, batch: Batch, log_u: Tensor, t: Tensor) -> Tensor:
        """Return ``log sigma`` ``(B, L)`` float64."""
        offsets, _ = self._offsets(batch, t)
        return self.policy.masking.shares(offsets, batch.free, log_u.exp()).log()

    def costs(self, batch: Batch, masked: Tensor, log_u: Tensor, t: Tensor) -> Tensor:
        """Return ``(B,)`` sums of ``A CE + A log(A / r) - A + r`` in units of 1 / u."""
        offsets, drift = self._offsets(batch, t)
        u = log_u.exp()
        if self.policy.config.shape == "power":
            speed = power_velocity(offsets, u, u, drift)
        else:
            speed = velocity(offsets, batch.free, u, u, drift)
        canvas = batch.with_tokens(
            batch.tokens.masked_fill(masked, self.backbone.mask_id)
        )
        corrupted = Corrupted(canvas, batch.tokens, masked, speed.float(), t.float())
        nll = masked_cross_entropy(self.backbone, corrupted).nll.double()  # (N,)
        cost = speed[masked] * nll
        if self.policy.reverse is not None:
            ratio = self.policy.reverse(canvas, t)[masked].double()
            cost = cost + rate_term(speed[masked], ratio.exp())
        sums = torch.zeros(len(batch), dtype=torch.float64, device=cost.device)
        return sums.index_add(0, masked.nonzero()[:, 0], cost)

    def _offsets(self, batch: Batch, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the offsets ``(B, L)``, and their derivatives by log u."""
        masking, free, importance = self.policy.masking, batch.free, None
        if self.kappa:
            fixed = torch.full_like(t, FIXED_TIME)
            importance = self.policy.importance(batch, fixed)
        offsets = masking.offsets(importance, free, t, self.kappa)
        drift = masking.drift(importance, free, t, self.kappa)
        if drift is not None:
            inside = (t > 0) & (t < 1)  # beyond its times the schedule stands still
            weight = torch.where(inside, self.schedule.weight(t), torch.inf)
            drift = drift / weight[:, None]
        return offsets, drift
