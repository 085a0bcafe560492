"""Check 5: the masks are a masking process, the weights fit them, bounds are bounds.

With R the schedule's mask rate, m_i the chance that token i is hidden, w_i its weight
and w the schedule's, for the phase's own policy and schedule:

    mean_i m_i(t) = R(t),   m_i(0) = 0,   m_i(1) = R(1),   m_i does not fall in t,
    E[1{i is hidden} w_i] = w R,  that is  E[1{i is hidden} / m_i] = 1  for ht weights.

Letters: B batch, L length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mdlm_atat.config import AtatConfig, CurriculumConfig
from mdlm_atat.masking import AdaptiveMaskingScheduler
from mdlm_atat.monotone import strongest
from mdlm_core.config import Component, RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Times, corrupt, rates_of
from mdlm_core.errors import ConfigError, MdlmError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Rates, Schedule

from . import exact
from .report import Finding, failed, passed, skipped, warned
from .step import corrupted_of, loss_of
from .subject import Subject, strongest_step

MEAN = 1e-5
"""How far the mean chance may be from the mask rate."""
FALL = 1e-6
"""How far a chance may fall between two times."""
SIGMAS = 5.0
"""How many standard errors an expectation may be away."""
TIMES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
_GRID = 41
_DRAWS = 48
_WHAT = "a change to the masking policy broke it; its formulas are in its docstrings"


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


def maths(subject: Subject) -> Iterator[Finding]:
    """Look at the masks of each variant, and at what holds for all of them."""
    for name, config in subject.configs().items():
        schedule = subject.schedule(config)
        try:
            policy = subject.policy(config)
        except ConfigError as error:
            yield failed(f"{name}: {error}", "masking.sharpness_power=0 always works")
            continue
        masks = Masks(policy, schedule, subject.batch(), Noise(config.seed))
        for found in laws(masks, config):
            yield Finding(found.status, f"{name}: {found.seen}", found.fix)
        if isinstance(config.masking.config, AtatConfig):
            found = uniform_is_core(subject, config)
            yield Finding(found.status, f"{name}: {found.seen}", found.fix)
    yield from toy(subject)
    yield not_monotone_is_refused()


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
        yield rising(masks, settings)
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
    return passed(text) if far <= MEAN else failed(f"{text}, not to {MEAN}", _WHAT)


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
    return passed(text) if max(low, high) <= MEAN else failed(text, _WHAT)


def rising(masks: Masks, settings: object = None) -> Finding:
    """Look for a chance that falls as t grows."""
    times = torch.linspace(0, 1, _GRID, dtype=torch.float64)
    worst, where = 0.0, 0.0
    for row in range(len(masks.batch)):
        same = masks.batch.select(torch.full((_GRID,), row))
        chance = masks.rates(times, same).mask_prob[:, same.free[0]]
        falls = (chance[:-1] - chance[1:]).amax(1)
        if float(falls.max()) > worst:
            worst, where = float(falls.max()), float(times[int(falls.argmax())])
    if worst <= FALL:
        return passed(f"no chance falls between {_GRID} times")
    text = f"a chance falls by {worst:.2e} after t = {where:.2f}"
    if getattr(settings, "objective", "") == "ht" and _network(masks.policy):
        return warned(
            f"{text}, because the importance network sees the time",
            "each time alone is right, and weights 1 / chance stay right; but there is "
            "no process behind it, and so no bound of its own",
        )
    return failed(text, "lower masking.sharpness_power, or raise masking.temperature")


def _network(policy: object) -> bool:
    return getattr(policy, "estimator", None) is not None


# ---- weights ----------------------------------------------------------------


def expected_weight(masks: Masks, settings: object = None) -> Finding:
    """Draw masks, and compare the expected weight of a token with that of uniform ones.

    Where the weights are w R / m, up to the clip, the expectation of a hidden token's
    weight is also known without drawing; both are compared.
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
    low = mean - 1 if not clipped else min(mean - 1, 0) * (clipped < 0.01)
    if abs(low) > SIGMAS * error + 1e-9:
        return failed(f"{text}, not 1", _WHAT)
    return passed(text)


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


# ---- uniform is core's ------------------------------------------------------


