"""Bits per residue of the free rows of canvases, with standard errors.

For a row with its gaps given, the bound of exact counts over its residues alone: of
the n free residues of a canvas k are hidden, k uniform in 1 to n and stratified over
the draws, and the law at a hidden residue is renormalised over the twenty,

    n E_k E_{|M| = k} (1 / k) sum over M of -log p(x_i | x outside M, x_i no gap),

an upper bound on -log p(residues | gaps, given rows), so that it compares with laws
over twenty letters: a background, a substitution matrix, a PSSM. With gaps hidden too
it is the bound over all 21 symbols, per column.

Letters: B canvases, L length, K free rows of all canvases, N hidden positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.draws import hide_by_count, measuring, stratum
from mdlm_core.diffusion.likelihood import draw_error
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_msa.alphabet import GAP, WRITTEN

LN2 = 0.6931471805599453
Gaps = Literal["given", "scored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBits:
    """What the free rows cost; rows of one canvas are scored together."""

    canvas: Tensor
    """``(K,)`` int64: which canvas of the batch a row is on."""
    row: Tensor
    """``(K,)`` int64: its number there, 1 being the row after the query."""
    nats: Tensor
    """``(K,)`` float64: the bound on -log p, of a canvas split by where tokens are."""
    se: Tensor
    """``(K,)`` float64: its standard error from the draws; nan for one draw."""
    count: Tensor
    """``(K,)`` int64: the scored residues, or symbols if gaps are."""
    per_position: Tensor
    """``(B, L)`` float64: what each position adds to `nats`."""
    per_position_se: Tensor
    """``(B, L)`` float64: its standard error, as if draws were not stratified, which
    errs to the large side; nan for one draw."""
    hidden: Tensor
    """``(B, L)`` int64: in how many of the draws each position was hidden; where it
    is 0 nothing is known of what the position costs."""
    values: Tensor
    """``(K, draws)`` float64: each draw, for differences under common masks."""

    @property
    def bits(self) -> Tensor:
        """``(K,)`` float64: bits per residue, nan for a row without any."""
        return self.nats / LN2 / self.count

    def total(self) -> float:
        """Return bits per residue over all rows; nan if there is no residue."""
        count = int(self.count.sum())
        return float(self.nats.sum()) / LN2 / count if count else float("nan")


def row_bits(
    backbone: Backbone,
    batch: Batch,
    *,
    draws: int,
    noise: Noise,
    gaps: Gaps = "given",
    schedule: Schedule | None = None,
) -> RowBits:
    """Estimate what the free rows of each canvas cost, in float32.

    Args:
        backbone: the denoiser.
        batch: clean canvases with 2-D positions. Canvases with the same `sample_id`
            and the same free positions get the same masks.
        draws: evaluations of each canvas.
        noise: the generator of this measurement.
        gaps: "given" scores residues with the gap pattern known; "scored" both.
        schedule: the one of training, for a backbone that sees the time.
    """
    if draws < 1:
        raise ConfigError(f"draws is {draws}; it must be at least 1")
    positions_2d = batch.positions
    assert positions_2d is not None
    if gaps == "given":
        batch = replace(batch, frozen=batch.frozen | (batch.tokens == GAP))
    number = positions_2d[..., 1]
    of_row = torch.arange(len(batch), device=number.device)[:, None] * (
        int(number.max()) + 1
    )
    which, inverse = torch.unique(
        (of_row + number)[batch.free], return_inverse=True
    )  # (K,), (n,)
    each = torch.zeros(len(which), draws, dtype=torch.float64, device=number.device)
    positions = torch.zeros(batch.tokens.shape, dtype=torch.float64).to(number.device)
    squares = torch.zeros_like(positions)
    times = torch.zeros(batch.tokens.shape, dtype=torch.int64).to(number.device)
    slot = torch.full(batch.tokens.shape, -1, device=number.device)
    slot[batch.free] = inverse
    with measuring(backbone):
        for index in range(draws):
            u = stratum(batch, index, draws, noise.child("time", index))
            hidden = hide_by_count(
                batch,
                u,
                noise=noise.child("mask", index),
                mask_id=backbone.mask_id,
                schedule=schedule,
            )
            nll = _nll(backbone, batch, hidden.scored, hidden.t, gaps)
            rows = hidden.scored.nonzero()[:, 0]
            value = nll.double() * hidden.weight[rows]
            each[:, index].index_add_(0, slot[hidden.scored], value)
            positions[hidden.scored] += value / draws
            squares[hidden.scored] += value.square() / draws
            times += hidden.scored
    spread = (squares - positions.square()).clamp(min=0)
    error = (spread / (draws - 1 or torch.nan)).sqrt()
    count = torch.zeros_like(which).index_add_(0, inverse, torch.ones_like(inverse))
    return RowBits(
        canvas=which // (int(number.max()) + 1),
        row=which % (int(number.max()) + 1),
        nats=each.mean(1),
        se=draw_error(each, stratified=True),
        count=count,
        per_position=positions,
        per_position_se=error,
        hidden=times,
        values=each,
    )


def _nll(
    backbone: Backbone, batch: Batch, scored: Tensor, t: Tensor, gaps: Gaps
) -> Tensor:
    """Return ``(N,)`` float32 -log p of scored tokens among what may stand there."""
    canvas = batch.with_tokens(batch.tokens.masked_fill(scored, backbone.mask_id))
    with torch.autocast(batch.tokens.device.type, enabled=False):
        logits = backbone.logits(backbone.hidden(canvas, t.float())[scored]).float()
    allowed = [i for i in WRITTEN if gaps == "scored" or i != GAP]
    keep = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    keep[allowed] = True
    law = logits.masked_fill(~keep, -torch.inf).log_softmax(-1)
    return -law.gather(-1, batch.tokens[scored][:, None])[:, 0]
