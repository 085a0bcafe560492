"""The training loss: a weighted cross-entropy over the hidden positions.

The head runs on hidden positions alone, in chunks, so that nothing of shape (B, L, V)
ever exists. Letters: B batch, L length, V vocabulary, D width, N hidden positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.linear_cross_entropy import linear_cross_entropy
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, MaskingPolicy, Schedule

from .corrupt import Corrupted, corrupt, corrupt_exactly, draw_counts, rates_of
from .parameterization import subs
from .times import draw_times

CHUNK = 256
"""Rows of logits that exist at once."""


@dataclass(frozen=True)  # without slots: DeepSpeed asks what a forward returns by vars
class Loss:
    """A sum and what to divide it by, so that it can be added up over processes.

    The loss per token is ``total / count``: over all free tokens, not the hidden ones,
    because the weights already make up for what is visible.
    """

    total: Tensor
    """Scalar float32, differentiable: the sum of weight times -log p, in nats."""
    count: Tensor
    """Scalar int64: the free positions."""
    nll: Tensor
    """``(N,)`` float32, detached: -log p of each hidden token in row-major order."""
    masked: Tensor
    """``(B, L)`` bool: which positions those are. With k masks of each row, ``(k B,
    L)``: row r is about row r mod B."""
    residual: Tensor | None = None
    """``(N,)`` float32, detached, if asked for: the norm of the gradient of -log p in
    the logits, ``||p - onehot(target)||_2``, between 0 and sqrt 2."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Other numbers worth a line in the metrics, as means over the rows."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Where the noise of a batch comes from, and which part of a global batch it is.

    Masks depend on (noise, the batch's epoch, sample_id), times on (noise, step, row).
    """

    noise: Noise
    """The generator of the run."""
    rows: Tensor
    """``(B,)`` int64: each row's index in the global batch."""
    of: int
    """How many rows the global batch has."""
    step: int = 0
    """The number of the global batch; not needed if `noise` differs between them."""


def nelbo(
    backbone: Backbone,
    batch: Batch,
    *,
    schedule: Schedule,
    draw: Draw,
    policy: MaskingPolicy | None = None,
    t_sampling: str = "stratified",
    t_min: float = 1e-3,
) -> Loss:
    """Return one draw of the negative evidence lower bound of `batch`.

    Its expectation is the continuous-time bound (Sahoo et al., 2024, arXiv 2406.07524,
    eq. 10) of each row, summed,

        E_t E_{x_t} weight(t) sum over hidden i of -log p(x_i | x_t),

    with t averaged over [t_min, 1]. It is a bound only if the policy's weights are
    those of a bound: for uniform masks ``-alpha' / (1 - alpha)``, for others -1 times
    the derivative in t of the chance to be visible over the chance to be hidden, with
    every token surely hidden at t = 1. With other weights, and with "bell" times, it
    is a training loss only. For a bound to report, see `likelihood`.

    Args:
        backbone: the denoiser.
        batch: the clean rows.
        schedule: the mask rate at each time.
        draw: where the noise comes from.
        policy: which tokens are hidden first; None hides them all alike.
        t_sampling: see `draw_times`; or "counts", exact numbers of hidden tokens,
            uniform in 1 to n and stratified over the global batch.
        t_min: the smallest time.

    Raises:
        ConfigError: if `t_sampling` is unknown or does not go with the policy.
    """
    corrupted = corrupt_for_training(
        batch,
        schedule=schedule,
        draw=draw,
        policy=policy,
        t_sampling=t_sampling,
        t_min=t_min,
        mask_id=backbone.mask_id,
    )
    return masked_cross_entropy(backbone, corrupted)


def corrupt_for_training(
    batch: Batch,
    *,
    schedule: Schedule,
    draw: Draw,
    policy: MaskingPolicy | None = None,
    t_sampling: str = "stratified",
    t_min: float = 1e-3,
    mask_id: int,
) -> Corrupted:
    """Return the noised batch of `nelbo`, which has the same arguments."""
    when = draw.noise.child("time", draw.step)
    what = draw.noise.child("mask", batch.epoch)
    if t_sampling == "counts":
        _check_counts(batch, schedule, policy, what)
        counts = draw_counts(batch, noise=when, rows=draw.rows, of=draw.of)
        return corrupt_exactly(
            batch, counts, noise=what, mask_id=mask_id, schedule=schedule
        )
    times = draw_times(
        t_sampling,
        noise=when,
        rows=draw.rows,
        of=draw.of,
        t_min=t_min,
        schedule=schedule,
    )
    return corrupt(
        batch, times, schedule=schedule, policy=policy, noise=what, mask_id=mask_id
    )


def _check_counts(
    batch: Batch, schedule: Schedule, policy: MaskingPolicy | None, noise: Noise
) -> None:
    """Refuse exact counts where a policy wants other masks than uniform ones."""
    if policy is None:
        return
    t = torch.linspace(0.1, 0.9, len(batch), device=batch.tokens.device).double()
    rates = rates_of(policy, batch, t, schedule, noise)
    same = torch.isclose(rates.mask_prob.double(), schedule.mask_rate(t)[:, None])
    if not bool((same | batch.frozen).all()):
        raise ConfigError(
            "t_sampling 'counts' hides tokens uniformly, but the masking policy "
            f"'{type(policy).__name__}' does not; use t_sampling=stratified"
        )


def masked_cross_entropy(
    backbone: Backbone, corrupted: Corrupted, *, residual: bool = False
) -> Loss:
    """Return the weighted cross-entropy of the hidden tokens.

    A head that is a plain `nn.Linear`, at ``backbone.head``, goes through the fused
    kernel; any other is applied in chunks that the backward pass computes again.
    Gradients go to the backbone, and to the weights if a policy learns them.

    Args:
        backbone: the denoiser.
        corrupted: the noised batch.
        residual: whether to fill `Loss.residual`.
    """
    masked = corrupted.masked
    states = backbone.hidden(corrupted.batch, corrupted.t)[masked]  # (N, D)
    targets = corrupted.targets[masked]
    weights = corrupted.weight[masked]
    head = getattr(backbone, "head", None)
    if type(head) is nn.Linear:  # a subclass may compute something else
        norms = states.new_empty(len(states), dtype=torch.float32) if residual else None
        total, nll = linear_cross_entropy(
            states,
            head.weight,
            head.bias,
            targets,
            weights.detach(),
            backbone.mask_id,
            residual=norms,
        )
        if weights.requires_grad:  # of a policy that learns; the value added is zero
            total = total + (nll * (weights - weights.detach())).sum()
    else:
        nll = chunked_nll(backbone, states, targets)
        total = (nll * weights).sum()
        norms = _residual(backbone, states, targets) if residual else None
    return Loss(total, corrupted.batch.free.sum(), nll.detach(), masked, norms)


@torch.no_grad()
def _residual(backbone: Backbone, states: Tensor, targets: Tensor) -> Tensor:
    """Return ``(N,)`` norms; see `Loss.residual`."""
    norms = []
    pieces = zip(torch.split(states, CHUNK), torch.split(targets, CHUNK), strict=True)
    for rows, target in pieces:
        p = subs(backbone.logits(rows), backbone.mask_id).exp()
        p[torch.arange(len(p), device=p.device), target] -= 1
        norms.append(torch.linalg.vector_norm(p, dim=1))
    return torch.cat(norms) if norms else states.new_empty(0, dtype=torch.float32)


def chunked_nll(backbone: Backbone, states: Tensor, targets: Tensor) -> Tensor:
    """Return ``(N,)`` float32 -log p of `targets` ``(N,)`` for states ``(N, D)``.

    Differentiable; at most `CHUNK` rows of logits exist at once.
    """

    def nll(states: Tensor, targets: Tensor) -> Tensor:
        log_probs = subs(backbone.logits(states), backbone.mask_id)
        return -log_probs.gather(1, targets[:, None])[:, 0]

    pieces = list(
        zip(torch.split(states, CHUNK), torch.split(targets, CHUNK), strict=True)
    )
    if not torch.is_grad_enabled():
        return torch.cat([nll(*piece) for piece in pieces])
    return torch.cat(
        [
            checkpoint(nll, *piece, use_reentrant=False, preserve_rng_state=False)
            for piece in pieces
        ]
    )
