"""The task: learn to restore the rows of alignments, measured in bits per residue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import (
    Draw,
    Loss,
    corrupt_for_training,
    masked_cross_entropy,
)
from mdlm_core.diffusion.corrupt import Corrupted
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.tasks.bound import gather
from mdlm_core.tasks.held_out import held_out
from mdlm_core.tasks.pretrain import MaskedDiffusion, Pretrain
from mdlm_core.train.warm_start import warm_start

from .alphabet import BANNED, STATES, Ids, decode
from .config import MSAConfig
from .layout import rows_of
from .nn.profile import start
from .scoring.residues import LN2, row_bits
from .weights import sequence_weights

if TYPE_CHECKING:
    from .data.source import MSASource

_TIMES = {"nelbo": "stratified", "nelbo-l": "counts"}
_AT_ONCE = 8
_BACKGROUND_ROWS = 5.0


class AlignmentDiffusion(MaskedDiffusion):
    """A denoiser of alignments with what decides its training loss."""

    def __init__(self, backbone: nn.Module, *, loss: str, **settings: Any) -> None:
        super().__init__(
            backbone, t_sampling=_TIMES.get(loss, "stratified"), **settings
        )
        self.loss = loss

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return the loss of `batch`; see `config.MSAConfig`."""
        if self.loss in _TIMES:
            return super().forward(batch, draw)
        denoiser = cast("Backbone", self.backbone)
        corrupted = corrupt_for_training(
            batch,
            schedule=self.schedule,
            draw=draw,
            policy=self.policy,
            t_sampling=self.t_sampling,
            t_min=self.t_min,
            mask_id=denoiser.mask_id,
        )
        return masked_cross_entropy(denoiser, reweighted(corrupted, self.loss))


def reweighted(corrupted: Corrupted, loss: str) -> Corrupted:
    """Return the noised batch with the weights of a loss that is no bound.

    "masked-mean": each canvas counts by its free tokens times the mean over its hidden
    ones, n / k for each. "doc-mean": 1 for every free token, visible or hidden, which
    the model predicts alike; its expectation for a perfect model of independent tokens
    of entropy H is at least H / 2, not H.
    """
    free, masked = corrupted.batch.free, corrupted.masked
    if loss == "doc-mean":
        return replace(corrupted, masked=free, weight=torch.ones_like(corrupted.weight))
    share: Tensor = free.sum(1) / masked.sum(1).clamp(min=1)
    return replace(corrupted, weight=share[:, None].expand_as(corrupted.targets))


class MSA(Pretrain):
    """The task; see `protocols.Task`."""

    config: MSAConfig  # type: ignore[assignment]

    def __init__(self, config: MSAConfig, *, run: RunConfig, catalog: Catalog) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> AlignmentDiffusion:
        """Build backbone, schedule and masking policy.

        Raises:
            ConfigError: if a model of one family does not fit the data.
        """
        tokenizer = source.tokenizer
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        return AlignmentDiffusion(
            backbone,
            loss=self.config.loss,
            schedule=self.catalog.build("schedule", self.run.schedule),
            policy=self.catalog.build("masking", self.run.masking, source=source),
            t_min=self.config.t_min,
        )

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Begin with another run's weights, and with the columns of the family."""
        backbone = cast("Any", module).backbone
        if self.config.warm_start:
            warm_start(backbone, self.config.warm_start, source.tokenizer)
        columns = getattr(backbone.config, "columns", 0)
        if not columns:
            return
        families = list(cast("MSASource", source).families.values())
        if len(families) != 1 or families[0].alignment.length != columns:
            found = ", ".join(
                f"{family.alignment.name} ({family.alignment.length} columns)"
                for family in families[:5]
            )
            raise ConfigError(
                f"model.columns={columns} is a model of one family of {columns} "
                f"columns, and the data has {found}; give one alignment, or set "
                f"model.columns=0"
            )
        family = families[0]
        query = torch.from_numpy(family.alignment.rows[0].astype(np.int64))
        laws = column_laws(family.alignment.states[family.train_rows])
        backbone.set_columns(query, laws)

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return the bound on held-out canvases, and bits per residue, gaps given."""
        bound = dict(super().evaluate(module, source))
        backbone = cast("Any", module).backbone
        device = next(backbone.parameters()).device
        noise = Noise(self.run.seed).child("evaluate", "residues")
        parts = []
        with torch.autocast(device.type, enabled=False):
            for batch in held_out(source, self.config.eval_rows, at_once=_AT_ONCE):
                if not len(batch):
                    continue
                found = row_bits(
                    backbone,
                    batch.to(device),
                    draws=self.config.eval_draws,
                    noise=noise,
                    schedule=self.catalog.build("schedule", self.run.schedule),
                )
                parts.append((float(found.nats.sum()), int(found.count.sum())))
        parts = gather(parts)
        nats, count = sum(n for n, _ in parts), sum(c for _, c in parts)
        bits = nats / count / LN2 if count else float("nan")
        return {**bound, "bits_per_residue": bits}

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Sample the free rows of a few held-out canvases, the query above them."""
        texts = []
        settings: Any = self.run.sampler.config
        backbone = cast("Any", module).backbone
        sampler = self.catalog.build("sampler", self.run.sampler)
        schedule = self.catalog.build("schedule", self.run.schedule)
        batches = source.batches("validation", size=1, seed=0)
        for _, clean in zip(range(self.config.sample_count), batches, strict=False):
            batch = clean.to(next(backbone.parameters()).device)
            canvas = batch.with_tokens(
                batch.tokens.masked_fill(batch.free, backbone.mask_id)
            )
            denoiser = Denoiser(
                backbone, temperature=settings.temperature, banned=BANNED
            )
            done = sampler(
                denoiser,
                canvas,
                schedule=schedule,
                noise=Noise(seed).child("sample"),
                steps=settings.steps,
            )
            assert batch.positions is not None
            columns = int(batch.positions[0, :, 0].max())
            rows = rows_of(done.tokens[0][~batch.pad[0]], columns)
            last = int(batch.positions[0][batch.free[0]][:, 1].max())
            texts.append(f"{decode(rows[0])}\n{decode(rows[last])}")
        return texts


def column_laws(states: Ids) -> Tensor:
    """Return ``(L, S)`` frequencies in each column of rows ``(R, L)`` of states.

    Rows count by their sequence weight, and the background by `_BACKGROUND_ROWS`.
    """
    weights = sequence_weights(states)
    known = np.eye(STATES + 1)[np.minimum(states, STATES)][..., :STATES]
    counts = torch.from_numpy(np.einsum("r,rls->ls", weights, known))
    laws = counts + _BACKGROUND_ROWS * start()[0].double()
    return (laws / laws.sum(-1, keepdim=True)).float()


def build(config: MSAConfig, *, run: RunConfig, catalog: Catalog) -> MSA:
    """Return the task, for the catalog."""
    return MSA(config, run=run, catalog=catalog)
