"""The laws of check 5: masks are those of a masking process, weights fit them.

With R the schedule's mask rate, m_i the chance that token i is hidden, w_i its weight
and w the schedule's, for the phase's own policy and schedule:

    mean_i m_i(t) = R(t),   m_i(0) = 0,   m_i(1) = R(1),   m_i does not fall in t,
    E[1{i is hidden} w_i] = w R,  that is  E[1{i is hidden} / m_i] = 1  for ht weights.

Letters: B batch, L length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from mdlm_core.config import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Times, corrupt, rates_of
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Rates, Schedule

from .report import Finding, failed, passed, skipped, warned
from .subject import Subject, strongest_step

MEAN = 1e-5
"""How far the mean chance may be from the mask rate."""
FALL = 1e-6
"""How far a chance may fall between two times."""
SIGMAS = 5.0
"""How many standard errors an expectation may be away."""
TIMES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
_GRID = 41
_ODDS = 20.0
_DRAWS = 48
WHAT = "a change to the masking policy broke it; its formulas are in its docstrings"


@dataclass(frozen=True, slots=True)
class Masks:
    """A policy, a schedule and a batch: all that the laws are about."""

    policy: Any
    schedule: Schedule
    batch: Batch
    noise: Noise

    def rates(self, t: float | Tensor, batch: Batch | None = None) -> Rates:
        """Return ``(B, L)`` float64 chances and weights, without gradients."""
        batch = self.batch if batch is None else batch
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(batch))
        with torch.no_grad():
            found = rates_of(self.policy, batch, times, self.schedule, self.noise)
        shape = batch.tokens.shape
        return Rates(
            found.mask_prob.double().expand(shape), found.weight.double().expand(shape)
        )

    def held(self, t: Tensor, batch: Batch) -> Tensor:
        """Return chances ``(B, L)`` with the importance of the middle of the time."""
        policy = self.policy
        with torch.no_grad():
            importance = policy.importance(batch, torch.full_like(t, 0.5))
            kappa = policy.curriculum.kappa if policy.biased else 0.0
            found = policy.masking.rates(
                importance, batch.free, t, self.schedule, kappa
            )
        return cast("Tensor", found.mask_prob.double().expand(batch.tokens.shape))


def masks_of(subject: Subject, config: RunConfig, policy: object) -> Masks:
    """Return what the laws are checked on."""
    schedule = subject.schedule(config)
    return Masks(policy, schedule, subject.batch(), Noise(config.seed))


def laws(masks: Masks, config: RunConfig) -> Iterator[Finding]:
    """Check a policy where its bias is strongest."""
    settings, steps = config.masking.config, config.train.steps
    if hasattr(masks.policy, "advance"):
        masks.policy.advance(0, steps)
        masks.policy.advance(strongest_step(masks.policy, steps), steps)
    if getattr(masks.policy, "draws", False):
        yield skipped("masks are drawn in two rounds; only their mean and weight count")
    else:
        yield mean_rate(masks, settings)
        yield ends(masks)
        yield rising(masks)
    yield expected_weight(masks, settings)


# ---- chances ----------------------------------------------------------------


def mean_rate(masks: Masks, settings: object = None) -> Finding:
    """Compare the mean chance of a row's free tokens with the mask rate."""
    if getattr(settings, "shape", "") == "power" and not is_uniform(masks):
        return skipped("with masking.shape=power the mean is not the mask rate")
    free = masks.batch.free
    far = 0.0
    for t in TIMES:
        mean = (masks.rates(t).mask_prob * free).sum(1) / free.sum(1)
        rate = masks.schedule.mask_rate(torch.tensor([t], dtype=torch.float64))
        far = max(far, float((mean - rate).abs().max()))
    text = f"the mean chance is the mask rate to {far:.1e}"
    return passed(text) if far <= MEAN else failed(f"{text}, not to {MEAN}", WHAT)


def is_uniform(masks: Masks) -> bool:
    """Return whether all tokens of a row have one chance."""
    chance = masks.rates(0.5).mask_prob
    return bool((chance == chance[:, :1]).all())


def ends(masks: Masks) -> Finding:
    """Look at the chances at t = 0 and t = 1."""
    last = float(masks.schedule.mask_rate(torch.ones(1, dtype=torch.float64)))
    first = float(masks.schedule.mask_rate(torch.zeros(1, dtype=torch.float64)))
    free = masks.batch.free
    low = (masks.rates(0.0).mask_prob[free] - first).abs().max()
    high = (masks.rates(1.0).mask_prob[free] - last).abs().max()
    text = f"m(0) = {first:g} to {low:.1e} and m(1) = {last:g} to {high:.1e}"
    near = MEAN + _ODDS * first  # of a schedule that does not begin at 0
    return passed(text) if low <= near and high <= MEAN else failed(text, WHAT)


def rising(masks: Masks) -> Finding:
    """Look for a chance that falls as t grows.

    A network that sees the time may change its mind about a token. That makes no
    process, but the masks of each time alone are right; so chances are looked at with
    its answer held, too.
    """
    held = _network(masks.policy)
    if held:
        fall, where = _fall(masks, held=True)
        if fall > FALL:
            return failed(_told(fall, where), "lower masking.sharpness_power")
    fall, where = _fall(masks)
    if fall <= FALL:
        return passed(f"no chance falls between {_GRID} times")
    if held:
        return warned(
            f"{_told(fall, where)}, because the importance network sees the time",
            "weights 1 / chance stay right; masking.objective=nelbo holds the time",
        )
    return failed(_told(fall, where), "lower masking.sharpness_power")


