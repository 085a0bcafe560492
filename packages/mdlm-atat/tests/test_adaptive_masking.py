"""Chances and weights of adaptive masking, through core's corruption where it counts.

Letters: m the chance to be hidden, R the schedule's mask rate.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_atat.config import AtatConfig, CurriculumConfig
from mdlm_atat.masking import AdaptiveMaskingScheduler
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import (
    Cosine,
    CosineSquared,
    Geometric,
    LinearSigma,
    LogLinear,
    Times,
    corrupt,
)
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_core.protocols import Rates

SCHEDULES = [LogLinear(), Cosine(), CosineSquared(), LinearSigma(), Geometric()]
ROOTED = [LogLinear(), Cosine(), CosineSquared()]  # no mask at t = 0
every_schedule = pytest.mark.parametrize(
    "schedule", SCHEDULES, ids=lambda s: type(s).__name__
)
within = settings(deadline=None, max_examples=40, derandomize=True)
kappas = st.one_of(st.sampled_from([-20.0, 0.5, 20.0]), st.floats(-20, 20))


def pairs(*shapes):
    """Each shape with the schedules that it works with."""
    return [
        pytest.param(shape, schedule, id=f"{shape}-{type(schedule).__name__}")
        for shape in shapes
        for schedule in (ROOTED if shape == "power" else SCHEDULES)
    ]


def scheduler(**settings):
    return AdaptiveMaskingScheduler(AtatConfig(**settings))


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(value, expected, rtol=0.0, atol=1e-9):
    torch.testing.assert_close(value, expected, rtol=rtol, atol=atol)


def rows(count, length=8, seed=0, frozen=0.2):
    """Importance and free positions of some rows."""
    generator = torch.Generator().manual_seed(seed)
    importance = torch.rand(count, length, generator=generator)
    return importance, torch.rand(count, length, generator=generator) >= frozen


@st.composite
def problems(draw):
    """Importance, free positions and times, with the extremes among them."""
    count, length = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    size = count * length
    level = st.one_of(st.just(0.5), st.floats(0, 1, width=32))
    time = st.one_of(st.sampled_from([0.0, 1e-6, 1 - 1e-6, 1.0]), st.floats(0, 1))
    importance = draw(st.lists(level, min_size=size, max_size=size))
    free = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    t = draw(st.lists(time, min_size=count, max_size=count))
    shape = (count, length)
    return (
        torch.tensor(importance).view(shape),
        torch.tensor(free).view(shape),
        torch.tensor(t, dtype=torch.float64),
    )


# ---- chances -----------------------------------------------------------------


@within
@given(
    problem=problems(),
    kappa=kappas,
    bias=st.sampled_from([0.0, 1.5]),
    shape=st.sampled_from(["logit-shift", "rescale"]),
    schedule=st.sampled_from(SCHEDULES),
)
def test_the_mean_chance_is_the_mask_rate(problem, kappa, bias, shape, schedule):
    importance, free, t = problem
    masking = scheduler(shape=shape, position_bias=bias)
    found = masking.rates(importance, free, t, schedule, kappa)
    chance = found.mask_prob.float().expand(free.shape)
    some = free.any(1)
    mean = (chance * free).sum(1) / free.sum(1)
    close(mean[some], schedule.mask_rate(t).float()[some], atol=1e-5)
    assert ((chance >= 0) & (chance <= 1)).all()


@pytest.mark.parametrize(
    ("shape", "schedule"), pairs("logit-shift", "power", "rescale")
)
def test_nothing_is_hidden_at_zero_and_everything_at_one(shape, schedule):
    importance, free = rows(2)
    masking = scheduler(shape=shape, position_bias=0.5)
    chance = masking.rates(importance, free, tensor(0, 1), schedule, 3.0).mask_prob
    last = schedule.mask_rate(tensor(1.0))
    close(chance[1], last.expand(8), atol=0)  # R(1) = 1 - eps
    if float(schedule.mask_rate(tensor(0.0))) == 0:
        assert (chance[0] == 0).all()
    else:  # a schedule that starts with sigma_min hides a little
        assert float(chance[0].max()) < 0.05


@within
@given(
    problem=problems(),
    other=st.floats(0, 1),
    kappa=kappas,
    shape=st.sampled_from(["logit-shift", "power", "rescale"]),
)
def test_chances_never_fall_in_t(problem, other, kappa, shape):
    importance, free, t = problem
    masking, schedule = scheduler(shape=shape), LogLinear()
    low, high = torch.minimum(t, tensor(other)), torch.maximum(t, tensor(other))
    first = masking.rates(importance, free, low, schedule, kappa).mask_prob
    second = masking.rates(importance, free, high, schedule, kappa).mask_prob
    assert ((first <= second + 1e-11) | ~free).all()


def test_the_sign_of_kappa_says_which_tokens_are_hidden_first():
    importance = torch.tensor([[0.1, 0.4, 0.9]])
    free, t = torch.ones(1, 3, dtype=torch.bool), tensor(0.5)
    for shape in ("logit-shift", "power", "rescale"):
        masking = scheduler(shape=shape)
        chance = masking.rates(importance, free, t, LogLinear(), 1.0).mask_prob[0]
        assert chance[0] < chance[1] < chance[2]
        chance = masking.rates(importance, free, t, LogLinear(), -1.0).mask_prob[0]
        assert chance[0] > chance[1] > chance[2]


def test_the_odds_of_two_tokens_differ_by_kappa_times_their_scores():
    importance = torch.tensor([[0.0, 1.0]])  # scores -1 and 1
    free = torch.ones(1, 2, dtype=torch.bool)
    for t in (0.1, 0.6):
        rates = scheduler(sharpness_power=1.0, temperature=3.0).rates(
            importance, free, tensor(t), LogLinear(0.0), 0.3
        )
        low, high = torch.logit(rates.mask_prob[0])
        close(high - low, tensor(2 * 0.3 * (1 - t))[0])


def test_position_bias_hides_the_last_tokens_first():
    free = torch.tensor([[True, False, True, True]])
    rates = scheduler(position_bias=0.7, strategy="time_only").rates(
        None, free, tensor(0.4), LogLinear(0.0), 0.0
    )
    odds = torch.logit(rates.mask_prob[0][free[0]])
    close(odds.diff(), tensor(0.7, 0.7))


def test_rows_and_frozen_positions_do_not_matter_to_a_row():
    importance, free = rows(5)
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    masking = scheduler(position_bias=0.3)
    whole = masking.rates(importance, free, t, LogLinear(), 0.8)
    other = torch.where(free, importance, torch.nan)
    again = masking.rates(other, free, t, LogLinear(), 0.8)
    for one, two in zip(whole, again, strict=True):
        assert torch.equal(one[free], two[free])
    for row in range(5):
        one = slice(row, row + 1)
        alone = masking.rates(importance[one], free[one], t[one], LogLinear(), 0.8)
        for some, every in zip(alone, whole, strict=True):
            close(some[0], every[row], atol=1e-12)


# ---- uniform masking ---------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("objective", ["ht", "nelbo"])
@every_schedule
def test_without_bias_it_is_uniform_masking_to_the_bit(schedule, objective, dtype):
    importance, free = rows(4)
    t = torch.linspace(0.1, 1, 4, dtype=dtype)
    expected = UniformMasking().rates(Batch.of(torch.zeros(4, 8).long()), t, schedule)
    masking = scheduler(objective=objective)
    for value, kappa in ((importance, 0.0), (importance, -0.0), (None, 1.0)):
        found = masking.rates(value, free, t, schedule, kappa)
        for one, two in zip(found, expected, strict=True):
            assert one.dtype == two.dtype
            assert torch.equal(one, two)


def test_equal_importance_is_uniform_masking():
    free, t = torch.ones(2, 5, dtype=torch.bool), tensor(0.2, 0.8)
    for shape in ("logit-shift", "power", "rescale"):
        found = scheduler(shape=shape).rates(
            torch.full((2, 5), 0.3), free, t, LogLinear(), 2.0
        )
        close(found.mask_prob, LogLinear().mask_rate(t)[:, None].expand(2, 5))
        close(found.weight, (1 / t)[:, None].expand(2, 5))


# ---- weights -----------------------------------------------------------------


class _Fixed:
    """A policy with given rates, for core's corruption."""

    def __init__(self, rates):
        self.found = rates

    def rates(self, batch, t, schedule):
        return self.found


