"""Check 5: masks and weights of each variant, and what holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from mdlm_atat.config import AtatConfig, CurriculumConfig
from mdlm_atat.masking import AdaptiveMaskingScheduler
from mdlm_atat.monotone import strongest
from mdlm_core.config import Component, RunConfig
from mdlm_core.errors import ConfigError, MdlmError

from . import exact
from .laws import WHAT, laws, masks_of
from .report import Finding, failed, passed, skipped
from .step import corrupted_of, loss_of
from .subject import Subject


def maths(subject: Subject) -> Iterator[Finding]:
    """Look at the masks of each variant, and at what holds for all of them."""
    for name, config in subject.configs().items():
        try:
            policy = subject.policy(config)
        except ConfigError as error:
            yield failed(f"{name}: {error}", "masking.sharpness_power=0 always works")
            continue
        for found in laws(masks_of(subject, config, policy), config):
            yield Finding(found.status, f"{name}: {found.seen}", found.fix)
        if isinstance(config.masking.config, AtatConfig):
            found = uniform_is_core(subject, config)
            yield Finding(found.status, f"{name}: {found.seen}", found.fix)
    yield from toy(subject)
    yield not_monotone_is_refused()


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
    first, second = _modules(subject, core, off)
    for module in (first, second):
        module.advance(0, config.train.steps)
    theirs, ours = (
        loss_of(module, batch, each) for module, each in ((first, core), (second, off))
    )
    if not torch.equal(theirs.total, ours.total):
        mine, other = float(ours.total.detach()), float(theirs.total.detach())
        return failed(
            f"without a bias the loss is {mine!r}, and that of core's uniform masking "
            f"{other!r}",
            WHAT,
        )
    warmup = settings.curriculum.warmup and not settings.position_bias
    if not warmup or config.train.steps < 10:
        return passed("without a bias the loss is core's, bit for bit")
    [variant] = _modules(subject, config)
    variant.advance(0, config.train.steps)
    masks, others = (
        corrupted_of(module, batch, each)
        for module, each in ((variant, config), (first, core))
    )
    if not (
        torch.equal(masks.masked, others.masked)
        and torch.equal(masks.weight, others.weight)
    ):
        return failed("in the warm-up masks or weights are not core's", WHAT)
    return passed("without a bias, and in the warm-up, masks and loss are core's")


def _modules(subject: Subject, *configs: RunConfig) -> list[Any]:
    return [subject.module(config).train() for config in configs]


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
        yield failed(f"{text}: it is no bound", WHAT)
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
        reason = str(error).partition(": ")[0]
        return passed(f"a schedule that is not monotone is refused ({reason})")
    return failed(
        "a schedule that is not monotone (masking.sharpness_power=30, temperature "
        "0.25) is taken",
        "AdaptiveMaskingScheduler must refuse it before training starts",
    )