def _told(fall: float, where: float) -> str:
    return f"a chance falls by {fall:.2e} after t = {where:.2f}"


def _fall(masks: Masks, *, held: bool = False) -> tuple[float, float]:
    """Return the largest fall of a chance between two times of a grid, and where."""
    times = torch.linspace(0, 1, _GRID, dtype=torch.float64)
    largest, where = 0.0, 0.0
    for row in range(len(masks.batch)):
        same = masks.batch.select(torch.full((_GRID,), row))
        chance = masks.held(times, same) if held else masks.rates(times, same).mask_prob
        chance = chance[:, same.free[0]]
        falls = (chance[:-1] - chance[1:]).amax(1)
        if float(falls.max()) > largest:
            largest, where = float(falls.max()), float(times[int(falls.argmax())])
    return largest, where


def _network(policy: object) -> bool:
    return getattr(policy, "estimator", None) is not None


# ---- weights ----------------------------------------------------------------


def expected_weight(masks: Masks, settings: object = None) -> Finding:
    """Draw masks, and compare the expected weight of a token with that of uniform ones.

    Where the chances are no draws themselves, m_i w_i = w R is compared as well.
    """
    if getattr(settings, "objective", "ht") == "nelbo":
        return _velocity(masks)
    rho = getattr(settings, "ht_power", 1.0)
    uniform = is_uniform(masks)
    if rho != 1 and not uniform:
        return warned(
            f"masking.ht_power is {rho}: tokens that are hidden more often count more, "
            "so that the model learns a tilted posterior",
            "this is for contrast only; masking.ht_power=1 corrects it",
        )
    focus = getattr(getattr(settings, "curriculum", None), "focus", 1.0)
    if focus != 1:
        return warned(
            f"masking.curriculum.focus is {focus}: tokens in the band of the stage "
            "count more than others",
            "the sum over a row is kept, so that only the proportions differ",
        )
    clip = getattr(settings, "clip", math.inf)
    number, mean, error, clipped = _draw(masks, clip)
    text = f"E[1{{hidden}} w] / (w R) = {mean:.4f} ± {error:.4f} over {number:,} tokens"
    if clipped:
        text += f", {clipped:.2%} of them at the clip"
    if abs(mean - 1) > SIGMAS * error + 1e-9:
        if mean > 1 or not clipped:
            return failed(f"{text}, not 1", WHAT)
        return warned(
            f"{text}: tokens that are seldom hidden count less",
            "raise masking.clip, or masking.temperature for a weaker bias",
        )
    if getattr(masks.policy, "draws", False):
        return passed(text)
    far = _product(masks, clip)
    text += f"; m w = w R to {far:.1e}"
    return passed(text) if far <= MEAN else failed(text, WHAT)


def _product(masks: Masks, clip: float) -> float:
    """Return how far m w / (w R) is from 1 where no weight is at the clip."""
    far = 0.0
    for t in TIMES:
        times = torch.tensor([t], dtype=torch.float64)
        usual, rate = masks.schedule.weight(times), masks.schedule.mask_rate(times)
        chance, weight = masks.rates(t)
        some = masks.batch.free & (weight < clip * usual * (1 - 1e-6))
        ratio = chance[some] * weight[some] / (usual * rate)
        far = max(far, float((ratio - 1).abs().max())) if len(ratio) else far
    return far


def _draw(masks: Masks, clip: float) -> tuple[int, float, float, float]:
    """Return tokens drawn, mean of 1{hidden} w / (w R), its error, share clipped."""
    ratios, at_clip = [], []
    free = masks.batch.free
    for draw in range(_DRAWS):
        t = TIMES[1 + draw % (len(TIMES) - 2)]
        times = torch.full((len(masks.batch),), t, dtype=torch.float64)
        noise = masks.noise.child("validate", "draw", draw)
        found = corrupt(
            masks.batch,
            Times(times, torch.ones_like(times)),
            schedule=masks.schedule,
            policy=masks.policy,
            noise=noise,
            mask_id=int(masks.batch.tokens.max()) + 1,
        )
        usual = masks.schedule.weight(times) * masks.schedule.mask_rate(times)
        ratio = found.masked * found.weight.double() / usual[:, None]
        ratios.append(ratio[free])
        most = clip * masks.schedule.weight(times)[:, None]
        at_clip.append((found.weight.double() >= most * (1 - 1e-6))[free])
    values = torch.cat(ratios)
    share = float(torch.cat(at_clip).double().mean())
    error = float(values.std()) / math.sqrt(len(values))
    return len(values), float(values.mean()), error, share


def _velocity(masks: Masks) -> Finding:
    """Compare weights that are to be m' / m with finite differences of the chances."""
    step, far = 1e-4, 0.0
    free = masks.batch.free
    for t in TIMES[1:-1]:
        before, here, after = (masks.rates(t + d) for d in (-step, 0.0, step))
        slope = (after.mask_prob - before.mask_prob) / (2 * step)
        gap = (slope / here.mask_prob - here.weight) / here.weight
        far = max(far, float(gap[free].abs().max()))
    text = f"the weights are m' / m to {far:.1e}, by finite differences"
    if far <= 1e-3:
        return passed(text)
    return failed(
        f"{text}, so that the loss is no bound",
        "weights of masking.objective=nelbo must be the rates of the very process; "
        "use masking.objective=ht",
    )
