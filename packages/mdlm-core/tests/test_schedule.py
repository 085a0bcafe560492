"""Schedules: every formula against autograd, its twin, or a published constant."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_core.config.components import EpsConfig, SigmaConfig
from mdlm_core.diffusion import (
    Cosine,
    CosineSquared,
    Geometric,
    LinearSigma,
    LogLinear,
    schedule,
)
from mdlm_core.errors import ConfigError

SCHEDULES = [
    LogLinear(),
    LogLinear(0.0),
    Cosine(),
    Cosine(0.0),
    CosineSquared(),
    CosineSquared(0.0),
    LinearSigma(),
    LinearSigma(1e-4, 12.0),
    Geometric(),
    Geometric(1e-5, 20.0),
]
EPS_FREE = [LogLinear, Cosine, CosineSquared]
every_schedule = pytest.mark.parametrize("noise", SCHEDULES, ids=str)
times = st.one_of(
    st.floats(1e-6, 1 - 1e-6),
    st.floats(1e-9, 1e-3),
    st.floats(1e-9, 1e-3).map(lambda gap: 1 - gap),
)
within = settings(deadline=None, max_examples=40, derandomize=True)


def at(t: float) -> torch.Tensor:
    return torch.tensor([t], dtype=torch.float64)


def derivative(function, t: float) -> torch.Tensor:
    point = at(t).requires_grad_()
    return torch.autograd.grad(function(point).sum(), point)[0]


def close(value, expected, rtol=1e-10, atol=0.0):
    torch.testing.assert_close(value, expected, rtol=rtol, atol=atol)


@every_schedule
@within
@given(t=times)
def test_derivative_and_weight_against_autograd(noise, t):
    # each of alpha and the mask rate is well conditioned at its own end
    falling, rising = derivative(noise.alpha, t), derivative(noise.mask_rate, t)
    close(falling, -rising, rtol=1e-9, atol=1e-13)
    slope = -rising if t < 0.5 else falling
    close(noise.dalpha(at(t)), slope, rtol=1e-9)
    close(noise.weight(at(t)), -slope / noise.mask_rate(at(t)), rtol=1e-9)


@every_schedule
@within
@given(t=times)
def test_weight_is_sigma_slope_over_expm1_sigma(noise, t):
    slope = derivative(noise.sigma, t)
    close(noise.weight(at(t)), slope / torch.expm1(noise.sigma(at(t))), rtol=1e-6)


@every_schedule
@within
@given(t=times)
def test_alpha_rate_and_sigma_say_the_same(noise, t):
    close(noise.alpha(at(t)) + noise.mask_rate(at(t)), at(1.0), rtol=1e-14)
    close(torch.exp(-noise.sigma(at(t))), noise.alpha(at(t)), rtol=1e-13)
    close(-torch.expm1(-noise.sigma(at(t))), noise.mask_rate(at(t)), rtol=1e-13)


@every_schedule
@within
@given(t=times)
def test_time_of_is_the_inverse(noise, t):
    # one ulp in the mask rate moves t by ulp * rate / rate'; allow ten of them
    rate = noise.mask_rate(at(t))
    slack = 10 * 2.3e-16 * float(rate / noise.dalpha(at(t)).abs())
    close(noise.time_of(rate), at(t), rtol=1e-13, atol=slack)


@every_schedule
def test_ends_and_direction(noise):
    grid = torch.linspace(0, 1, 4001, dtype=torch.float64)
    alpha = noise.alpha(grid)
    assert (alpha.diff() < 0).all()
    assert alpha[0] >= 0.998
    assert alpha[-1] <= 2e-3
    assert (noise.dalpha(grid) <= 0).all()
    assert torch.isfinite(noise.weight(grid[1:])).all()
    assert (noise.weight(grid[1:]) >= 0).all()
    if hasattr(noise, "eps"):
        assert alpha[0] == 1
        assert noise.mask_rate(grid[0]) == 0
        close(alpha[-1], torch.tensor(noise.eps, dtype=torch.float64), rtol=1e-15)
    else:
        close(noise.sigma(grid[0]), at(noise.sigma_min)[0], rtol=1e-15)
        close(noise.sigma(grid[-1]), at(noise.sigma_max)[0], rtol=1e-13)


@every_schedule
def test_time_of_beyond_the_range_is_the_end(noise):
    ends = noise.time_of(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == [0.0, 1.0]


@every_schedule
def test_mean_of_weight_times_rate_is_the_fall_of_alpha(noise):
    # the expected weight of a token is alpha(0) - alpha(1): midpoint rule over t
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    mean = (noise.weight(t) * noise.mask_rate(t)).mean()
    ends = noise.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    close(mean, ends[0] - ends[1], rtol=1e-8)


@pytest.mark.parametrize("eps", [0.0, 1e-3, 0.3])
def test_loglinear_weight_is_exactly_one_over_t(eps):
    t = torch.rand(1000, generator=torch.Generator().manual_seed(1)).double()
    assert torch.equal(LogLinear(eps).weight(t), 1 / t)


def test_loglinear_is_the_reference():
    # sigma(t) = -log1p(-(1 - eps) t), core formulas of the published code
    t = torch.linspace(1e-3, 1, 500, dtype=torch.float64)
    sigma = -torch.log1p(-(1 - 1e-3) * t)
    close(LogLinear().sigma(t), sigma, rtol=1e-12)
    close(LogLinear().alpha(at(1.0)), at(1e-3), rtol=1e-15)
    assert torch.equal(LogLinear(0.0).alpha(t), 1 - t)


def test_published_forms_of_the_others():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    eps = 1e-3
    close(Cosine().alpha(t), eps + (1 - eps) * torch.cos(t * math.pi / 2), atol=1e-15)
    squared = eps + (1 - eps) * torch.cos(t * math.pi / 2) ** 2
    close(CosineSquared().alpha(t), squared, atol=1e-15)
    close(LinearSigma().sigma(t), 1e-3 + t * (7 - 1e-3))
    close(Geometric().sigma(t), 1e-3 ** (1 - t) * 7.0**t)
    slope = math.pi / 2 * (1 - eps) * torch.sin(math.pi * t) / squared
    close(-CosineSquared().dalpha(t) / squared, slope, atol=1e-12)


@pytest.mark.parametrize("family", EPS_FREE)
def test_weight_does_not_depend_on_eps(family):
    t = torch.linspace(0.01, 1, 99, dtype=torch.float64)
    assert torch.equal(family(0.0).weight(t), family(0.2).weight(t))


def test_ends_keep_their_relative_accuracy():
    tiny = 1e-12
    for noise, order in ((Cosine(0.0), 1), (CosineSquared(0.0), 2)):
        # near 1: alpha ~ (pi / 2 (1 - t))^order; 1 - t is exact for t = 1 - 2^-40
        gap = 2.0**-40
        close(noise.alpha(at(1 - gap)), at((math.pi / 2 * gap) ** order), rtol=1e-12)
    close(Cosine(0.0).mask_rate(at(tiny)), at((math.pi * tiny) ** 2 / 8), rtol=1e-12)
    close(LinearSigma(1e-9, 7.0).mask_rate(at(0.0)), at(1e-9 - 5e-19), rtol=1e-12)


def test_float32_stays_float32():
    t = torch.linspace(0.01, 0.99, 9)
    for noise in SCHEDULES:
        for method in ("alpha", "mask_rate", "dalpha", "weight", "sigma", "time_of"):
            assert getattr(noise, method)(t).dtype == torch.float32


@pytest.mark.parametrize(
    ("factory", "config", "expected"),
    [
        ("loglinear", EpsConfig(eps=0.01), LogLinear(0.01)),
        ("cosine", EpsConfig(eps=0.01), Cosine(0.01)),
        ("cosine_squared", EpsConfig(eps=0.01), CosineSquared(0.01)),
        ("linear_sigma", SigmaConfig(sigma_max=5.0), LinearSigma(1e-3, 5.0)),
        ("geometric", SigmaConfig(sigma_max=5.0), Geometric(1e-3, 5.0)),
    ],
)
def test_factories(factory, config, expected):
    assert getattr(schedule, factory)(config) == expected


@pytest.mark.parametrize("family", EPS_FREE)
def test_bad_eps_is_refused(family):
    with pytest.raises(ConfigError, match=r"eps is 1\.5.*\[0, 1\)"):
        family(1.5)


@pytest.mark.parametrize("family", [LinearSigma, Geometric])
def test_bad_sigmas_are_refused(family):
    with pytest.raises(ConfigError, match="sigma_min"):
        family(2.0, 1.0)
