"""Corruption: what is hidden, how often, and what that depends on."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import (
    Cosine,
    Geometric,
    LogLinear,
    Times,
    corrupt,
    corrupt_counts,
    corrupt_exactly,
    draw_counts,
)
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Rates

MASK = 99
NOISE = Noise(7).child("mask", 0)


def a_batch(rows=16, length=12, seed=0, **known):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, MASK, (rows, length), generator=generator)
    return Batch.of(tokens, **known)


def at(*t, rows=None):
    t = torch.tensor(t, dtype=torch.float64)
    t = t if rows is None else t.expand(rows)
    return Times(t, torch.ones_like(t))


def hide(batch, times, noise=NOISE, **settings):
    settings = {"schedule": LogLinear(0.0), "mask_id": MASK, **settings}
    return corrupt(batch, times, noise=noise, **settings)


def test_the_canvas_holds_the_mask_where_it_says_and_the_tokens_elsewhere():
    batch = a_batch()
    noised = hide(batch, at(0.5, rows=16))
    assert 0.3 < noised.masked.float().mean() < 0.7
    assert (noised.batch.tokens[noised.masked] == MASK).all()
    visible = ~noised.masked
    assert torch.equal(noised.batch.tokens[visible], batch.tokens[visible])
    assert torch.equal(noised.targets, batch.tokens)
    assert torch.equal(noised.t, torch.full((16,), 0.5))
    assert noised.weight.dtype == noised.t.dtype == torch.float32
    assert noised.weight.shape == batch.tokens.shape
    assert torch.equal(noised.weight, torch.full((16, 12), 2.0))


def test_the_weight_of_the_time_multiplies():
    times = Times(torch.tensor([0.5, 0.25]).double(), torch.tensor([3.0, 5.0]).double())
    weight = hide(a_batch(rows=2), times).weight
    assert torch.equal(weight[:, 0], torch.tensor([6.0, 20.0]))


@pytest.mark.parametrize("t", [0.03, 0.4, 0.97])
def test_the_mask_rate_is_the_schedules(t):
    rows, length = 4000, 50
    noised = hide(a_batch(rows, length), at(t, rows=rows), schedule=LogLinear(0.1))
    rate, n = 0.9 * t, rows * length
    tolerance = 4.5 * (rate * (1 - rate) / n) ** 0.5
    assert abs(float(noised.masked.float().mean()) - rate) < tolerance


def test_ends_of_time():
    batch = a_batch()
    times = Times(torch.tensor([0.0]).double().expand(16), torch.ones(16).double())
    assert not hide(batch, times).masked.any()
    assert hide(batch, at(1.0, rows=16)).masked.all()


def frozen_batch():
    frozen = torch.zeros(16, 12, dtype=torch.bool)
    frozen[:, :3] = True
    pad = torch.zeros_like(frozen)
    pad[::2, 8:] = True
    return a_batch(frozen=frozen, pad=pad)


def test_frozen_and_padded_positions_are_never_hidden():
    batch = frozen_batch()
    for noised in (
        hide(batch, at(1.0, rows=16)),
        corrupt_exactly(batch, batch.free.sum(1), noise=NOISE, mask_id=MASK),
        corrupt_counts(batch, rows=torch.arange(16), of=16, noise=NOISE, mask_id=MASK),
    ):
        assert not (noised.masked & batch.frozen).any()
        kept = noised.batch.tokens[batch.frozen]
        assert torch.equal(kept, batch.tokens[batch.frozen])
    full = hide(batch, at(1.0, rows=16)).masked
    assert torch.equal(full, batch.free)


def every_form(batch):
    rows = len(batch)
    counts = torch.arange(1, 12).repeat(2)[:rows]
    return (
        hide(batch, at(0.5, rows=rows)).masked,
        corrupt_exactly(batch, counts, noise=NOISE, mask_id=MASK).masked,
    )


def test_other_rows_of_the_batch_change_no_mask():
    batch = a_batch()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    whole = hide(batch, at(0.5, rows=16)).masked
    assert torch.equal(hide(batch.select(order), at(0.5, rows=16)).masked, whole[order])
    alone = hide(batch.select(slice(5, 6)), at(0.5)).masked
    assert torch.equal(alone, whole[5:6])
    exact = corrupt_exactly(batch, torch.full((16,), 4), noise=NOISE, mask_id=MASK)
    part = corrupt_exactly(
        batch.select(order[:5]), torch.full((5,), 4), noise=NOISE, mask_id=MASK
    )
    assert torch.equal(part.masked, exact.masked[order[:5]])


def test_tokens_and_padding_change_no_mask_of_the_rest():
    batch, other = a_batch(seed=0), a_batch(seed=1)
    for first, second in zip(every_form(batch), every_form(other), strict=True):
        assert torch.equal(first, second)
    longer = torch.cat([batch.tokens, torch.zeros(16, 4, dtype=torch.long)], 1)
    pad = torch.arange(16)[None].expand(16, 16) >= 12
    padded = every_form(Batch.of(longer, pad=pad))
    for first, second in zip(every_form(batch), padded, strict=True):
        assert torch.equal(first, second[:, :12])


def test_cutting_into_processes_changes_nothing():
    batch, rows = a_batch(), torch.arange(16)

    def counts(part):
        return corrupt_counts(
            batch.select(part), rows=rows[part], of=16, noise=NOISE, mask_id=MASK
        )

    whole = counts(slice(None))
    parts = [counts(slice(0, 5)), counts(slice(5, 16))]
    for name in ("masked", "weight", "t", "targets"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name))


def test_another_key_or_row_id_has_another_mask():
    batch = a_batch()
    first, _ = every_form(batch)
    assert not torch.equal(
        hide(batch, at(0.5, rows=16), noise=NOISE.child(1)).masked, first
    )
    renamed = replace(batch, sample_id=batch.sample_id + 16)
    assert not torch.equal(every_form(renamed)[0], first)
    assert len({tuple(row.tolist()) for row in first}) == 16


def test_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    every_form(a_batch())
    assert torch.equal(before, torch.random.get_rng_state())


def test_exact_counts_hide_exactly_that_many():
    batch = frozen_batch()
    n = batch.free.sum(1)
    counts = torch.arange(16) % (n + 1)
    noised = corrupt_exactly(batch, counts, noise=NOISE, mask_id=MASK)
    assert torch.equal(noised.masked.sum(1), counts)
    some = counts > 0
    share = (n / counts)[some, None].expand(-1, 12)
    torch.testing.assert_close(noised.weight[some], share)
    torch.testing.assert_close(noised.t, counts / n)


def test_every_subset_is_equally_likely():
    # 4 free positions of 5, 2 hidden: six subsets
    rows = 12_000
    frozen = torch.zeros(rows, 5, dtype=torch.bool)
    frozen[:, 2] = True
    batch = a_batch(rows, 5, frozen=frozen)
    counts = torch.full((rows,), 2)
    masked = corrupt_exactly(batch, counts, noise=NOISE, mask_id=MASK).masked
    seen = [
        int(masked[:, list(pair)].all(1).sum())
        for pair in combinations((0, 1, 3, 4), 2)
    ]
    assert sum(seen) == rows
    chi2 = sum((count - rows / 6) ** 2 / (rows / 6) for count in seen)
    assert chi2 < 25.7  # 1 - 1e-4 quantile at 5 degrees of freedom


def test_counts_are_uniform_and_stratified():
    rows, n = 120, 12
    batch = a_batch(rows, n)
    counts = draw_counts(batch, noise=NOISE, rows=torch.arange(rows), of=rows)
    assert torch.equal(counts.bincount(), torch.tensor([0] + [10] * n))


def test_a_row_without_free_tokens_gets_no_mask():
    frozen = torch.zeros(4, 6, dtype=torch.bool)
    frozen[1] = True
    batch = a_batch(4, 6, frozen=frozen)
    noised = corrupt_counts(
        batch, rows=torch.arange(4), of=4, noise=NOISE, mask_id=MASK
    )
    assert noised.masked.any(1).tolist() == [True, False, True, True]
    assert torch.isfinite(noised.weight).all()
    assert torch.isfinite(noised.t).all()


def test_hiding_more_than_there_is_is_refused():
    batch = a_batch(2, 6)
    with pytest.raises(ConfigError, match=r"row 1 has 6 free tokens.*7"):
        corrupt_exactly(batch, torch.tensor([6, 7]), noise=NOISE, mask_id=MASK)


class EveryOther:
    """Hides even positions at three times the weight, and odd ones never."""

    def rates(self, batch, t, schedule):
        even = (torch.arange(batch.length) % 2 == 0).double()
        return Rates(even.expand(batch.tokens.shape), 3 * schedule.weight(t)[:, None])


def test_a_policy_decides_positions_and_weights():
    batch = a_batch()
    noised = hide(batch, at(0.5, rows=16), policy=EveryOther())
    assert noised.masked[:, ::2].all()
    assert not noised.masked[:, 1::2].any()
    assert torch.equal(noised.weight, torch.full((16, 12), 6.0))


class Sloped:
    """A policy with a linear layer, whose result autocast would make coarse."""

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype

    def rates(self, batch, t, schedule):
        place = torch.linspace(-1, 1, batch.length)[:, None] @ torch.tensor([[0.1]])
        chance = schedule.mask_rate(t)[:, None].float() * (1 - place[:, 0])
        return Rates(chance.to(self.dtype), chance)


def test_a_policy_is_asked_without_autocast():
    batch = a_batch(length=64)
    with torch.autocast("cpu", torch.bfloat16):
        under = hide(batch, at(0.5, rows=16), policy=Sloped())
    plain = hide(batch, at(0.5, rows=16), policy=Sloped())
    assert torch.equal(under.masked, plain.masked)
    assert torch.equal(under.weight, plain.weight)


def test_coarse_rates_are_refused():
    with pytest.raises(ConfigError, match=r"'Sloped' gives mask_prob in bfloat16"):
        hide(a_batch(), at(0.5, rows=16), policy=Sloped(torch.bfloat16))


def test_exact_counts_give_the_time_of_their_share():
    batch = a_batch(rows=3, length=8)
    counts = torch.tensor([2, 4, 8])
    for schedule in (Cosine(), LogLinear(0.3), Geometric()):
        noised = corrupt_exactly(
            batch, counts, noise=NOISE, mask_id=MASK, schedule=schedule
        )
        ends = schedule.mask_rate(torch.tensor([0.0, 1.0]))
        expected = (counts / 8).clamp(ends[0], ends[1])
        torch.testing.assert_close(schedule.mask_rate(noised.t), expected)


class Drawing(EveryOther):
    """A policy that draws which half of the positions may be hidden."""

    draws = True

    def rates(self, batch, t, schedule, *, noise):
        self.seen = noise.uniform(batch.sample_id, batch.length)
        return Rates((self.seen < 0.5).float(), torch.ones(1, 1))


def test_a_policy_that_draws_gets_noise_of_its_own():
    batch, policy = a_batch(), Drawing()
    noised = hide(batch, at(0.5, rows=16), policy=policy)
    assert torch.equal(noised.masked, policy.seen < 0.5)
    assert not torch.equal(policy.seen, NOISE.uniform(batch.sample_id, batch.length))
    first = policy.seen
    hide(batch, at(0.5, rows=16), policy=policy)
    assert torch.equal(policy.seen, first)
    hide(batch, at(0.5, rows=16), policy=policy, noise=NOISE.child("other"))
    assert not torch.equal(policy.seen, first)
