"""Laws about masking policies. Letters: B batch, L length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.data.source import PackedSource
from mdlm_core.diffusion import Corrupted, Times, corrupt, rates_of
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import MaskingPolicy, Rates, Schedule
from mdlm_core.testing.law import backward, close, hold, rule, same, untouched
from mdlm_core.testing.tiny import tiny_times

_TIMES = (0.0, 0.05, 0.3, 0.5, 0.7, 0.95, 1.0)


def _rates(policy: Any, batch: Batch, t: float | Tensor, schedule: Schedule) -> Rates:
    """Return the rates as ``(B, L)``, without gradients."""
    times = torch.as_tensor(t, dtype=torch.float64).expand(len(batch))
    with torch.no_grad():
        found = rates_of(policy, batch, times, schedule, Noise(0))
    shape = batch.tokens.shape
    return Rates(found.mask_prob.expand(shape), found.weight.expand(shape))


def _corrupt(
    policy: MaskingPolicy, batch: Batch, t: Tensor, schedule: Schedule, noise: Noise
) -> Corrupted:
    """Mask with a token that the batch does not hold."""
    return corrupt(
        batch,
        Times(t.double(), torch.ones_like(t)),
        schedule=schedule,
        policy=policy,
        noise=noise,
        mask_id=int(batch.tokens.max()) + 1,
    )


def rates_are_rates(policy: Any, batch: Batch, schedule: Schedule) -> None:
    """Rates fit (B, L), chances are in [0, 1], weights are finite and not negative.

    If the policy changes over a run, this holds at its start, middle and end.
    """
    for step in (0, 500, 999):
        if hasattr(policy, "advance"):
            policy.advance(step, 1000)
        for t in _TIMES[1:]:
            rates = _rates(policy, batch, t, schedule)
            chance, weight = rates.mask_prob[batch.free], rates.weight[batch.free]
            inside = bool(((chance >= 0) & (chance <= 1)).all())
            hold(inside, f"chances from {chance.min()} to {chance.max()} at t = {t}")
            hold(torch.isfinite(weight).all(), f"a weight is not finite at t = {t}")
            hold((weight >= 0).all(), f"a weight is {weight.min():.3g} at t = {t}")


def masks_nothing_at_zero_and_all_at_one(
    policy: MaskingPolicy, batch: Batch, schedule: Schedule
) -> None:
    """At t = 0 no free token is masked, and at t = 1 as many as the schedule says."""
    first = _rates(policy, batch, 0.0, schedule).mask_prob[batch.free]
    hold(first.max() <= 1e-6, f"a chance at t = 0 is {first.max():.3g}")
    whole = float(schedule.mask_rate(torch.ones(1, dtype=torch.float64)))
    last = _rates(policy, batch, 1.0, schedule).mask_prob[batch.free]
    hold(last.min() >= whole - 1e-3, f"a chance at t = 1 is only {last.min():.4g}")


def frozen_tokens_stay(
    policy: MaskingPolicy, batch: Batch, schedule: Schedule, noise: Noise
) -> None:
    """A frozen token is never masked, and the batch itself is not changed."""
    tokens, frozen = batch.tokens.clone(), batch.frozen.clone()
    for t in (0.5, 1.0):
        found = _corrupt(policy, batch, torch.full((len(batch),), t), schedule, noise)
        hold(not found.masked[frozen].any(), f"a frozen token is masked at t = {t}")
        same(found.batch.tokens[frozen], tokens[frozen], "frozen tokens")
        same(batch.tokens, tokens, "the tokens of the batch that was given")
        same(batch.frozen, frozen, "the frozen positions of the batch that was given")


def mean_rate_follows_the_schedule(
    policy: MaskingPolicy, batch: Batch, schedule: Schedule
) -> None:
    """Over a row's free tokens, the mean chance is the schedule's mask rate."""
    free = batch.free
    for t in _TIMES:
        chance = _rates(policy, batch, t, schedule).mask_prob.double()
        mean = (chance * free).sum(1) / free.sum(1)
        rate = schedule.mask_rate(torch.full_like(mean, t))
        close(mean, rate, f"the mean chance at t = {t}", 1e-3)


def monotone(policy: MaskingPolicy, batch: Batch, schedule: Schedule) -> None:
    """The chance that a token is masked never falls as t grows."""
    before = _rates(policy, batch, 0.0, schedule).mask_prob
    for t in _TIMES[1:]:
        chance = _rates(policy, batch, t, schedule).mask_prob
        falls = (chance - before)[batch.free].min()
        hold(falls >= -1e-6, f"a chance falls by {-falls:.3g} before t = {t}")
        before = chance


def rows_are_independent(
    policy: MaskingPolicy, batch: Batch, schedule: Schedule
) -> None:
    """A row's rates do not depend on the rows beside it."""
    t = tiny_times(len(batch))
    whole = _rates(policy, batch, t, schedule)
    for row in range(len(batch)):
        alone = _rates(policy, batch.select(slice(row, row + 1)), t[row], schedule)
        free = batch.free[row]
        for name, one, all_ in zip(Rates._fields, alone, whole, strict=True):
            close(one[0][free], all_[row][free], f"{name} of row {row} alone", 1e-4)