def test_the_expected_weight_of_a_token_is_that_of_uniform_masks():
    count, length, schedule = 40_000, 6, Cosine()
    importance, free = rows(1, length, seed=2)
    free[0, :2] = torch.tensor([True, False])
    t = tensor(0.4).expand(count)
    rates = scheduler().rates(importance, free, t[:1], schedule, 0.7)
    batch = Batch.of(
        torch.zeros(count, length).long(), frozen=(~free).expand(count, length)
    )
    noised = corrupt(
        batch,
        Times(t, torch.ones_like(t)),
        schedule=schedule,
        policy=_Fixed(rates),
        noise=Noise(3),
        mask_id=1,
    )
    m = rates.mask_prob[0]
    seen = (noised.masked / m).mean(0)
    error = ((1 - m) / m / count).sqrt()
    assert ((seen - 1).abs() < 4 * error)[free[0]].all()
    assert (seen[~free[0]] == 0).all()
    uniform = schedule.weight(t[:1]) * schedule.mask_rate(t[:1])
    total = (noised.masked * noised.weight).mean(0)
    assert ((total - uniform).abs() < 4 * error * uniform)[free[0]].all()


@within
@given(problem=problems(), kappa=kappas, rho=st.sampled_from([0.0, 0.3, 1.0]))
def test_weights_are_a_power_of_the_chance_with_a_limit(problem, kappa, rho):
    importance, free, t = problem
    t = t.clamp(min=1e-6)
    schedule = LogLinear()
    rates = scheduler(ht_power=rho, clip=4.0).rates(
        importance, free, t, schedule, kappa
    )
    m, base = rates.mask_prob, schedule.weight(t)[:, None]
    assert torch.isfinite(rates.weight).all()
    assert (rates.weight <= 4 * base * (1 + 1e-12)).all()
    ratio = (schedule.mask_rate(t)[:, None] / m) ** rho
    expected = base * ratio.clamp(max=4.0)
    close(rates.weight, expected.expand_as(rates.weight), rtol=1e-9)


