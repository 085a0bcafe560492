"""Times: their law, their weights, and what they depend on."""

import math

import pytest
import torch

from mdlm_core.diffusion import (
    Cosine,
    CosineSquared,
    Geometric,
    LinearSigma,
    LogLinear,
    draw_times,
)
from mdlm_core.diffusion.times import KINDS, draw_strata
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise

SCHEDULES = [LogLinear(), Cosine(), CosineSquared(), LinearSigma(), Geometric()]


def draw(kind, n=4096, seed=0, t_min=1e-3, schedule=SCHEDULES[0], rows=None):
    rows = torch.arange(n) if rows is None else rows
    return draw_times(
        kind, noise=Noise(seed), rows=rows, of=n, t_min=t_min, schedule=schedule
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t_min", [1e-3, 0.3])
def test_times_stay_in_range(kind, t_min):
    t = draw(kind, t_min=t_min).t
    assert t.dtype == torch.float64
    assert t.min() >= t_min
    assert t.max() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_time_depends_on_the_row_alone(kind):
    whole = draw(kind, n=64)
    rows = torch.tensor([5, 63, 0, 17])
    part = draw(kind, n=64, rows=rows)
    assert torch.equal(part.t, whole.t[rows])
    assert torch.equal(part.weight, whole.weight[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_another_step_has_other_times(kind):
    first, second = draw(kind, n=64, seed=1).t, draw(kind, n=64, seed=2).t
    assert (first - second).abs().max() > 0.1


def test_stratified_puts_one_time_in_each_stratum():
    n, t_min = 1000, 1e-3
    u = (draw("stratified", n=n, t_min=t_min).t - t_min) / (1 - t_min)
    assert torch.equal((u * n).floor().long().sort().values, torch.arange(n))


def test_a_stratum_falls_to_any_row():
    # each row's number is uniform, not tied to the row's place in the batch
    noise, rows, n, runs = Noise(3), torch.arange(8), 8, 1500
    u = torch.stack(
        [draw_strata(noise=noise.child(i), rows=rows, of=n) for i in range(runs)]
    )
    for row in range(n):
        counts = torch.histc(u[:, row], bins=8, min=0, max=1)
        chi2 = ((counts - runs / 8) ** 2 / (runs / 8)).sum()
        assert chi2 < 29.9  # 1 - 1e-4 quantile at 7 degrees of freedom


def test_uniform_is_independent_of_the_batch_size():
    rows = torch.arange(4)
    small = draw("uniform", n=4, rows=rows).t
    assert torch.equal(small, draw("uniform", n=400, rows=rows).t)
    t = draw("uniform", n=20_000).t
    u = ((t - 1e-3) / (1 - 1e-3)).sort().values
    distance = (u - torch.arange(20_000) / 20_000).abs().max()
    assert 0.2 < distance * math.sqrt(20_000) < 2.2  # Kolmogorov: neither off nor even


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_importance_makes_the_mask_rate_uniform_on_a_log_scale(schedule):
    n = 512
    rate = schedule.mask_rate(draw("importance", n=n, schedule=schedule).t)
    ends = schedule.mask_rate(torch.tensor([1e-3, 1.0], dtype=torch.float64)).log()
    share = (rate.log() - ends[0]) / (ends[1] - ends[0])
    assert torch.equal((share * n).floor().long().sort().values, torch.arange(n))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_importance_weight_times_schedule_weight_is_one_constant(schedule):
    t_min = 1e-2
    times = draw("importance", schedule=schedule, t_min=t_min)
    product = times.weight * schedule.weight(times.t)
    ends = schedule.mask_rate(torch.tensor([t_min, 1.0], dtype=torch.float64))
    constant = math.log(float(ends[1] / ends[0])) / (1 - t_min)
    torch.testing.assert_close(
        product, torch.full_like(product, constant), rtol=1e-9, atol=0
    )


def test_importance_constant_is_the_references():
    # the reference: f0 = log(1 - exp(-1e-3)) = -6.908, up to its end at mask rate 1
    t_min = -math.expm1(-1e-3)
    times = draw("importance", schedule=LogLinear(0.0), t_min=t_min)
    constant = (1 - t_min) * times.weight / times.t
    assert constant.max() - constant.min() < 1e-9
    assert float(constant[0]) == pytest.approx(-math.log1p(-math.exp(-1e-3)), abs=1e-9)
    assert float(constant[0]) == pytest.approx(6.908, abs=5e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("kind", ["stratified", "importance"])
def test_corrected_kinds_have_the_mean_of_a_uniform_time(schedule, kind):
    def loss(t):
        return schedule.weight(t) * schedule.mask_rate(t) * (2 + 3 * t)

    t_min, n = 0.01, 200_000
    grid = t_min + (1 - t_min) * (torch.arange(n).double() + 0.5) / n
    times = draw(kind, n=20_000, t_min=t_min, schedule=schedule)
    estimate = (times.weight * loss(times.t)).mean()
    torch.testing.assert_close(estimate, loss(grid).mean(), rtol=2e-4, atol=0)


@pytest.mark.parametrize("t_min", [1e-3, 0.2])
def test_bell_has_its_density_and_no_correction(t_min):
    # 0.1 + 0.9 (4 t (1 - t))^1.2; the integral of (t (1 - t))^1.2 is B(2.2, 2.2)
    n = 4096
    times = draw("bell", n=n, t_min=t_min)
    assert torch.equal(times.weight, torch.ones(n, dtype=torch.float64))
    beta = math.exp(2 * math.lgamma(2.2) - math.lgamma(4.4))
    mass = 0.1 + 0.9 * 4**1.2 * beta
    grid = torch.linspace(0, 1, 1_000_001, dtype=torch.float64)
    density = (0.1 + 0.9 * (4 * grid * (1 - grid)) ** 1.2) / mass
    below = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(density, grid)])
    assert float(below[-1]) == pytest.approx(1, abs=1e-9)

    def law(t):
        cell = (t * 1_000_000).long()
        return below[cell] + (below[cell + 1] - below[cell]) * (t * 1_000_000 - cell)

    start = law(torch.tensor([t_min], dtype=torch.float64))
    u = ((law(times.t.sort().values) - start) / (1 - start)) * n
    stratum = torch.arange(n)
    assert (u > stratum - 1e-3).all()  # each inside its own n-th of the mass
    assert (u < stratum + 1 + 1e-3).all()


def test_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match=r"t_sampling is 'sobol'.*stratified.*counts"):
        draw("sobol")
