"""Sharpness that changes with t: refused where a chance to be hidden could fall."""

import pytest
import torch

from mdlm_atat.config import AtatConfig, CurriculumConfig
from mdlm_atat.masking import AdaptiveMaskingScheduler
from mdlm_atat.monotone import check_monotone, strongest
from mdlm_atat.shift import solve_shift
from mdlm_core.diffusion import (
    Cosine,
    CosineSquared,
    Geometric,
    LinearSigma,
    LogLinear,
)
from mdlm_core.errors import ConfigError

SCHEDULES = [LogLinear(), Cosine(), CosineSquared(), LinearSigma(), Geometric()]
EDGE = 0.999
"""Of the strongest bias that passes."""


def allowed(shape, power, schedule):
    """Return the largest kappa that the check passes, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        config = AtatConfig(
            strategy="proportional",
            temperature=1 / middle,
            sharpness_power=power,
            shape=shape,
        )
        try:
            check_monotone(config, schedule)
            low = middle
        except ConfigError:
            high = middle
    return low


def adverse():
    """Scores at their limits: one against all, halves, and a spread."""
    scores = torch.full((5, 40), 0.0, dtype=torch.float64)
    scores[0], scores[0, 0] = -2.5, 2.5
    scores[1], scores[1, 0] = 2.5, -2.5
    scores[2, :20], scores[2, 20:] = 2.5, -2.5
    scores[3] = torch.linspace(-2.5, 2.5, 40)
    scores[4, 0] = 2.5
    return scores


def falls(shape, power, schedule, kappa):
    """Return how far a chance falls at most between times on a grid."""
    t = torch.linspace(0, 1, 600, dtype=torch.float64)
    u = schedule.mask_rate(t) / schedule.mask_rate(t[-1])
    worst = 0.0
    for scores in adverse():
        offset = kappa * ((1 - t) ** power)[:, None] * scores
        if shape == "power":
            chance = u[:, None] ** torch.exp(-offset)
        else:
            chance = solve_shift(offset, torch.ones_like(offset).bool(), u)
        worst = max(worst, float(-chance.diff(dim=0).min()))
    return worst


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("shape", ["logit-shift", "power"])
def test_what_passes_never_falls_and_the_check_is_not_far_off(schedule, shape):
    for power in (0.5, 1.0, 3.0):
        limit = allowed(shape, power, schedule)
        assert falls(shape, power, schedule, EDGE * limit) < 1e-9
        # and a bias a few times as strong does fall
        assert falls(shape, power, schedule, 4 * limit) > 1e-9


def test_the_limit_for_the_default_schedule_by_hand():
    # u = t: 1 / (t (1 - t)) >= 5 kappa is tightest at t = 1/2, where 4 >= 5 kappa
    assert allowed("logit-shift", 1.0, LogLinear()) == pytest.approx(0.8, rel=1e-4)
    # 1 / (-t log t) >= 2.5 kappa is tightest at t = 1/e, where e >= 2.5 kappa
    expected = 2.718281828 / 2.5
    assert allowed("power", 1.0, LogLinear()) == pytest.approx(expected, rel=1e-4)


def test_the_message_says_where_and_what_to_set():
    config = AtatConfig(strategy="proportional", temperature=1.0, sharpness_power=1.0)
    with pytest.raises(ConfigError) as raised:
        check_monotone(config, LogLinear())
    message = str(raised.value)
    assert "masking.sharpness_power is 1.0" in message
    assert "t = 0.5" in message
    assert "masking.temperature to 1.25" in message
    assert "LogLinear" in message
    fixed = AtatConfig(strategy="proportional", temperature=1.26, sharpness_power=1.0)
    check_monotone(fixed, LogLinear())


def test_a_scheduler_refuses_at_once_what_no_schedule_allows():
    config = AtatConfig(strategy="inverse", temperature=0.1, sharpness_power=1.0)
    with pytest.raises(ConfigError, match="every schedule of core"):
        AdaptiveMaskingScheduler(config)


def test_a_scheduler_refuses_its_schedule_when_it_meets_it():
    # 1.0 is too much for loglinear (0.8), not for the squared cosine (2 pi / 5)
    config = AtatConfig(strategy="proportional", temperature=1.0, sharpness_power=1.0)
    masking = AdaptiveMaskingScheduler(config)
    importance, free = torch.rand(1, 5), torch.ones(1, 5, dtype=torch.bool)
    t = torch.tensor([0.5], dtype=torch.float64)
    masking.rates(importance, free, t, CosineSquared(), 1.0)
    with pytest.raises(ConfigError, match="LogLinear"):
        masking.rates(importance, free, t, LogLinear(), 1.0)
    with pytest.raises(ConfigError, match="LogLinear"):
        masking.velocity(importance, free, t, LogLinear(), 1.0)


def test_constant_sharpness_and_no_bias_always_pass():
    for settings in (
        {"temperature": 0.01, "strategy": "inverse"},
        {"sharpness_power": 9.0, "strategy": "time_only"},
        {"sharpness_power": 9.0, "curriculum": CurriculumConfig(hard=0.0)},
        {"shape": "rescale"},
    ):
        AdaptiveMaskingScheduler(AtatConfig(**settings))


def test_rescale_takes_no_changing_sharpness():
    with pytest.raises(ConfigError, match="shape is rescale"):
        AdaptiveMaskingScheduler(AtatConfig(shape="rescale", sharpness_power=1.0))


def test_the_strongest_bias_of_a_run():
    curriculum = CurriculumConfig(easy=3.0, hard=1.0)
    for settings, expected in (
        ({"strategy": "time_only"}, 0.0),
        ({"strategy": "inverse"}, 0.5),
        ({"strategy": "proportional"}, 0.5),
        ({"curriculum": curriculum}, 1.5),
        ({"curriculum": CurriculumConfig(preset="none", easy=3.0)}, 0.5),
    ):
        assert strongest(AtatConfig(temperature=2.0, **settings)) == expected
