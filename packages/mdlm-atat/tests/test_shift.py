"""The shapes: means, ends, velocities, each against an independent computation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_atat.shift import (
    places,
    power,
    power_velocity,
    rescale,
    shift,
    solve_shift,
    standardise,
    velocity,
)
from mdlm_core.diffusion import (
    Cosine,
    CosineSquared,
    Geometric,
    LinearSigma,
    LogLinear,
)

SCHEDULES = [LogLinear(), Cosine(), CosineSquared(), LinearSigma(), Geometric()]
within = settings(deadline=None, max_examples=40, derandomize=True)
shares = st.one_of(
    st.sampled_from([0.0, 1e-300, 1e-6, 0.5, 1 - 1e-6, 1.0]), st.floats(0, 1)
)


@st.composite
def problems(draw, rows=3, bound=50.0):
    """Offsets of any size, frozen positions anywhere, a share for each row."""
    length = draw(st.integers(1, 9))
    numbers = st.floats(-bound, bound, width=32)
    size = rows * length
    scores = draw(st.lists(numbers, min_size=size, max_size=size))
    free = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    share = draw(st.lists(shares, min_size=rows, max_size=rows))
    return (
        torch.tensor(scores, dtype=torch.float64).view(rows, length),
        torch.tensor(free).view(rows, length),
        torch.tensor(share, dtype=torch.float64),
    )


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(value, expected, rtol=0.0, atol=1e-9):
    torch.testing.assert_close(value, expected, rtol=rtol, atol=atol)


def mean(values, free):
    return (values * free).sum(1) / free.sum(1)


def by_hand(offsets, share):
    """Bisect for lambda with Python's floats, one row at a time."""

    def chances(level):
        return [0.5 * (1 + math.tanh((level + o) / 2)) for o in offsets]

    low, high = -200.0, 200.0
    for _ in range(200):
        middle = (low + high) / 2
        below = sum(chances(middle)) < share * len(offsets)
        low, high = (middle, high) if below else (low, middle)
    return chances(low)


# ---- scores ------------------------------------------------------------------


def test_scores_are_standard_deviations_from_the_mean_of_the_free_tokens():
    importance = torch.tensor([[0.1, 0.3, 9.0, 0.5, 0.7]])
    free = torch.tensor([[True, True, False, True, True]])
    # mean 0.4, variance (0.09 + 0.01 + 0.01 + 0.09) / 4 = 0.05
    expected = tensor([-0.3, -0.1, 0.0, 0.1, 0.3]) / math.sqrt(0.05)
    close(standardise(importance, free), expected, atol=1e-6)


def test_scores_are_clipped():
    importance = torch.zeros(1, 101)
    importance[0, 0] = 1.0  # ten standard deviations away
    free = torch.ones(1, 101, dtype=torch.bool)
    assert standardise(importance, free)[0, 0] == 2.5
    assert standardise(importance, free, clip=1.0)[0, 0] == 1.0
    assert standardise(-importance, free)[0, 0] == -2.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_importance_that_does_not_vary_gives_zero(dtype):
    importance = torch.full((3, 7), 0.1, dtype=dtype)
    importance[1] += 1e-9 * torch.arange(7, dtype=dtype)
    free = torch.ones(3, 7, dtype=torch.bool)
    free[2, 1:] = False  # one free token
    importance[2, 0] = 0.9
    assert (standardise(importance, free) == 0).all()
    assert (standardise(importance, torch.zeros_like(free)) == 0).all()


def test_places_run_from_first_to_last_free_position():
    free = torch.tensor(
        [[False, True, True, False, True, False], [False] * 5 + [True], [False] * 6]
    )
    expected = tensor([0, -1, 0, 0, 1, 0], [0] * 6, [0] * 6)
    close(places(free), expected, atol=0)


# ---- the logit shift ---------------------------------------------------------


@within
@given(problem=problems())
def test_the_mean_is_the_share_and_the_ends_are_exact(problem):
    scores, free, share = problem
    found = solve_shift(scores, free, share)
    assert ((found >= 0) & (found <= 1)).all()  # and so no NaN
    some = free.any(1)
    close(mean(found, free)[some], share[some])
    assert (found[share == 0] == 0).all()
    assert (found[share == 1] == 1).all()
    close(found[~free], share[:, None].expand_as(found)[~free])


