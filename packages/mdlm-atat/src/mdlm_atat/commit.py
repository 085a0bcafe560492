"""One step of uncertainty-guided sampling: which positions, and what they hold.

Letters: b rows in one evaluation, L length, V vocabulary, N masked positions, T steps.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Schedule
from mdlm_core.samplers.denoiser import Denoiser, implied_time
from mdlm_core.samplers.events import Plan, levels

Order = Literal[
    "confident_first", "uncertain_first", "importance", "left_to_right", "random"
]
Score = Literal["entropy", "confidence", "margin"]

BY_NUMBER = -1.0
"""The entropy bound that means none: the number of steps decides."""


_GRID = 2.0**-10  # what is nearer counts as equally uncertain or important


@runtime_checkable
class Importance(Protocol):
    """A masking policy that tells how important tokens are."""

    def importance(self, batch: Batch, t: Tensor) -> Tensor:
        """Return ``(B, L)`` in [0, 1] for a canvas at times `t` ``(B,)``."""
        ...


class Step(NamedTuple):
    """What one evaluation gave."""

    tokens: Tensor
    """``(b, L)``: the canvas after it."""
    committed: Tensor
    """``(b, L)`` bool: the positions that were written."""
    uncertainty: Tensor
    """``(b, L)`` float32, of the positions that were masked; 0 elsewhere."""


def one_step(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    left: Tensor,
    order: Order = "confident_first",
    score: Score = "entropy",
    entropy_bound: float = BY_NUMBER,
) -> Step:
    """Evaluate the canvas once, and commit positions of each row.

    A position is drawn with the number keyed by (noise, sample_id, position), so that
    the same `noise` is passed at every step: each number is used once.

    Args:
        denoiser: the model, on its clock if it sees t.
        canvas: b rows.
        schedule: gives the time at which a policy is asked.
        noise: keys every draw.
        left: ``(b,)`` int64 steps that remain, this one included; not used with an
            entropy bound.
        order: see `uncertainty_guided`.
        score: see `uncertainty`.
        entropy_bound: gamma; negative means by number.
    """
    where = denoiser.masked(canvas)
    numbers = noise.child("what").uniform(canvas.sample_id, canvas.length)[where]
    drawn, uncertain, entropy = [], [], []
    start = 0
    for law in denoiser.laws(canvas, where):
        drawn.append(denoiser.choose(law, numbers[start : start + len(law)]))
        uncertain.append(uncertainty(law, score))
        entropy.append(uncertain[-1] if score == "entropy" else entropy_of(law))
        start += len(law)
    nothing = torch.zeros(where.shape, device=where.device)
    doubt = nothing.masked_scatter(where, torch.cat(uncertain))
    if order == "confident_first":
        key = doubt
    elif order == "uncertain_first":
        key = -doubt
    elif order == "importance":
        policy = importance_of(denoiser)
        t = implied_time(canvas, denoiser.mask_id, schedule)
        with torch.autocast(where.device.type, enabled=False):
            key = -policy.importance(canvas, t)
    else:
        key = fixed_rank(denoiser, canvas, noise, order)
    queue = _queue(key, levels(denoiser, canvas, noise))
    if entropy_bound < 0:
        quota = (where.sum(1) + left - 1) // left  # ceil
    else:
        nats = nothing.masked_scatter(where, torch.cat(entropy))
        quota = within_bound(nats.gather(1, queue), entropy_bound)
    place = torch.arange(canvas.length, device=where.device)
    first = (place < quota.unsqueeze(1)).expand_as(queue)
    committed = torch.zeros_like(where).scatter(1, queue, first) & where
    written = canvas.tokens.masked_scatter(where, torch.cat(drawn))
    return Step(torch.where(committed, written, canvas.tokens), committed, doubt)


def uncertainty(law: Tensor, score: Score) -> Tensor:
    """Return ``(N,)`` float32, higher where the model is less sure.

    - entropy: H = -sum p log p, in nats;
    - confidence: 1 - p of the most probable token;
    - margin: 1 - the gap between the two most probable ones.

    Args:
        law: ``(N, V)`` log-probabilities.
        score: which.
    """
    if score == "entropy":
        return entropy_of(law)
    if score == "confidence":
        return 1 - law.amax(-1).exp()
    best = law.topk(2, dim=-1).values.exp()
    return 1 - (best[:, 0] - best[:, 1])


def entropy_of(law: Tensor) -> Tensor:
    """Return the entropies ``(N,)`` in nats of log-probabilities ``(N, V)``."""
    entropy: Tensor = torch.special.entr(law.exp()).sum(-1)
    return entropy


def within_bound(entropy: Tensor, bound: float) -> Tensor:
    """Return the largest k ``(b,)`` whose entropies, all but the largest, fit.

    That is ``sum_{l <= k} H_l - max_{l <= k} H_l <= bound``, at least 1. The left side
    never falls with k, so the k that fit are the first ones.

    Args:
        entropy: ``(b, L)`` nats in the order of the positions.
        bound: gamma, 0 or more.
    """
    nats = entropy.double()
    lost = nats.cumsum(1) - nats.cummax(1).values
    return (lost <= bound).sum(1).clamp(min=1)


def _queue(key: Tensor, level: Tensor) -> Tensor:
    """Return the positions ``(b, L)`` of each row, those with the smallest key first.

    A transformer without absolute positions finds every position of a blank canvas
    alike, up to rounding, which differs with the rows beside it. So keys are compared
    on a grid, and equal ones come in the order of their levels, which is random.

    Args:
        key: ``(b, L)``.
        level: ``(b, L)`` float64, negative at positions that are not masked; these
            come last.
    """
    grid = (key.double() / _GRID).round().masked_fill(level < 0, torch.inf)
    mixed = level.argsort(dim=1, descending=True, stable=True)
    return mixed.gather(1, grid.gather(1, mixed).argsort(dim=1, stable=True))


def fixed_rank(denoiser: Denoiser, canvas: Batch, noise: Noise, order: Order) -> Tensor:
    """Return ``(B, L)`` int64: the turn of each masked position, from 0; others L.

    Only for orders that do not depend on the model. Those of ``random`` fall with the
    levels of `mdlm_core.samplers.events`; what is left of a row keeps its order.
    """
    where = denoiser.masked(canvas)
    if order == "random":
        queue = levels(denoiser, canvas, noise).argsort(
            dim=1, descending=True, stable=True
        )
        rank = queue.argsort(1)
    else:
        rank = where.cumsum(1) - 1
    return rank.masked_fill(~where, canvas.length)


def plan(rank: Tensor, steps: int) -> Plan:
    """Return when each position falls, ``ceil(masked / steps left)`` at a time.

    With n masked positions in T' = min(T, n) steps, the first n mod T' steps take one
    position more than the others. The time is not used: the denoiser has a clock.

    Args:
        rank: ``(B, L)``, see `fixed_rank`.
        steps: T.
    """
    masked = rank < rank.shape[1]
    n = masked.sum(1, keepdim=True)
    turns = n.clamp(min=1, max=steps)
    size, longer = n // turns, n % turns
    early = longer * (size + 1)  # positions in the longer steps
    late = longer + (rank - early) // size.clamp(min=1)
    turn = torch.where(rank < early, rank // (size + 1), late) + 1
    time = torch.zeros(rank.shape, dtype=torch.float64, device=rank.device)
    return Plan(turn.masked_fill(~masked, 0), time)


def importance_of(denoiser: Denoiser) -> Importance:
    """Return the masking policy of the model.

    Raises:
        UsageError: if it has none that tells importance.
    """
    policy: object = denoiser.policy
    if not isinstance(policy, Importance):
        raise UsageError(
            "the order is 'importance', and this model has no masking policy that "
            "tells importance; train it with masking.name=atat, or choose another "
            "order, such as sampler.order=confident_first"
        )
    return policy
