"""The training loss of fine-tuning: one mask of each row, several, or a mirrored pair.

Letters: B batch, L length, k masks of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, overload

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted, Draw, Loss, corrupt, masked_cross_entropy
from mdlm_core.diffusion.times import Times
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, MaskingPolicy, Schedule
from mdlm_core.tasks.pretrain import MaskedDiffusion

from .curves import LossRows
from .measure import TimeLaw
from .noise import MirroredNoise

Mode = Literal["Normal", "MultiSample", "MIRROR"]
Normaliser = Literal["sequence", "token", "batch"]


@dataclass(frozen=True, slots=True)
class AtTimes:
    """Asks `FineTuning` for the loss of each row at given times, not for a sum."""

    tau: Tensor
    """``(B,)`` in [0, 1]; the mask rate is that of ``t_min + (1 - t_min) tau``."""
    noise: Noise
    """Decides the masks, by `sample_id` and position."""


class FineTuning(MaskedDiffusion):
    """A denoiser with what decides its loss on prompts and answers.

    With the mask rate p of a row's time, n tokens in its answer and 1 / q(tau) for how
    the time was drawn, one mask has the loss::

        l = 1 / (n p q) * sum over hidden i of -log p(x_i | what is visible)

    whose expectation does not depend on q: the mean over tau in [0, 1] of LLaDA's loss
    (Nie et al., 2025, arXiv 2502.09992, eq. 5). The modes differ in variance alone:

    - Normal: one mask.
    - MultiSample: the mean over k independent masks at the same time.
    - MIRROR: the mean over a mask and its mirror image at the same time, with the same
      weight (arXiv 2511.18159).

    The normalisers weigh rows differently, so that they are different goals:

    - sequence: the mean over rows of l.
    - token: the sum over rows of n l, over the tokens of all answers.
    - batch: the sum over rows of n l, over the number of rows.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        schedule: Schedule,
        policy: MaskingPolicy,
        times: TimeLaw,
        mode: Mode = "Normal",
        masks: int = 2,
        loss_norm: Normaliser = "sequence",
        t_sampling: str = "uniform",
        t_min: float = 1e-3,
        rows_at: Callable[[int], Batch] | None = None,
        noise: Noise | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: the denoiser. One that sees blocks (its `block_size` is not 0)
                is given the clean row as the condition "clean".
            schedule: the mask rate and the weight of a time.
            policy: which tokens are hidden first.
            times: the law of the times.
            mode: the masks of a row.
            masks: k, for MultiSample.
            loss_norm: what the loss of a batch is divided by.
            t_sampling: what `policy` is told about the times.
            t_min: the smallest time.
            rows_at: gives the rows that the time law measures before a step.
            noise: decides the masks of that.
        """
        super().__init__(
            backbone,
            schedule=schedule,
            policy=policy,
            t_sampling=t_sampling,
            t_min=t_min,
        )
        self.times = times
        self.mode = mode
        self.masks = {"Normal": 1, "MultiSample": masks, "MIRROR": 2}[mode]
        self.loss_norm = loss_norm
        self.rows_at = rows_at
        self.noise = noise or Noise(0)

    @property
    def denoiser(self) -> Backbone:
        """The backbone."""
        return cast("Backbone", self.backbone)

    @overload
    def forward(self, batch: Batch, draw: Draw) -> Loss: ...
    @overload
    def forward(self, batch: Batch, draw: AtTimes) -> Tensor: ...
    def forward(self, batch: Batch, draw: Draw | AtTimes) -> Loss | Tensor:
        """Return the training loss of `batch`, or ``(B,)`` losses at given times.

        The masks of a row depend on (noise, epoch, `sample_id`), its time on (noise,
        step, place in the global batch). `Loss.masked` has the k masks one batch
        after the other. A policy's ``auxiliary_loss`` is one number for the batch; it
        is added to the loss after the division.
        """
        if isinstance(draw, AtTimes):
            return self._row_losses(batch, draw)
        times = self.times.draw(draw.noise.child("time", draw.step), draw.rows, draw.of)
        corrupted = joined(
            [
                self._corrupt(batch, times, noise)
                for noise in self.views(draw.noise.child("mask", batch.epoch))
            ]
        )
        residual = getattr(self.policy, "needs_residual", False)
        loss = masked_cross_entropy(
            self.denoiser, self._normalised(batch, corrupted), residual=residual
        )
        total, count = loss.total, self.count(batch)
        numbers = {}
        if self.times.kind not in ("uniform", "clipped"):
            numbers["time_weight"] = times.weight.float().mean()  # 1 on average
        extra = getattr(self.policy, "auxiliary_loss", None)
        if extra is not None:
            more = {"residual": loss.residual} if residual else {}
            total = total + extra(corrupted, loss.nll, **more) * count
        return replace(loss, total=total, count=count, extra=numbers)

    def views(self, noise: Noise) -> list[Noise]:
        """Return the generators of the k masks; the first one is `noise` itself."""
        if self.mode == "MIRROR":
            return [noise, MirroredNoise.of(noise)]
        return [noise, *(noise.child(index) for index in range(1, self.masks))]

    def count(self, batch: Batch) -> Tensor:
        """Return what the loss of `batch` is divided by: a scalar int64.

        A row without an answer has no loss, and is no row here.
        """
        free = batch.free
        return free.sum() if self.loss_norm == "token" else free.any(1).sum()

    def row_losses(self, batch: Batch, tau: Tensor, noise: Noise) -> Tensor:
        """Return ``(B,)`` losses l at the times of `tau` ``(B,)``, without gradients.

        One mask of each row, weighted by 1 / (n p), not by how the time was drawn;
        rows with the same `sample_id` have the same numbers under their masks. Dropout
        is off.
        """
        with torch.no_grad(), evaluating(self):
            losses: Tensor = self(batch, AtTimes(tau, noise))
        return losses

    def advance(self, step: int, steps: int) -> None:
        """Tell the policy how far training is, and measure the times if it is due."""
        super().advance(step, steps)
        if self.rows_at is None or not self.times.due(step):
            return
        device = next(self.backbone.parameters()).device
        rows = self.rows_at(step).to(device)
        self.times.measure(
            self._parts_of(rows.select(slice(self.times.config.samples_x0))),
            rows,
            self.noise.child(step),
            step=step,
        )

    def _parts_of(self, measured: Batch) -> LossRows:
        """Return the losses that the times are fitted to: what rows add to the goal.

        That is l for the normaliser "sequence". For "token" and "batch" it is n l, in
        units of the mean n of the rows `measured`, so that long answers count as much
        for the density as they do for the loss.
        """
        if self.loss_norm == "sequence":
            return self.row_losses
        mean = answer_lengths(measured).double().mean()

        def parts(batch: Batch, tau: Tensor, noise: Noise) -> Tensor:
            losses = self.row_losses(batch, tau, noise)
            return losses * (answer_lengths(batch) / mean).to(losses)

        return parts

    # ---- parts of the loss ---------------------------------------------------

    def _corrupt(self, batch: Batch, times: Times, noise: Noise) -> Corrupted:
        return corrupt(
            with_clean(batch, self.backbone),
            times,
            schedule=self.schedule,
            policy=self.policy,
            noise=noise,
            mask_id=self.denoiser.mask_id,
        )

    def _normalised(self, batch: Batch, corrupted: Corrupted) -> Corrupted:
        """Return the k B rows with weights that make their sum that of B rows."""
        scale = torch.full_like(corrupted.t, 1 / self.masks)
        if self.loss_norm == "sequence":
            scale = scale / answer_lengths(batch).repeat(self.masks)
        return replace(corrupted, weight=corrupted.weight * scale[:, None])

    def _row_losses(self, batch: Batch, asked: AtTimes) -> Tensor:
        t = self.t_min + (1 - self.t_min) * asked.tau.double()
        corrupted = self._corrupt(batch, Times(t, torch.ones_like(t)), asked.noise)
        nll = masked_cross_entropy(self.denoiser, corrupted).nll
        masked = corrupted.masked
        sums = nll.new_zeros(len(batch)).index_add(
            0, masked.nonzero()[:, 0], nll * corrupted.weight[masked]
        )
        return sums / answer_lengths(batch)


def answer_lengths(batch: Batch) -> Tensor:
    """Return ``(B,)`` n, the free tokens of each row, at least 1."""
    return batch.free.sum(1).clamp(min=1)


def with_clean(batch: Batch, backbone: nn.Module) -> Batch:
    """Return the batch, with its tokens as the condition "clean" if they are needed.

    A model that sees blocks of itself restores a block from the clean ones before it
    (Arriola et al., 2025, arXiv 2503.09573, section 3): it must be told them.
    """
    if not getattr(backbone, "block_size", 0):
        return batch
    return replace(batch, condition={**batch.condition, "clean": batch.tokens})


def joined(views: Sequence[Corrupted]) -> Corrupted:
    """Return several noisings of one batch as one of k B rows, view after view."""
    first = views[0]
    if len(views) == 1:
        return first
    every = torch.arange(len(first.batch), device=first.t.device).repeat(len(views))
    tokens = torch.cat([view.batch.tokens for view in views])
    return Corrupted(
        batch=first.batch.select(every).with_tokens(tokens),
        targets=first.targets.repeat(len(views), 1),
        masked=torch.cat([view.masked for view in views]),
        weight=torch.cat([view.weight for view in views]),
        t=torch.cat([view.t for view in views]),
    )
