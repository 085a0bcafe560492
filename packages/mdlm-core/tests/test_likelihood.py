"""Likelihood estimators against enumeration: expectation, bound, error, masks."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import (
    Cosine,
    CosineSquared,
    Estimate,
    Geometric,
    LinearSigma,
    LogLinear,
    any_order_chain,
    continuous_time,
    exact_counts,
    subs,
)
from mdlm_core.diffusion.likelihood import draw_error, hide_some
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise

from .toy import MASK, Toy, any_order_bound, any_order_law

SCHEDULES = [
    LogLinear(),
    LogLinear(0.0),
    LogLinear(0.3),
    Cosine(),
    CosineSquared(),
    LinearSigma(),
    LinearSigma(0.2, 2.0),
    Geometric(),
]
NOISE = Noise(11)


def at_times(schedule):
    def estimator(*args, **settings):
        return continuous_time(*args, schedule=schedule, **settings)

    return estimator


ESTIMATORS = {
    "counts": exact_counts,
    "chain": any_order_chain,
    **{f"time {schedule}": at_times(schedule) for schedule in SCHEDULES},
}
every_estimator = pytest.mark.parametrize(
    "estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys()
)


def copies(tokens, rows, frozen=()):
    many = torch.tensor([tokens]).expand(rows, -1)
    mark = torch.zeros_like(many, dtype=torch.bool)
    mark[:, list(frozen)] = True
    return Batch.of(many, frozen=mark)


@every_estimator
@pytest.mark.parametrize(
    ("tokens", "frozen"),
    [([1, 0], []), ([0, 1, 1], []), ([1, 0, 1], [1]), ([1, 1, 0], [0, 2])],
    ids=str,
)
def test_expectation_against_enumeration(estimator, tokens, frozen):
    toy, rows = Toy(len(tokens), seed=len(frozen)), 10_000
    free = [i for i in range(len(tokens)) if i not in frozen]
    estimate = estimator(toy, copies(tokens, rows, frozen), draws=2, noise=NOISE)
    expected = any_order_bound(toy, tokens, free)
    mean = float(estimate.nats.mean())
    error = float(estimate.nats.std()) / rows**0.5
    assert error < 0.025 * expected
    assert abs(mean - expected) < 4 * error + 1e-6
    assert torch.equal(estimate.tokens, torch.full((rows,), len(free)))


@pytest.mark.parametrize("length", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_above_minus_log_p(length, seed):
    toy = Toy(length, seed=seed, scale=3.0)
    every = [list(row) for row in product([0, 1], repeat=length)]
    free = list(range(length))
    law = [any_order_law(toy, row, free) for row in every]
    assert sum(law) == pytest.approx(1, abs=1e-6)
    copied = torch.tensor(every).repeat_interleave(150, 0)
    for estimator in (exact_counts, any_order_chain, at_times(LogLinear())):
        estimate = estimator(toy, Batch.of(copied), draws=4, noise=NOISE)
        each = estimate.nats.view(len(every), 150)
        for row, p in enumerate(law):
            bound = any_order_bound(toy, every[row], free)
            assert bound + math.log(p) >= -1e-9
            mean, slack = (
                float(each[row].mean()),
                4.5 * float(each[row].std()) / 150**0.5,
            )
            assert abs(mean - bound) < slack + 1e-6
            assert mean > -math.log(p) - slack - 1e-6


def test_there_is_a_gap_to_see():
    toy, free = Toy(3, seed=1, scale=3.0), [0, 1, 2]
    rows = [list(row) for row in product([0, 1], repeat=3)]
    gaps = [
        any_order_bound(toy, row, free) + math.log(any_order_law(toy, row, free))
        for row in rows
    ]
    assert max(gaps) > 0.1


def test_one_order_of_the_chain_is_a_probability():
    # all rows share one order (common), so that exp(-nats) sums to one over all x
    toy = Toy(3, seed=4, scale=2.0)
    batch = Batch.of(torch.tensor(list(product([0, 1], repeat=3))))
    estimate = any_order_chain(toy, batch, draws=5, noise=NOISE, common=True)
    sums = torch.exp(-estimate.values).sum(0)
    torch.testing.assert_close(sums, torch.ones(5).double(), rtol=1e-6, atol=0)


# ---- standard errors --------------------------------------------------------


@every_estimator
@pytest.mark.parametrize("draws", [2, 5, 8])
def test_the_standard_error_is_the_spread_of_the_mean(estimator, draws):
    toy, rows = Toy(3, seed=3), 1500
    estimate = estimator(toy, copies([1, 1, 0], rows), draws=draws, noise=NOISE)
    assert estimate.draws == draws
    assert estimate.values.shape == (rows, draws)
    torch.testing.assert_close(estimate.values.mean(1), estimate.nats)
    spread = float(estimate.nats.std())
    reported = float(estimate.se.square().mean().sqrt())
    assert reported > 0.93 * spread  # never too small
    if not estimate.stratified:
        assert reported < 1.07 * spread


def test_stratified_error_by_hand():
    values = torch.tensor([[1.0, 3.0, 10.0, 14.0], [0.0, 0.0, 0.0, 0.0]]).double()
    error = draw_error(values, stratified=True)
    # (3 - 1)^2 + (14 - 10)^2 over 4^2
    torch.testing.assert_close(error, torch.tensor([20.0, 0.0]).double().sqrt() / 4)
    five = torch.tensor([[1.0, 3.0, 2.0, 4.0, 9.0]]).double()
    expected = math.sqrt(4 + 1.5 * (9 + 1 + 16)) / 5
    assert float(draw_error(five, stratified=True)[0]) == pytest.approx(expected)
    plain = float(draw_error(five, stratified=False)[0])
    assert plain == pytest.approx(math.sqrt(9.7 / 5))


def test_stratification_and_exact_counts_make_the_error_small():
    toy, batch = Toy(3), copies([0, 1, 0], 2000)
    spread = {
        name: float(estimator(toy, batch, draws=4, noise=NOISE).nats.std())
        for name, estimator in ESTIMATORS.items()
    }
    assert spread["counts"] < spread["time LogLinear(eps=0.0)"]


def estimate_of(nats, tokens, values, **known):
    values = torch.tensor(values).double()
    return Estimate(
        nats=torch.tensor(nats).double(),
        se=draw_error(values, stratified=False),
        draws=values.shape[1],
        tokens=torch.tensor(tokens),
        values=values,
        stratified=False,
        **known,
    )


def test_per_token_by_hand():
    rows = estimate_of([2.0, 9.0], [1, 3], [[1.0, 3.0], [9.0, 9.0]])
    mean, error = rows.per_token()
    assert mean == pytest.approx(11 / 4)
    # residuals -0.75 and 0.75
    assert error == pytest.approx(math.sqrt(2 * 2 * 0.75**2) / 4)
    shared = replace(rows, common=True)
    # the draws sum to 10 and 12 over rows: variance of their mean is 1
    expected = math.sqrt(2 * 2 * 0.75**2 + 1) / 4
    assert shared.per_token() == (mean, pytest.approx(expected))
    one = estimate_of([2.0], [4], [[1.0, 3.0]])
    assert one.per_token() == (pytest.approx(0.5), pytest.approx(0.25))


def test_per_token_error_covers_rows_and_draws():
    toy, runs = Toy(3, seed=5), 300
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 2, (runs, 20, 3), generator=generator)
    means, errors = [], []
    for run in range(runs):
        batch = Batch.of(tokens[run])
        mean, error = exact_counts(
            toy, batch, draws=2, noise=NOISE.child(run)
        ).per_token()
        means.append(mean)
        errors.append(error**2)
    spread = float(torch.tensor(means).std())
    assert math.sqrt(sum(errors) / runs) == pytest.approx(spread, rel=0.12)


def test_joined_batches_are_one_measurement():
    toy, tokens = Toy(3), torch.tensor(list(product([0, 1], repeat=3)))
    whole = exact_counts(toy, Batch.of(tokens), draws=3, noise=NOISE)
    batch = Batch.of(tokens)
    parts = [
        exact_counts(toy, batch.select(cut), draws=3, noise=NOISE)
        for cut in (slice(0, 3), slice(3, 8))
    ]
    joined = Estimate.join(parts)
    assert torch.equal(joined.values, whole.values)
    assert joined.per_token() == whole.per_token()


# ---- masks ------------------------------------------------------------------


@every_estimator
def test_equal_ids_and_common_share_masks(estimator):
    toy, batch = Toy(3), copies([1, 0, 1], 6)
    same = replace(batch, sample_id=torch.full((6,), 4))
    by_id = estimator(toy, same, draws=4, noise=NOISE).values
    assert torch.equal(by_id, by_id[:1].expand(6, 4))
    common = estimator(toy, batch, draws=4, noise=NOISE, common=True)
    assert torch.equal(common.values, common.values[:1].expand(6, 4))
    assert common.common
    own = estimator(toy, batch, draws=4, noise=NOISE).values
    assert len({tuple(row) for row in own.tolist()}) > 1


@every_estimator
def test_rows_do_not_depend_on_each_other(estimator):
    toy = Toy(3)
    batch = Batch.of(torch.tensor(list(product([0, 1], repeat=3))))
    whole = estimator(toy, batch, draws=3, noise=NOISE).values
    order = torch.tensor([6, 2, 3])
    part = estimator(toy, batch.select(order), draws=3, noise=NOISE).values
    torch.testing.assert_close(part, whole[order])


@every_estimator
def test_a_row_without_free_tokens_costs_nothing(estimator):
    batch = copies([1, 0, 1], 3)
    frozen = batch.frozen.clone()
    frozen[1] = True
    batch = replace(batch, frozen=frozen)
    estimate = estimator(Toy(3), batch, draws=3, noise=NOISE)
    assert float(estimate.nats[1]) == 0
    assert torch.isfinite(estimate.values).all()
    assert estimate.tokens.tolist() == [3, 0, 3]


def test_every_count_is_drawn_once_when_draws_equal_the_tokens():
    toy, seen = Toy(3), []

    class Watching(Toy):
        def hidden(self, batch, t=None):
            seen.append((batch.tokens == MASK).sum(1))
            return toy.hidden(batch, t)

    exact_counts(Watching(3), copies([0, 0, 1], 5), draws=3, noise=NOISE)
    counts = torch.stack(seen, 1).sort(1).values
    assert torch.equal(counts, torch.tensor([[1, 2, 3]]).expand(5, 3))


def test_continuous_time_never_draws_an_empty_mask():
    least = []

    class Watching(Toy):
        def hidden(self, batch, t=None):
            least.append(int((batch.tokens == MASK).sum(1).min()))
            return super().hidden(batch, t)

    continuous_time(
        Watching(3), copies([0, 0, 1], 500), schedule=LogLinear(), draws=20, noise=NOISE
    )
    assert min(least) == 1


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9])
def test_masks_that_hide_something_have_their_conditional_law(rate):
    # positions 0, 2, 3 of 4 are free: m^j (1 - m)^(3 - j) over the chance of any
    rows, free = 60_000, torch.tensor([True, False, True, True])
    keys = NOISE.uniform(torch.arange(rows), 4)
    rates = torch.full((rows,), rate).double()
    masked, chance = hide_some(keys, free.expand(rows, 4), rates)
    torch.testing.assert_close(chance, torch.full_like(chance, 1 - (1 - rate) ** 3))
    assert not masked[:, 1].any()
    chi2 = 0.0
    for pattern in product([False, True], repeat=3):
        same = masked[:, free] == torch.tensor(pattern)
        seen, j = int(same.all(1).sum()), sum(pattern)
        if j == 0:
            assert seen == 0
            continue
        expected = rows * rate**j * (1 - rate) ** (3 - j) / float(chance[0])
        chi2 += (seen - expected) ** 2 / expected
    assert chi2 < 27.9  # 1 - 1e-4 quantile at 6 degrees of freedom


def test_the_chain_evaluates_each_token_once():
    toy = Toy(3)
    any_order_chain(toy, copies([0, 0, 1], 5), draws=4, noise=NOISE)
    assert toy.calls == 4 * 3


def test_times_are_those_of_the_masks():
    toy = Toy(3)
    exact_counts(toy, copies([0, 0, 1], 4), draws=3, noise=NOISE)
    for draw, t in enumerate(toy.times):
        torch.testing.assert_close(t, torch.full((4,), (draw + 1) / 3))
    toy.times.clear()
    any_order_chain(toy, copies([0, 0, 1], 4), draws=1, noise=NOISE)
    chain = [float(t[0]) for t in toy.times]
    assert chain == pytest.approx([1, 2 / 3, 1 / 3])
    toy.times.clear()
    continuous_time(
        toy, copies([0, 0, 1], 4), schedule=Cosine(0.0), draws=4, noise=NOISE
    )
    for draw, t in enumerate(toy.times):
        assert (t >= draw / 4 - 1e-6).all()
        assert (t <= (draw + 1) / 4 + 1e-6).all()
    places = torch.stack([t * 4 % 1 for t in toy.times])  # inside the stratum
    assert places.std(0).min() > 0.01


# ---- scoring ----------------------------------------------------------------


class Linear(torch.nn.Module):
    """A small network with a fused head and dropout."""

    vocab_size, mask_id, time_conditioned = 30, 29, False

    def __init__(self, zero=False):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.drop = torch.nn.Dropout(0.5)
        self.embed = torch.randn(30, 16, generator=generator)
        self.head = torch.nn.Linear(16, 30)
        with torch.no_grad():
            for weight in self.head.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator))
                weight.mul_(0 if zero else 1)

    def hidden(self, batch, t=None):
        state = self.embed[batch.tokens]
        return self.drop(state + state.mean(1, keepdim=True))

    def logits(self, hidden):
        return self.head(hidden)


def some_text(rows=6, length=9):
    generator = torch.Generator().manual_seed(1)
    return Batch.of(torch.randint(0, 29, (rows, length), generator=generator))


@every_estimator
def test_even_logits_give_ln_of_the_tokens(estimator):
    mean, _ = estimator(
        Linear(zero=True), some_text(), draws=4, noise=NOISE
    ).per_token()
    exact = estimator not in [ESTIMATORS[f"time {schedule}"] for schedule in SCHEDULES]
    assert mean == pytest.approx(math.log(28.0 + 1), abs=1e-5 if exact else 0.5)


@every_estimator
def test_dropout_is_off_and_its_mode_comes_back(estimator):
    network = Linear()
    network.drop.train()
    network.head.eval()
    first = estimator(network, some_text(), draws=2, noise=NOISE).values
    assert torch.equal(
        first, estimator(network, some_text(), draws=2, noise=NOISE).values
    )
    assert network.training
    assert network.drop.training
    assert not network.head.training
    assert not first.requires_grad


def test_the_fused_head_is_the_plain_one():
    network = Linear().eval()

    class Plain(torch.nn.Module):
        vocab_size, mask_id, time_conditioned = 30, 29, False
        hidden, logits = network.hidden, network.logits

    fused = exact_counts(network, some_text(), draws=3, noise=NOISE).values
    plain = exact_counts(Plain(), some_text(), draws=3, noise=NOISE).values
    torch.testing.assert_close(fused, plain, rtol=1e-6, atol=0)


def test_scores_are_float32_under_autocast():
    network, batch = Linear().eval(), some_text(length=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate = exact_counts(network, batch, draws=1, noise=NOISE)
    states = network.hidden(batch.with_tokens(torch.full((6, 1), 29)))[:, 0]
    expected = -subs(network.head(states), 29).gather(1, batch.tokens)
    torch.testing.assert_close(estimate.values, expected.double(), rtol=1e-5, atol=1e-6)


# ---- refusals ---------------------------------------------------------------


@every_estimator
def test_no_draws_are_refused(estimator):
    with pytest.raises(ConfigError, match="draws is 0"):
        estimator(Toy(3), copies([0, 0, 1], 2), draws=0, noise=NOISE)


def test_one_draw_has_no_error_of_its_own():
    estimate = exact_counts(Toy(3), copies([0, 0, 1], 2), draws=1, noise=NOISE)
    assert estimate.se.isnan().all()


def test_nothing_free_has_no_bound_per_token():
    estimate = exact_counts(Toy(2), copies([0, 1], 2, [0, 1]), draws=2, noise=NOISE)
    with pytest.raises(DataError, match="no position is free"):
        estimate.per_token()


@pytest.mark.parametrize("estimator", [exact_counts, any_order_chain])
@pytest.mark.parametrize("schedule", [Cosine(), LogLinear(0.3), Geometric()])
def test_a_model_that_sees_the_time_is_given_that_of_its_masks(estimator, schedule):
    seen = []

    class Timed(Toy):
        time_conditioned = True

        def hidden(self, batch, t=None):
            seen.append(((batch.tokens == MASK).double().mean(1), t.double()))
            return super().hidden(batch, t)

    estimator(Timed(3), copies([0, 1, 0], 8), draws=2, noise=NOISE, schedule=schedule)
    low, high = schedule.mask_rate(torch.tensor([0.0, 1.0], dtype=torch.float64))
    for share, t in seen:
        torch.testing.assert_close(
            schedule.mask_rate(t), share.clamp(low, high), atol=1e-6, rtol=0
        )
