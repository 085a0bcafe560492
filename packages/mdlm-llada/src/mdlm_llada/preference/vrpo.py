"""The task `llada-vrpo`: preference optimisation with variance-reduced bounds.

Zhu et al., 2025 (arXiv 2505.19223). Letters: B pairs, L length, D draws, N hidden
positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted, Draw, Loss
from mdlm_core.diffusion.likelihood import draw_error
from mdlm_core.errors import DataError
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, Schedule
from mdlm_core.tasks.bound import ROWS_AT_ONCE, Bound, gather
from mdlm_core.tasks.held_out import held_out as spread
from mdlm_llada.config import VRPOConfig
from mdlm_llada.scoring.statistics import wilson
from mdlm_llada.sft.held_out import measure
from mdlm_llada.sft.module import with_clean

from .reference import Reference
from .scores import Draws, both, log_bounds, views
from .shown import check_masking, show_answers


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


class VRPO:
    """The task; see `protocols.Task`."""

    def __init__(self, config: VRPOConfig, *, run: RunConfig, catalog: Catalog) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> Preference:
        """Build the backbone; as it is now, it is the reference.

        Raises:
            ConfigError: if the run has another masking policy than the uniform one.
        """
        check_masking(self.run)
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=source.tokenizer.vocab_size,
            mask_id=source.tokenizer.mask_id,
            length=source.length,
        )
        return Preference(
            backbone,
            Reference(backbone),
            schedule=self._schedule(),
            beta=self.config.beta,
            draws=Draws(
                self.config.draws, self.config.estimator, mirror=self.config.mirror
            ),
            shared=self.config.shared,
        )

    def _schedule(self) -> Schedule:
        schedule: Schedule = self.catalog.build("schedule", self.run.schedule)
        return schedule

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return loss, accuracy and margin on held-out pairs, with their errors.

        Pairs and masks are the same at every call. Without held-out pairs there is
        nothing to measure, and no number.

        Raises:
            DataError: if a margin is not finite.
        """
        if source.size("validation") == 0:
            return {}
        assert isinstance(module, Preference)
        noise = Noise(self.run.seed).child("evaluate")
        device = next(module.backbone.parameters()).device
        parts = []
        with (
            torch.no_grad(),
            evaluating(module),
            torch.autocast(device.type, enabled=False),
        ):
            for batch in spread(
                source, self.config.eval_rows, at_once=max(1, ROWS_AT_ONCE // 4)
            ):
                if len(batch):
                    found = module.margins(batch.to(device), noise)
                    parts.append(found.margin.double().cpu())
        margins = torch.cat(gather(parts))[: self.config.eval_rows or None]
        if not bool(margins.isfinite().all()):
            raise DataError("a held-out margin is not finite; lower train.lr")
        losses = softplus(-margins)
        ahead, level = int((margins > 0).sum()), int((margins == 0).sum())
        share = wilson(ahead + level // 2, len(margins))
        numbers = {"loss": float(losses.mean()), "margin": float(margins.mean())}
        if len(margins) > 1:
            numbers["loss_se"] = float(losses.std()) / math.sqrt(len(margins))
            numbers["margin_se"] = float(margins.std()) / math.sqrt(len(margins))
        return {
            **numbers,
            "accuracy": share.value,
            "accuracy_low": share.low,
            "accuracy_high": share.high,
        }

    def bound(
        self,
        module: nn.Module,
        source: DataSource,
        *,
        draws: int,
        noise: Noise,
        rows: int = 0,
        estimator: str = "exact-counts",
        schedule: Schedule | None = None,
    ) -> Bound:
        """Return the bound on the chosen answers, for `mdlm evaluate`."""
        del schedule  # the run's own
        backbone = module.backbone
        assert isinstance(backbone, nn.Module)
        return measure(
            backbone,
            _Chosen(source),
            draws=draws,
            noise=noise,
            rows=rows,
            estimator=estimator,
            schedule=self._schedule(),
        ).bound

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Return held-out prompts with the answers of the run's sampler."""
        return show_answers(
            module,
            _Chosen(source),
            self.run,
            self.catalog,
            count=self.config.sample_count,
            seed=seed,
        )


class _Chosen:
    """The chosen answers alone, as data of prompts and answers."""

    def __init__(self, source: DataSource) -> None:
        self.source = source
        self.tokenizer = source.tokenizer
        self.length = source.length

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def size(self, split: str) -> int | None:
        """Return the rows of a split."""
        return self.source.size(split)

    def card(self) -> Mapping[str, object]:
        """Return what identifies the data."""
        return self.source.card()

    def batches(
        self,
        split: str,
        *,
        size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """Yield the batches without their conditions."""
        for batch in self.source.batches(
            split, size=size, seed=seed, start=start, rank=rank, world=world
        ):
            yield replace(batch, condition={})


def build(config: VRPOConfig, *, run: RunConfig, catalog: Catalog) -> VRPO:
    """Return the task, for the catalog."""
    return VRPO(config, run=run, catalog=catalog)
