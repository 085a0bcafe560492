"""Single draws of an estimator: laws of sizes, weights, orders, unknown tokens."""

from itertools import product

import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear, any_order_chain, exact_counts, sizes
from mdlm_core.diffusion.draws import (
    hide_by_count,
    hide_by_size,
    hide_by_time,
    hide_in_order,
    measuring,
    row_nll,
    size_at,
    token_nll,
)
from mdlm_core.kernels.noise import Noise

from .toy import MASK, Toy, any_order_bound

NOISE = Noise(5)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_sizes_have_their_law_and_weight(power):
    n, u = 5, (torch.arange(100_000).double() + 0.5) / 100_000
    k, weight = size_at(u, torch.full_like(u, n, dtype=torch.int64), power=power)
    mass = torch.arange(1, n + 1).double() ** -power
    law = mass / mass.sum()
    seen = torch.bincount(k, minlength=n + 1)[1:] / len(u)
    torch.testing.assert_close(seen.double(), law, atol=2e-5, rtol=0)
    torch.testing.assert_close(weight, 1 / (k * law[k - 1]))


def test_sizes_of_rows_of_several_lengths():
    n = torch.tensor([0, 1, 2, 7])
    low, _ = size_at(torch.zeros(4).double(), n, power=0.5)
    high, weight = size_at(torch.full((4,), 1 - 2**-53).double(), n, power=0.5)
    assert low.tolist() == [0, 1, 1, 1]
    assert high.tolist() == [0, 1, 2, 7]
    assert torch.isfinite(weight).all()


@pytest.mark.parametrize("power", [0.3, 1.0])
def test_the_law_of_sizes_does_not_move_the_expectation(power):
    toy, rows = Toy(3, seed=2), 10_000
    batch = Batch.of(torch.tensor([[1, 0, 1]]).expand(rows, 3))
    estimate = sizes(toy, batch, draws=2, noise=NOISE, power=power)
    error = float(estimate.nats.std()) / rows**0.5
    expected = any_order_bound(toy, [1, 0, 1], [0, 1, 2])
    assert error < 0.02 * expected
    assert float(estimate.nats.mean()) == pytest.approx(expected, abs=4 * error)


def test_power_zero_is_exact_counts():
    toy = Toy(3)
    batch = Batch.of(torch.tensor(list(product([0, 1], repeat=3))))
    plain = exact_counts(toy, batch, draws=4, noise=NOISE)
    same = sizes(toy, batch, draws=4, noise=NOISE, power=0.0)
    assert torch.equal(plain.values, same.values)


def test_values_of_tokens_sum_to_the_value_of_the_row():
    toy = Toy(3)
    batch = Batch.of(torch.tensor(list(product([0, 1], repeat=3))))
    u = torch.full((8,), 0.5).double()
    draw = hide_by_count(batch, u, noise=NOISE, mask_id=MASK)
    with measuring(toy):
        tokens, rows = token_nll(toy, batch, draw), row_nll(toy, batch, draw)
    assert tokens.shape == (16,)  # two of three in each row
    torch.testing.assert_close(tokens.view(8, 2).double().sum(1), rows)
    for row in range(8):
        canvas = batch.tokens[row].masked_fill(draw.masked[row], MASK).tolist()
        expected = -sum(
            toy.log_prob(canvas, i, int(batch.tokens[row, i]))
            for i in draw.scored[row].nonzero()[:, 0].tolist()
        )
        assert float(rows[row]) == pytest.approx(expected, abs=1e-6)


def test_an_order_given_by_hand():
    batch = Batch.of(torch.tensor([[0, 1, 1]] * 3))
    ranks = torch.tensor([[2, 0, 1]] * 3)
    draw = hide_in_order(batch, ranks, torch.tensor([0, 1, 3]), mask_id=MASK)
    assert draw.masked.tolist() == [[True] * 3, [True, False, True], [False] * 3]
    assert draw.scored.tolist() == [
        [False, True, False],
        [False, False, True],
        [False] * 3,
    ]
    torch.testing.assert_close(draw.t, torch.tensor([1, 2 / 3, 0]).double())


@pytest.mark.parametrize("estimator", [exact_counts, any_order_chain, sizes])
def test_tokens_that_nobody_knows_stay_masked_and_are_not_scored(estimator):
    toy, rows = Toy(3, seed=6), 6000
    tokens = torch.tensor([[1, MASK, 0]]).expand(rows, 3)
    frozen = torch.tensor([[False, True, False]]).expand(rows, 3)
    estimate = estimator(toy, Batch.of(tokens, frozen=frozen), draws=2, noise=NOISE)
    expected = any_order_bound(toy, [1, MASK, 0], [0, 2])
    error = float(estimate.nats.std()) / rows**0.5
    assert float(estimate.nats.mean()) == pytest.approx(expected, abs=4 * error)
    assert estimate.tokens.tolist() == [2] * rows


def test_the_time_counts_tokens_that_nobody_knows_but_no_padding():
    tokens = torch.tensor([[1, MASK, 0, MASK], [1, 0, 0, MASK]])
    frozen = torch.tensor([[False, True, False, True], [False, False, False, True]])
    pad = torch.tensor([[False] * 4, [False] * 3 + [True]])
    batch = Batch.of(tokens, frozen=frozen, pad=pad)
    first = torch.zeros(2).double()  # one token of each row
    settings = {"noise": NOISE, "mask_id": MASK}
    plain = hide_by_count(batch, first, **settings)
    torch.testing.assert_close(plain.t, torch.tensor([3 / 4, 1 / 3]).double())
    schedule = LogLinear(0.0)
    timed = hide_by_size(batch, first, power=0.5, schedule=schedule, **settings)
    torch.testing.assert_close(timed.t, torch.tensor([3 / 4, 1 / 3]).double())


def test_a_mask_rate_counts_tokens_that_nobody_knows_too():
    tokens = torch.tensor([[0, 1, MASK, MASK], [0, 1, 1, 0]])
    batch = Batch.of(tokens, frozen=tokens == MASK)
    schedule = LogLinear(eps=0.0)
    draw = hide_by_time(
        batch,
        torch.tensor([0.4, 0.4]).double(),
        noise=NOISE,
        schedule=schedule,
        mask_id=MASK,
    )
    assert draw.t.tolist() == pytest.approx([(0.4 * 2 + 2) / 4, 0.4])