def padding_changes_nothing(
    policy: MaskingPolicy, batch: Batch, schedule: Schedule, source: PackedSource
) -> None:
    """What stands at padded positions changes no rate at a free one."""
    t, fill = tiny_times(len(batch)), source.tokenizer.pad_id
    whole = _rates(policy, batch, t, schedule)
    other = batch.with_tokens(batch.tokens.masked_fill(batch.pad, fill))
    found = _rates(policy, other, t, schedule)
    for name, one, another in zip(Rates._fields, found, whole, strict=True):
        close(one[batch.free], another[batch.free], f"{name} beside padding")


def same_noise_same_mask(
    policy: MaskingPolicy, batch: Batch, schedule: Schedule, noise: Noise
) -> None:
    """The same noise gives the same mask, and other noise another one."""
    t = tiny_times(len(batch))
    first = _corrupt(policy, batch, t, schedule, noise).masked
    again = _corrupt(policy, batch, t, schedule, noise).masked
    same(again, first, "the mask drawn again")
    other = _corrupt(policy, batch, t, schedule, noise.child("other")).masked
    hold((other != first).any(), "other noise gives the same mask")


def global_randomness_is_untouched(
    policy: MaskingPolicy, batch: Batch, schedule: Schedule
) -> None:
    """Rates draw nothing from the global generator of torch."""
    with untouched():
        _rates(policy, batch, 0.5, schedule)


@rule(applies=lambda spec: spec.learned)
def learned_parameters_learn(
    policy: Any, batch: Batch, schedule: Schedule, noise: Noise
) -> None:
    """A learned policy is a module whose parameters all get a gradient.

    It comes through the weights, or through ``auxiliary_loss(corrupted, nll)``.
    """
    hold(isinstance(policy, nn.Module), f"{type(policy).__name__} is no nn.Module")
    found = _corrupt(policy, batch, tiny_times(len(batch)), schedule, noise)
    u = noise.child("nll").uniform(batch.sample_id, batch.length)
    nll = 3 * u[found.masked].float()
    wanted = getattr(policy, "needs_residual", False)
    more = {"residual": nll / 3} if wanted else {}
    loss = (found.weight[found.masked] * nll).sum()
    if hasattr(policy, "auxiliary_loss"):
        loss = loss + policy.auxiliary_loss(found, nll, **more)
    hold(loss.requires_grad, "neither weights nor auxiliary loss have a gradient")
    backward(loss)
    parameters = [(n, p) for n, p in policy.named_parameters() if p.requires_grad]
    hold(parameters, "it has no parameters")
    for name, parameter in parameters:
        gradient = parameter.grad
        reached = gradient is not None and bool((gradient != 0).any())
        hold(reached, f"'{name}' gets no gradient")
