"""Whether chances to be hidden never fall as t grows.

The offset o_i = kappa (1 - t)^a s_i falls for important tokens while the mean rises.
With c(t) = a |kappa| (1 - t)^(a - 1) and scores in [-2.5, 2.5], the derivative of no
chance is negative if, for u = R(t) / R(1),

    logit shift  u' / (u (1 - u))    >= 5 c(t)
    power        u' / (u (-log u))   >= 2.5 c(t)

The first holds because mean[v] <= u (1 - u) for v = sigma (1 - sigma), which is concave
in sigma, so that lambda' >= u' / (u (1 - u)) - 2.5 c; it is sufficient, not necessary,
and may refuse what would do. The second is exact for the worst score.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_core.diffusion import (
    Cosine,
    CosineSquared,
    Geometric,
    LinearSigma,
    LogLinear,
)
from mdlm_core.errors import ConfigError
from mdlm_core.protocols import Schedule

from .config import AtatConfig
from .shift import CLIP


def strongest(config: AtatConfig) -> float:
    """Return the largest absolute kappa of a run."""
    if config.strategy == "time_only":
        return 0.0
    if config.strategy != "balanced":
        return 1 / config.temperature
    curriculum = config.curriculum
    easy = 0.0 if curriculum.preset == "none" else curriculum.easy
    return max(easy, curriculum.hard) / config.temperature


def check_monotone(config: AtatConfig, schedule: Schedule | None = None) -> None:
    """Refuse a sharpness under which a chance to be hidden could fall in t.

    Args:
        config: the settings; the worst kappa of the run and the worst scores count.
        schedule: the one of training. Without it settings are refused that no
            schedule of core allows, and the rest is checked when it is known.

    Raises:
        ConfigError: at which t it fails, by how much, and what to set.
    """
    power, kappa = config.sharpness_power, strongest(config)
    if not power or not kappa:
        return
    if config.shape == "rescale":
        raise ConfigError(
            f"masking.sharpness_power is {power} and masking.shape is rescale, whose "
            "chances can then fall as t grows: set masking.sharpness_power=0 or "
            "masking.shape=logit-shift"
        )
    if schedule is not None:
        rooms = [(schedule, *_least_room(config.shape, schedule, power))]
    else:
        core = (LogLinear(), Cosine(), CosineSquared(), LinearSigma(), Geometric())
        rooms = [(each, *_least_room(config.shape, each, power)) for each in core]
    best, room, t = max(rooms, key=lambda found: found[1])
    which = "every schedule of core, even " if schedule is None else "the schedule "
    if kappa > room:
        raise ConfigError(
            f"masking.sharpness_power is {power} with a bias of up to {kappa:.4g}: "
            f"near t = {t:.4g} the chance to hide an important token could fall as t "
            f"grows, with {which}{type(best).__name__}, and a masking process cannot "
            f"take masks back. The bias may be {room:.4g} at most: raise "
            f"masking.temperature to {config.temperature * kappa / room:.4g}, or "
            "lower masking.sharpness_power; 0 always works"
        )


def _least_room(shape: str, schedule: Schedule, power: float) -> tuple[float, float]:
    """Return the largest kappa that is monotone for sure, and the t that limits it."""
    t = _grid()
    last = schedule.mask_rate(torch.ones_like(t))
    u, rising = schedule.mask_rate(t) / last, -schedule.dalpha(t) / last
    rest = (schedule.alpha(t) - schedule.alpha(torch.ones_like(t))) / last  # 1 - u
    steep = power * (1 - t) ** (power - 1)
    if shape == "power":
        room = rising / (u * -u.log()) / (CLIP * steep)
    else:
        room = rising / (u * rest) / (2 * CLIP * steep)
    at = int(room.argmin())
    return float(room[at]), float(t[at])


def _grid() -> Tensor:
    """Return times in (0, 1), dense near both ends."""
    near = torch.logspace(-8, -2, 600, dtype=torch.float64)
    middle = torch.linspace(0.01, 0.99, 4001, dtype=torch.float64)[1:-1]
    return torch.cat([near, middle, 1 - near.flip(0)])