def uniform_is_core(subject: Subject, config: RunConfig) -> Finding:
    """Compare a step without a bias with a step of core's uniform masking, bit by bit.

    Twice: with ``strategy=time_only``, the whole loss; and in the warm-up of the
    variant itself, masks and weights.
    """
    settings = config.masking.config
    plain = replace(
        settings,
        strategy="time_only",
        position_bias=0.0,
        curriculum=replace(settings.curriculum, focus=1.0),
    )
    off = replace(config, masking=replace(config.masking, config=plain))
    core = replace(config, masking=Component(name="uniform"))
    batch = subject.batch()
    first, second = (subject.module(each).train() for each in (core, off))
    for module in (first, second):
        module.advance(0, config.train.steps)
    theirs, ours = (
        loss_of(module, batch, each) for module, each in ((first, core), (second, off))
    )
    if not torch.equal(theirs.total, ours.total):
        return failed(
            f"without a bias the loss is {float(ours.total)!r}, and that of core's "
            f"uniform masking {float(theirs.total)!r}",
            _WHAT,
        )
    warmup = settings.curriculum.warmup and not settings.position_bias
    if not warmup or config.train.steps < 10:
        return passed("without a bias the loss is core's, bit for bit")
    variant = subject.module(config).train()
    variant.advance(0, config.train.steps)
    masks, others = (
        corrupted_of(module, batch, each)
        for module, each in ((variant, config), (first, core))
    )
    if not (
        torch.equal(masks.masked, others.masked)
        and torch.equal(masks.weight, others.weight)
    ):
        return failed("in the warm-up masks or weights are not core's", _WHAT)
    return passed("without a bias, and in the warm-up, masks and loss are core's")


# ---- what holds for all -----------------------------------------------------


def toy(subject: Subject) -> Iterator[Finding]:
    """Enumerate a tiny model: the bounds of the phase's masks against its -log p."""
    shapes: dict[tuple[Any, ...], AtatConfig] = {}
    for config in subject.configs().values():
        if isinstance(config.masking.config, AtatConfig):
            settings = config.masking.config
            key = (settings.shape, settings.sharpness_power, strongest(settings))
            shapes.setdefault(key, settings)
    if not shapes:
        yield from _toy(AtatConfig(strategy="time_only"), "uniform masks", 0.0)
        return
    for (shape, sharp, kappa), settings in shapes.items():
        label = f"{shape} masks with a bias of {kappa:.2g}"
        if shape == "rescale":
            yield skipped(f"{label}: their rate has a kink, and no bound of its own")
            continue
        plain = replace(
            settings,
            objective="ht",
            position_bias=0.0,
            importance=replace(settings.importance, context="clean"),
            curriculum=CurriculumConfig(),
        )
        try:
            yield from _toy(plain, label, kappa)
        except ConfigError:
            yield skipped(
                f"{label}: with sharpness_power {sharp} they are not monotone in the "
                "time of the toy"
            )


def _toy(settings: AtatConfig, label: str, kappa: float) -> Iterator[Finding]:
    own, uniform = math.inf, math.inf
    for seed in range(3):
        table = exact.denoiser(seed)
        for truth, bound, plain in exact.bounds(settings, table, kappa=kappa):
            own, uniform = min(own, bound - truth), min(uniform, plain - truth)
    text = (
        f"{label}: of 12 rows of a model that is enumerated, the uniform bound is at "
        f"least {uniform:.4f} nats above -log p, the bound of the masks {own:.4f}"
    )
    if min(own, uniform) < -1e-9:
        yield failed(f"{text}: it is no bound", _WHAT)
    else:
        yield passed(text)


def not_monotone_is_refused() -> Finding:
    """Ask for a sharpness under which chances would fall, and see it refused."""
    settings = AtatConfig(
        strategy="proportional", temperature=0.25, sharpness_power=30.0
    )
    try:
        AdaptiveMaskingScheduler(settings)
    except MdlmError as error:
        return passed(
            f"a schedule that is not monotone is refused: {str(error)[:80]}..."
        )
    return failed(
        "a schedule that is not monotone (masking.sharpness_power=30, temperature "
        "0.25) is taken",
        "AdaptiveMaskingScheduler must refuse it before training starts",
    )
