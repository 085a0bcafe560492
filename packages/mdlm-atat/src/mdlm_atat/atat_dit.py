"""The denoiser of the original's size, and the whole model under the original's names.

Letters: B batch, L length, V vocabulary (mask included).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear, Times, corrupt
from mdlm_core.diffusion.parameterization import subs
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.nn.dit import DiT
from mdlm_core.protocols import Backbone, DataSource, MaskingPolicy, Schedule
from mdlm_core.samplers.denoiser import Denoiser

from .commit import BY_NUMBER, Importance, Order, Score, one_step
from .config import AtatConfig, ATATDiTConfig, CurriculumConfig, ImportanceConfig
from .policy import AdaptiveMasking

_WHOLE = 1e-3  # by how much t / dt may miss a whole number of steps


class ATATDiT(nn.Module):
    """A denoiser and its masking policy in one object, as the original has them.

    The children `backbone` and `policy` have the names that they have in what a run
    trains, so that weights go from one to the other. Training itself is the task
    ``pretrain``: there the loss per token has the right weights and the importance
    network its target. Rows are given as token ids ``(B, L)``, all of them free, or
    as a `Batch`.
    """

    backbone: Backbone
    policy: MaskingPolicy

    def __init__(
        self,
        backbone: Backbone,
        policy: MaskingPolicy,
        *,
        schedule: Schedule | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: the denoiser.
            policy: which tokens are hidden.
            schedule: the mean chance to be hidden; log-linear if not given.
        """
        super().__init__()
        self.backbone = backbone
        self.policy = policy
        self.schedule = LogLinear() if schedule is None else schedule

    @classmethod
    def from_sizes(
        cls,
        source: DataSource,
        *,
        dim: int = 256,
        n_layers: int = 8,
        n_heads: int = 8,
        importance_hidden_dim: int = 256,
        use_importance: bool = True,
        use_adaptive_masking: bool = True,
        use_curriculum: bool = True,
        schedule: Schedule | None = None,
    ) -> ATATDiT:
        """Build a new model from the original's settings.

        Weights are drawn from torch's global generator.

        Args:
            source: gives vocabulary and length, and the tokens that are ranked by
                frequency.
            dim: ``model.width``.
            n_layers: ``model.blocks``.
            n_heads: ``model.heads``.
            importance_hidden_dim: ``masking.importance.width``.
            use_importance: whether there is any importance; without it, or without
                adaptive masking, masks are uniform.
            use_adaptive_masking: otherwise ``masking.strategy=time_only``.
            use_curriculum: otherwise ``masking.curriculum.preset=none``.
            schedule: the mean chance to be hidden; log-linear if not given.

        Raises:
            ConfigError: if sizes do not go together.
        """
        importance = ImportanceConfig(width=importance_hidden_dim)
        if not use_importance:
            importance = replace(importance, learned=0.0, frequency=0.0)
        settings = AtatConfig(
            importance=importance,
            strategy="balanced" if use_adaptive_masking else "time_only",
            curriculum=CurriculumConfig(preset="default" if use_curriculum else "none"),
        )
        tokenizer = source.tokenizer
        backbone = build(
            ATATDiTConfig(blocks=n_layers, width=dim, heads=n_heads),
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        return cls(
            backbone, AdaptiveMasking(settings, source=source), schedule=schedule
        )

    @classmethod
    def from_run(
        cls,
        path: Path | str,
        *,
        device: str = "cpu",
        weights: str = "ema",
        checkpoint: str | int = "best",
    ) -> ATATDiT:
        """Return the model of a run of the task ``pretrain``, in evaluation mode.

        Args:
            path: the run folder.
            device: where the model goes.
            weights: "ema" or "raw".
            checkpoint: "best", "last", or the number of a step.

        Raises:
            ConfigError: if `path` is no run.
            CheckpointError: if there is no sound checkpoint.
            UsageError: if what was trained has no masking policy.
        """
        from mdlm_core.train import load_run

        loaded = load_run(path, device=device, weights=weights, checkpoint=checkpoint)
        policy = getattr(loaded.module, "policy", None)
        if policy is None:
            raise UsageError(
                f"'{path}' was trained by the task '{loaded.config.task.name}', which "
                "has no masking policy; take a run of task.name=pretrain"
            )
        return cls(loaded.backbone, policy, schedule=loaded.schedule).eval()

    @overload
    def forward(
        self,
        x_t: Tensor | Batch,
        t: Tensor | float,
        return_importance: Literal[False] = ...,
    ) -> Tensor: ...

    @overload
    def forward(
        self, x_t: Tensor | Batch, t: Tensor | float, return_importance: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        x_t: Tensor | Batch,
        t: Tensor | float,
        return_importance: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return log-probabilities ``(B, L, V)`` float32, and importance if asked for.

        They are SUBS (arXiv 2406.07524, section 3.2.3): the mask has probability zero,
        and a token that is visible has probability one. So a cross-entropy with the
        clean rows, which takes them as logits, counts hidden positions alone. All
        positions are computed; a loss over many of them is cheaper by
        `mdlm_core.diffusion.masked_cross_entropy`.

        Args:
            x_t: rows with masks in place.
            t: ``(B,)``, or one time for all.
            return_importance: whether to return ``(B, L)`` in [0, 1] as well, without
                a gradient: `AdaptiveMasking.auxiliary_loss` is what it learns from.

        Raises:
            UsageError: if importance is asked for and there is none.
        """
        batch = _batch(x_t)
        times = _times(t, batch)
        hidden = self.backbone.hidden(batch, times.float())
        logits = subs(
            self.backbone.logits(hidden.flatten(0, 1)), self.backbone.mask_id
        ).view(*hidden.shape[:2], -1)
        known = (batch.tokens != self.backbone.mask_id).unsqueeze(-1)
        itself = torch.full_like(logits, -torch.inf).scatter(
            2, batch.tokens.unsqueeze(-1), 0.0
        )
        logits = torch.where(known, itself, logits)
        if not return_importance:
            return logits
        return logits, self._importance(batch, times)

    def adaptive_forward_diffusion(
        self,
        x_0: Tensor | Batch,
        t: Tensor | float,
        step: int,
        *,
        noise: Noise,
        steps: int,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Hide tokens of clean rows, as training does at that step.

        The policy is told the step first, which moves its curriculum. The mean chance
        over the free positions of a row is the schedule's at `t`.

        Args:
            x_0: clean rows.
            t: ``(B,)``, or one time for all.
            step: optimiser steps done.
            noise: keys the masks by row and position.
            steps: of the whole run.

        Returns:
            The rows with masks ``(B, L)``; the importance ``(B, L)`` of their
            positions, as the policy sees them, or None if it has none; and which are
            hidden ``(B, L)`` bool.
        """
        follow = getattr(self.policy, "advance", None)
        if follow is not None:
            follow(step, steps)
        batch = _batch(x_0)
        times = _times(t, batch)
        with torch.no_grad():
            hidden = corrupt(
                batch,
                Times(times, torch.ones_like(times)),
                schedule=self.schedule,
                policy=self.policy,
                noise=noise,
                mask_id=self.backbone.mask_id,
            )
        seen = hidden.batch if getattr(self.policy, "draws", False) else batch
        importance = self._importance(seen, times) if self._weighs else None
        return hidden.batch.tokens, importance, hidden.masked

    def uncertainty_guided_sample_step(
        self,
        x_t: Tensor | Batch,
        t: float,
        dt: float,
        mask_index: int,
        *,
        noise: Noise,
        order: Order = "confident_first",
        score: Score = "entropy",
        entropy_bound: float = BY_NUMBER,
    ) -> tuple[Tensor, Tensor]:
        """Take one step of the sampler from t to t - dt.

        Of a row's masked positions ``ceil(masked / steps left)`` are committed, with
        t / dt steps left, so that the rows are full at t = 0. The same noise at every
        step gives exactly the tokens of `uncertainty_guided`. A model that sees the
        time is asked at that which its canvas implies.

        Args:
            x_t: rows with masks in place.
            t: the time of the rows; 1 at the start.
            dt: the size of a step, 1 / T.
            mask_index: the mask's id.
            noise: keys every draw; the same at every step.
            order: which positions come first, see `uncertainty_guided`.
            score: what uncertain means.
            entropy_bound: gamma in nats; negative means by number.

        Returns:
            The rows after the step, and the uncertainty ``(B, L)`` of the positions
            that were masked before it; 0 elsewhere.

        Raises:
            UsageError: if `mask_index` is not the model's mask, or the times are not
                0 < dt <= t <= 1.
        """
        if mask_index != self.backbone.mask_id:
            raise UsageError(
                f"mask_index is {mask_index}, and the mask of this model is "
                f"{self.backbone.mask_id}; pass that"
            )
        if not 0 < dt <= t * (1 + _WHOLE) <= 1 + _WHOLE:
            raise UsageError(
                f"a step of dt = {dt} from t = {t} was asked for; it must be "
                "0 < dt <= t <= 1"
            )
        canvas = _batch(x_t)
        denoiser = Denoiser(self.backbone, policy=self.policy)
        where = denoiser.masked(canvas)
        if not where.any():
            return canvas.tokens, torch.zeros(where.shape, device=where.device)
        left = max(1, math.ceil(t / dt - _WHOLE))
        with denoiser.evaluating():
            step = one_step(
                denoiser.on_implied_time(self.schedule),
                canvas,
                schedule=self.schedule,
                noise=noise,
                left=torch.full_like(canvas.sample_id, left),
                order=order,
                score=score,
                entropy_bound=entropy_bound,
            )
        return step.tokens, step.uncertainty

    @property
    def _weighs(self) -> bool:
        """Whether the policy has an importance to tell."""
        tells = isinstance(self.policy, Importance)
        return tells and getattr(self.policy, "weighs", True)

    def _importance(self, batch: Batch, t: Tensor) -> Tensor:
        policy: object = self.policy
        if not isinstance(policy, Importance):
            raise UsageError(
                "the masking policy of this model tells no importance; train it with "
                "masking.name=atat, or do not ask for importance"
            )
        with torch.no_grad():
            return policy.importance(batch, t)


def _batch(rows: Tensor | Batch) -> Batch:
    return rows if isinstance(rows, Batch) else Batch.of(rows)


def _times(t: Tensor | float, batch: Batch) -> Tensor:
    """Return ``(B,)`` float64."""
    times = torch.as_tensor(t, dtype=torch.float64, device=batch.tokens.device)
    return times.expand(len(batch))


def build(config: ATATDiTConfig, *, vocab_size: int, mask_id: int, length: int) -> DiT:
    """Return a new denoiser, for the catalog."""
    return DiT(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