@within
@given(problem=problems(bound=6.0))
def test_it_is_the_solution_found_by_bisection(problem):
    scores, free, share = problem
    found = solve_shift(scores, free, share)
    for row in range(len(scores)):
        if free[row].any() and 0 < share[row] < 1:
            offsets = scores[row][free[row]].tolist()
            expected = tensor(*by_hand(offsets, float(share[row])))
            close(found[row][free[row]], expected)


def test_small_shares_keep_their_relative_precision():
    scores = torch.linspace(-2, 2, 50, dtype=torch.float64)[None].expand(2, 50)
    free = torch.ones_like(scores, dtype=torch.bool)
    hidden, visible = shift(scores, free, tensor(1e-12, 1 - 1e-12))
    # where a sigmoid is an exponential, the shift is a softmax
    expected = 1e-12 * 50 * torch.softmax(scores[0], 0)
    close(hidden[0], expected, rtol=1e-9, atol=0)
    close(visible[1], expected.flip(0), rtol=1e-3, atol=0)  # 1e-12 has 4 digits there


def test_half_of_two_tokens_is_a_sigmoid():
    found = solve_shift(
        tensor([1.3, -1.3]), torch.ones(1, 2, dtype=torch.bool), tensor(0.5)
    )
    close(found, torch.sigmoid(tensor([1.3, -1.3])))


def test_it_has_the_largest_entropy_for_its_mean_and_mean_offset():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    free = torch.ones(1, 6, dtype=torch.bool)
    best = solve_shift(scores, free, tensor(0.3))[0]

    def entropy(p):
        return torch.special.entr(p).sum() + torch.special.entr(1 - p).sum()

    # a change that keeps both sums: orthogonal to the ones and to the offsets
    plane, _ = torch.linalg.qr(torch.stack([torch.ones(6).double(), scores[0]], 1))
    for _ in range(20):
        change = torch.randn(6, generator=generator, dtype=torch.float64)
        change = change - plane @ (plane.T @ change)
        change = 0.02 * change / change.norm()
        assert entropy(best + change) < entropy(best)


@within
@given(problem=problems(rows=1), seed=st.integers(0, 99))
def test_tokens_can_be_permuted(problem, seed):
    scores, free, share = problem
    order = torch.randperm(
        scores.shape[1], generator=torch.Generator().manual_seed(seed)
    )
    found = solve_shift(scores, free, share)[:, order]
    again = solve_shift(scores[:, order], free[:, order], share)
    close(again, found, atol=1e-8)


@within
@given(problem=problems(rows=4))
def test_rows_do_not_depend_on_each_other(problem):
    scores, free, share = problem
    whole = solve_shift(scores, free, share)
    for row in range(4):
        one = slice(row, row + 1)
        alone = solve_shift(scores[one], free[one], share[one])
        close(alone, whole[one], atol=1e-13)


@within
@given(problem=problems())
def test_what_stands_at_frozen_positions_is_ignored(problem):
    scores, free, share = problem
    other = torch.where(free, scores, torch.nan)
    assert torch.equal(
        solve_shift(scores, free, share), solve_shift(other, free, share)
    )
    assert torch.equal(rescale(scores, free, share), rescale(other, free, share))
    assert torch.equal(standardise(scores, free), standardise(other, free))
    assert (standardise(scores, free)[~free] == 0).all()


@within
@given(problem=problems(bound=50.0), other=shares)
def test_a_larger_share_hides_every_token_more_often(problem, other):
    scores, free, share = problem
    low = torch.minimum(share, tensor(other))
    high = torch.maximum(share, tensor(other))
    for shape in (
        lambda u: solve_shift(scores, free, u),
        lambda u: rescale(scores, free, u),
        lambda u: power(scores / 10, u),
    ):
        assert (shape(low) <= shape(high) + 1e-11)[free].all()


# ---- the other shapes --------------------------------------------------------


@within
@given(problem=problems())
def test_rescale_has_the_mean_and_the_ends(problem):
    scores, free, share = problem
    found = rescale(scores, free, share)
    assert ((found >= 0) & (found <= 1)).all()
    some = free.any(1)
    close(mean(found, free)[some], share[some])
    assert (found[share == 0] == 0).all()
    assert (found[share == 1] == 1).all()