def test_no_power_is_the_naive_weight():
    importance, free = rows(3)
    t = tensor(0.2, 0.5, 0.8)
    weight = scheduler(ht_power=0.0).rates(importance, free, t, Cosine(), 1.0).weight
    close(weight, Cosine().weight(t)[:, None].expand(3, 8))


@pytest.mark.parametrize(("shape", "schedule"), pairs("logit-shift", "power"))
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_weights_of_the_bound_are_the_velocity(shape, schedule, power):
    importance, free = rows(7, seed=4)
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    masking = scheduler(
        objective="nelbo", shape=shape, sharpness_power=power, position_bias=0.2
    )

    def log_chance(t):
        return masking.rates(importance, free, t, schedule, 0.5).mask_prob.log()

    step = 1e-4
    numeric = (
        8 * (log_chance(t + step) - log_chance(t - step))
        - (log_chance(t + 2 * step) - log_chance(t - 2 * step))
    ) / (12 * step)
    weight = masking.rates(importance, free, t, schedule, 0.5).weight
    close(weight[free], numeric[free], rtol=1e-6, atol=1e-6)
    assert torch.equal(weight, masking.velocity(importance, free, t, schedule, 0.5))


@pytest.mark.parametrize("power", [0.0, 0.5, 2.0])
@every_schedule
def test_the_velocity_at_the_end_is_a_limit(schedule, power):
    importance, free = rows(1, seed=4)
    masking = scheduler(objective="nelbo", sharpness_power=power, temperature=4.0)
    last = masking.velocity(importance, free, tensor(1.0), schedule, 0.25)
    near = masking.velocity(importance, free, tensor(1 - 1e-10), schedule, 0.25)
    assert torch.isfinite(last[free]).all()
    close(last[free], near[free], rtol=1e-3, atol=1e-6)


def test_the_velocity_without_bias_is_the_weight_of_the_schedule():
    importance, free = rows(2)
    t = tensor(0.3, 0.6)
    found = scheduler().velocity(importance, free, t, Cosine(), 0.0)
    close(found, Cosine().weight(t)[:, None].expand(2, 8), atol=0)


# ---- focus -------------------------------------------------------------------


@within
@given(problem=problems(), kappa=st.sampled_from([0.0, 1.0, -3.0]))
def test_focus_keeps_the_expected_sum_of_a_rows_weights(problem, kappa):
    importance, free, t = problem
    t = t.clamp(min=1e-6)
    masking, schedule = scheduler(), LogLinear()
    plain = masking.rates(importance, free, t, schedule, kappa)
    focus = 1 + 2 * (importance > 0.5)
    found = masking.rates(importance, free, t, schedule, kappa, focus)
    close(found.mask_prob, plain.mask_prob.expand_as(found.mask_prob), atol=0)

    def total(rates):
        return (rates.mask_prob * rates.weight * free).sum(1)

    close(total(found), total(plain), rtol=1e-9)
    both = free & free.any(1, keepdim=True)
    for row in range(len(free)):
        ratio = (found.weight / plain.weight)[row][both[row]]
        wanted = focus[row][both[row]]
        if len(ratio):  # in proportion to the focus
            close(ratio * wanted[0], ratio[0] * wanted.double(), rtol=1e-9)


# ---- settings that contradict each other -------------------------------------


def test_focus_is_refused_with_the_bound():
    focused = CurriculumConfig(focus=2.0)
    with pytest.raises(ConfigError, match=r"curriculum\.focus is 2\.0.*focus=1"):
        scheduler(objective="nelbo", curriculum=focused)


@pytest.mark.parametrize("schedule", [LinearSigma(), Geometric()])
def test_power_is_refused_where_the_schedule_does_not_start_at_zero(schedule):
    importance, free = rows(1)
    with pytest.raises(ConfigError, match=r"hides 0\.001 .* at t = 0"):
        scheduler(shape="power").rates(importance, free, tensor(0.5), schedule, 1.0)


def test_rescale_has_no_velocity():
    importance, free = rows(1)
    masking = AdaptiveMaskingScheduler(replace(AtatConfig(), shape="rescale"))
    with pytest.raises(ConfigError, match="kink"):
        masking.velocity(importance, free, tensor(0.5), LogLinear(), 1.0)


def test_gradients_do_not_reach_importance():
    importance, free = rows(1)
    importance.requires_grad_()
    rates = scheduler().rates(importance, free, tensor(0.5), LogLinear(), 1.0)
    assert isinstance(rates, Rates)
    assert not rates.mask_prob.requires_grad
    assert not rates.weight.requires_grad
