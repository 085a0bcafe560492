"""The loss of pairs: a model, and the reference it is held to.

With bounds B on log p of an alignment given its query and prompt, estimated by D masks
of each, and the gain ``g = B - B_ref``, all losses are functions of the difference
``h = g(winner) - g(loser)``:

- ``dpo``: ``-log sigmoid(beta h)``, the logarithm taken of the mean over draws
  (Rafailov et al., 2023, arXiv 2305.18290, with bounds in place of likelihoods as in
  VRPO, Zhu et al., 2025, arXiv 2505.19223).
- ``ipo``: ``(h - 1 / (2 beta))^2`` (Azar et al., 2023, arXiv 2310.12036, eq. 17).
- ``d2dpo``: ``-log sigmoid(beta h_d)`` for each draw, and then the mean (Borso et al.,
  2025, arXiv 2503.08295). For masks the log-ratio of two path measures has the mean h,
  since both models jump at the same total rate.

With a share e of labels that are wrong the loss is ``(1 - e) f(h) + e f(-h)``
(Mitchell, 2023, "A note on DPO with noisy preferences"). The reference sees the masks
of the model: where the two agree, the noise is gone from the gain.

Letters: B pairs, L length, D draws, N hidden positions.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from mdlm_msa.config import AlignConfig

from .bounds import both, free_rows, log_bounds, views
from .reference import Reference

NEW = -1
"""The checksum of a reference that has not been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """By how much more the model prefers the winners than the reference does."""

    values: Tensor
    """``(D, B)`` float64 h, of each draw."""
    gains: Tensor
    """``(2, B)`` detached: g of winners and of losers."""
    winner: Tensor
    """``(B,)`` float64: -B of the winner under the model, in nats per free token."""
    winner_before: Tensor
    """``(B,)``: the same under the reference, detached."""
    tokens: Tensor
    """``(B,)`` int64: the free tokens of the winners."""
    nll: Tensor
    """``(N,)`` detached: -log p of the hidden tokens under the model."""
    masked: Tensor
    """``(2 D B, L)`` bool: which those are; row r is about pair r mod B."""

    @property
    def mean(self) -> Tensor:
        """``(B,)`` h."""
        return self.values.mean(0)


def preference_loss(values: Tensor, config: AlignConfig) -> Tensor:
    """Return the loss ``(B,)`` of differences h ``(D, B)``; see the module."""

    def loss(h: Tensor) -> Tensor:
        if config.objective == "d2dpo":
            return softplus(-config.beta * h).mean(0)
        if config.objective == "ipo":
            return (h.mean(0) - 1 / (2 * config.beta)).square()
        return softplus(-config.beta * h.mean(0))

    wrong = config.smoothing
    return (
        loss(values)
        if not wrong
        else (1 - wrong) * loss(values) + wrong * loss(-values)
    )


class Preference(nn.Module):
    """A denoiser, the reference it is held to, and the loss between them."""

    checksum: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        reference: Reference,
        *,
        config: AlignConfig,
        schedule: Schedule | None,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: the denoiser that is trained.
            reference: what it is held to.
            config: which loss, and of which bounds.
            schedule: tells a backbone that sees the time which one it is.
        """
        super().__init__()
        self.backbone = backbone
        self.reference = reference
        self.config = config
        self.schedule = schedule
        self.register_buffer("checksum", torch.tensor(NEW))
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def count(self, batch: Batch) -> Tensor:
        """Return what the loss of `batch` is divided by: its pairs, a scalar int64."""
        return batch.sample_id.new_tensor(len(batch))

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return the summed loss of the pairs, with the winner's own bound.

        Masks depend on (noise, epoch, `sample_id`). `Loss.extra` has the share of
        pairs in the right order (`accuracy`; ties count half), the means of beta times
        h (`margin`) and of its two parts (`winner_gain`, `loser_gain`), the winner's
        bound in nats per token (`winner_nats`), and the mean `variance` of h from the
        draws, if there are two or more.
        """
        found = self.margins(
            batch, draw.noise.child("pairs", batch.epoch), self.config.draws
        )
        h = found.mean.detach()
        gains = self.config.beta * found.gains.mean(1)
        extra = {
            "accuracy": (0.5 + 0.5 * h.sign()).mean(),
            "margin": self.config.beta * h.mean(),
            "winner_gain": gains[0],
            "loser_gain": gains[1],
            "winner_nats": found.winner.detach().mean(),
        }
        if len(found.values) > 1:
            error = draw_error(found.values.detach().T, stratified=True)
            extra["variance"] = error.square().mean()
        loss = preference_loss(found.values, self.config)
        if self.config.sft:
            loss = loss + self.config.sft * found.winner
        return Loss(
            loss.sum().float(),
            self.count(batch),
            found.nll,
            found.masked,
            extra={name: value.float() for name, value in extra.items()},
        )

    def margins(
        self, batch: Batch, noise: Noise, draws: int, *, keep: bool = False
    ) -> Margins:
        """Return the differences of the pairs, with gradients.

        Args:
            batch: B pairs, see `PairSource`.
            noise: decides the masks, by `sample_id`.
            draws: D.
            keep: whether to keep what the reference says and not ask it again about
                the same pair under the same masks.
        """
        backbone = cast("Backbone", self.backbone)
        canvases = both(batch)
        noised = views(
            canvases,
            draws,
            noise=noise,
            mask_id=backbone.mask_id,
            schedule=self.schedule,
        )
        base = self._before(batch, noised, (noise, draws) if keep else None)
        count = len(batch)
        bounds, nll, masked = log_bounds(backbone, noised)
        gains = bounds - base
        if not self.config.beta_sum:
            gains = gains / free_rows(canvases)
        winner, loser = gains.chunk(2, dim=1)
        tokens = batch.free.sum(1)
        own, theirs = (-b[:, :count].mean(0) / tokens for b in (bounds, base))
        return Margins(
            values=winner - loser,
            gains=torch.stack([winner, loser]).detach().mean(1),
            winner=own,
            winner_before=theirs,
            tokens=tokens,
            nll=nll,
            masked=masked,
        )

    def _before(
        self,
        batch: Batch,
        noised: Sequence[Corrupted],
        key: tuple[object, ...] | None,
    ) -> Tensor:
        """Return the bounds ``(D, 2 B)`` of the reference; with a key they are kept."""
        names = [] if key is None else [(*key, int(i)) for i in batch.sample_id]
        if names and all(name in self._kept for name in names):
            kept = torch.stack([self._kept[name] for name in names], 2)  # (D, 2, B)
            return kept.flatten(1).to(self.checksum.device)
        with self.reference.of(self.checksum) as before:
            base, _, _ = log_bounds(before, noised)
        pairs = base.view(len(base), 2, -1).cpu()
        for place, name in enumerate(names):
            self._kept[name] = pairs[:, :, place]
        return base