def test_rescale_by_hand():
    logit = math.log(3)  # sigmoids 3/4 and 1/4, mean 1/2
    scores, free = tensor([logit, -logit]), torch.ones(1, 2, dtype=torch.bool)
    close(rescale(scores, free, tensor(0.2)), tensor([0.3, 0.1]))
    close(rescale(scores, free, tensor(0.8)), tensor([0.9, 0.7]))


def test_power_by_hand():
    scores = tensor([0.0, math.log(2), -math.log(2)])
    close(power(scores, tensor(0.25)), tensor([0.25, 0.5, 0.0625]))
    ends = power(scores.expand(2, 3), tensor(0.0, 1.0))
    close(ends, tensor([0.0] * 3, [1.0] * 3), atol=0)


@within
@given(share=shares, length=st.integers(1, 6))
def test_equal_offsets_give_the_share(share, length):
    scores, free = torch.zeros(1, length), torch.ones(1, length, dtype=torch.bool)
    u = tensor(share)
    for found in (
        solve_shift(scores, free, u),
        solve_shift(scores + 3, free, u),
        rescale(scores, free, u),
        power(scores, u),
    ):
        close(found, u.expand(1, length), rtol=1e-11, atol=1e-15)


# ---- velocities --------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("drifting", [False, True])
@pytest.mark.parametrize("shape", ["logit", "power"])
def test_velocity_is_the_derivative_of_the_log_chance(schedule, drifting, shape):
    generator = torch.Generator().manual_seed(5)
    rows = 9
    t = torch.linspace(0.02, 0.98, rows, dtype=torch.float64)
    base = 2 * torch.randn(rows, 12, generator=generator, dtype=torch.float64)
    slope = torch.randn(rows, 12, generator=generator, dtype=torch.float64)
    free = torch.rand(rows, 12, generator=generator) < 0.8
    last = schedule.mask_rate(tensor(1.0))

    def offsets(t):
        return base + slope * t[:, None].square() * drifting

    def log_chance(t):
        u = schedule.mask_rate(t) / last
        if shape == "power":
            return power(offsets(t), u).log()
        return solve_shift(offsets(t), free, u).log()

    step = 1e-4  # fourth order: the error is of the order of 1e-12 / t^5
    numeric = (
        8 * (log_chance(t + step) - log_chance(t - step))
        - (log_chance(t + 2 * step) - log_chance(t - 2 * step))
    ) / (12 * step)
    drift = 2 * slope * t[:, None] if drifting else None
    u, rate = schedule.mask_rate(t) / last, -schedule.dalpha(t) / last
    if shape == "power":
        found = power_velocity(offsets(t), u, rate, drift)
    else:
        found = velocity(offsets(t), free, u, rate, drift)
    close(found[free], numeric[free], rtol=1e-6, atol=1e-6)


def test_velocity_at_both_ends():
    scores = tensor([1.0, -2.0, 0.5])
    free = torch.ones(1, 3, dtype=torch.bool)
    # at t = 0 every chance is proportional to u, so that A = u' / u = 1 / t
    small = velocity(scores, free, tensor(1e-9), tensor(1.0))
    close(small, torch.full_like(small, 1e9), rtol=1e-6, atol=0)
    assert (velocity(scores, free, tensor(0.0), tensor(1.0)) == torch.inf).all()
    # at t = 1 the chance to be visible is proportional to exp(-o)
    last = velocity(scores, free, tensor(1.0), tensor(0.7))
    tilt = torch.exp(-scores)
    close(last, 0.7 * tilt / tilt.mean())
    near = velocity(scores, free, tensor(1 - 1e-9), tensor(0.7))
    close(near, last, rtol=1e-6)


def test_velocity_without_offsets_is_the_uniform_weight():
    free = torch.ones(4, 3, dtype=torch.bool)
    u = tensor(1e-6, 0.3, 0.9, 1.0)
    found = velocity(torch.zeros(4, 3), free, u, tensor(1.0, 1.0, 1.0, 1.0))
    close(found, (1 / u)[:, None].expand(4, 3), rtol=1e-10)


@within
@given(problem=problems())
def test_velocity_is_never_negative_nor_undefined(problem):
    scores, free, share = problem
    found = velocity(scores, free, share, torch.ones_like(share))
    assert (found[free] >= 0).all()
