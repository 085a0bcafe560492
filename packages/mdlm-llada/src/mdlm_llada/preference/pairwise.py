"""The loss of preferred answers: a model, and the reference it is held to.

Zhu et al., 2025 (arXiv 2505.19223). Letters: B pairs, L length, D draws, N hidden
positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted, Draw, Loss
from mdlm_core.diffusion.likelihood import draw_error
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_llada.sft.module import with_clean

from .reference import Reference
from .scores import Draws, both, log_bounds, views


@dataclass(frozen=True, slots=True)
class Margins:
    """By how much more the model prefers the chosen answers than the reference does."""

    values: Tensor
    """``(D, B)``: beta times the gain of the chosen answer minus that of the rejected
    one, for each draw; a gain is the model's bound minus the reference's."""
    gains: Tensor
    """``(2, B)`` detached: beta times the gains, of chosen and of rejected answers."""
    nll: Tensor
    """``(N,)`` detached: -log p of the hidden tokens under the model."""
    masked: Tensor
    """``(2 D B, L)`` bool: which those are; row r is about pair r mod B."""

    @property
    def margin(self) -> Tensor:
        """``(B,)``: the means over draws."""
        return self.values.mean(0)


class Preference(nn.Module):
    """A denoiser, the reference it is held to, and the loss between them.

    With bounds B on log p(answer | prompt), estimated by D masks of each answer::

        -log sigmoid(beta (B(w) - B_ref(w) - B(l) + B_ref(l)))

    for the chosen answer w and the rejected one l (arXiv 2505.19223): DPO with bounds
    in place of likelihoods. The logarithm of a noisy sigmoid is biased, by more the
    larger the variance of its argument is. So the reference is asked with the model's
    masks (`shared`): where the two agree, the noise is gone from the difference.
    """

    def __init__(
        self,
        backbone: nn.Module,
        reference: Reference,
        *,
        schedule: Schedule | None,
        beta: float,
        draws: Draws,
        shared: bool = True,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: the denoiser that is trained.
            reference: what it is held to.
            schedule: tells a backbone that sees the time which one it is.
            beta: the strength of the pull to the reference.
            draws: the masks of an answer.
            shared: whether model and reference see the same ones.
        """
        super().__init__()
        self.backbone = backbone
        self.reference = reference
        self.schedule = schedule
        self.beta = beta
        self.draws = draws
        self.shared = shared

    def count(self, batch: Batch) -> Tensor:
        """Return what the loss of `batch` is divided by: its pairs, a scalar int64."""
        return batch.sample_id.new_tensor(len(batch))

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return the summed loss of the pairs.

        Masks depend on (noise, epoch, `sample_id`). `Loss.extra` has the share of
        pairs in the right order (`accuracy`; ties count half), the means of `margin`
        and of its two parts, `chosen` and `rejected`; and the mean `variance` of a
        margin from the draws, if there are enough of them to tell.
        """
        found = self.margins(batch, draw.noise.child("pairs", batch.epoch))
        margin = found.margin
        shown = margin.detach()
        extra = {
            "accuracy": (0.5 + 0.5 * shown.sign()).mean(),
            "margin": shown.mean(),
            "chosen": found.gains[0].mean(),
            "rejected": found.gains[1].mean(),
        }
        variance = self.variance(found.values.detach())
        if variance is not None:
            extra["variance"] = variance.mean()
        return Loss(
            softplus(-margin).sum(),
            self.count(batch),
            found.nll,
            found.masked,
            extra=extra,
        )

    def margins(self, batch: Batch, noise: Noise) -> Margins:
        """Return the margins of the pairs, with gradients.

        Args:
            batch: B pairs, see `PreferenceSource`.
            noise: decides the masks, by `sample_id`.
        """
        rows = with_clean(both(batch), self.backbone)
        noised = self._views(rows, noise)
        others = noised if self.shared else self._views(rows, noise.child("reference"))
        with self.reference.of(self.backbone) as before:
            base, _, _ = log_bounds(before, others)
        bounds, nll, masked = log_bounds(cast("Backbone", self.backbone), noised)
        gains = self.beta * (bounds - base)  # (D, 2 B)
        chosen, rejected = gains.chunk(2, dim=1)
        means = torch.stack([chosen, rejected]).detach().mean(1)
        return Margins(chosen - rejected, means, nll, masked)

    def _views(self, rows: Batch, noise: Noise) -> list[Corrupted]:
        return views(
            rows,
            self.draws,
            noise=noise,
            mask_id=cast("Backbone", self.backbone).mask_id,
            schedule=self.schedule,
        )

    def variance(self, values: Tensor) -> Tensor | None:
        """Return ``(B,)``, the estimated variances of the margins of `values` (D, B).

        None if there are too few draws to tell.
        """
        if self.draws.mirror:
            values = (values + values.flip(0))[: len(values) // 2] / 2
        if len(values) < 2:
            return None
        return draw_error(values.double().T, stratified=True).square()
