"""Masks in two rounds: their rate, their weights, and what they may depend on."""

import itertools

import pytest
import torch

from mdlm_atat.config import AtatConfig, CurriculumConfig, ImportanceConfig
from mdlm_atat.masking import AdaptiveMaskingScheduler
from mdlm_atat.policy import build
from mdlm_atat.visible import visible_rates
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Cosine, LogLinear, Times, corrupt
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.testing import tiny_source

MASK = 9
SCHEDULES = (LogLinear(), LogLinear(eps=0.2), Cosine())


def masking(**changes):
    return AdaptiveMaskingScheduler(
        AtatConfig(importance=ImportanceConfig(context="visible"), **changes)
    )


def by_neighbours(batch, t):
    """Score a position by what can be seen to its left, and the time."""
    left = batch.tokens.roll(1, 1)
    seen = torch.where(left == MASK, 2.5, left.double())
    return (seen.cumsum(1) * (1 + t[:, None])).sin().square()


class Chosen:
    """Noise that masks exactly the given positions in the first round."""

    def __init__(self, first):
        self.first = first

    def child(self, *path):
        return self

    def uniform(self, rows, columns):
        return torch.where(self.first, 0.0, 1.0).double()


def subsets(length):
    choices = list(itertools.product([False, True], repeat=length))
    return torch.tensor(choices)


def all_rounds(row, t, schedule, *, frozen=None, focus=None, importance=None, **more):
    """Return every first round, its chance, and the rates of the second."""
    first = subsets(len(row))
    count = len(first)
    blocked = torch.zeros(len(row), dtype=torch.bool) if frozen is None else frozen
    first = first[~(first & blocked).any(1)]
    count = len(first)
    batch = Batch.of(row.expand(count, -1), frozen=blocked.expand(count, -1).clone())
    times = torch.full((count,), t).double()
    rates = visible_rates(
        masking(**more),
        importance or by_neighbours,
        batch,
        times,
        schedule,
        kappa=1.3,
        focus=focus,
        noise=Chosen(first),
        mask_id=MASK,
    )
    last = schedule.mask_rate(torch.ones(1).double())
    base = last * (schedule.mask_rate(times[:1]) / last).sqrt()
    hidden = first.sum(1)
    chance = base**hidden * (1 - base) ** (len(row) - blocked.sum() - hidden)
    return first, chance, rates


ROW = torch.tensor([1, 4, 4, 0, 7])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("t", [1e-3, 0.2, 0.6, 0.97])
def test_the_expected_rate_is_that_of_the_schedule(schedule, t):
    frozen = torch.tensor([False, True, False, False, False])
    _, chance, rates = all_rounds(ROW, t, schedule, frozen=frozen)
    assert chance.sum().item() == pytest.approx(1)
    expected = (chance[:, None] * rates.mask_prob).sum(0)
    rate = schedule.mask_rate(torch.tensor(t).double()).item()
    assert expected[~frozen].mean().item() == pytest.approx(rate, rel=1e-9)
    assert expected[frozen].item() == 0
    if t > 0.1:  # before that more than one token is hardly ever scored
        assert (expected[~frozen] - rate).abs().max() > 0.01 * rate * (1 - t)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("t", [0.2, 0.6, 0.97])
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_a_weight_is_worth_what_a_uniform_one_is(schedule, t, bias):
    _, chance, rates = all_rounds(ROW, t, schedule, position_bias=bias, clip=1e9)
    worth = (chance[:, None] * rates.mask_prob * rates.weight).sum(0)
    time = torch.tensor(t).double()
    uniform = (schedule.mask_rate(time) * schedule.weight(time)).item()
    assert worth.tolist() == pytest.approx([uniform] * 5, rel=1e-9)


def test_the_largest_weight_is_clipped():
    _, _, rates = all_rounds(ROW, 0.3, LogLinear(), clip=1.1)
    assert rates.weight.max().item() == pytest.approx(1.1 / 0.3)


def chances_to_hide(row, importance):
    """Return P(the hidden set is H | row) for every H, over both rounds."""
    first, chance, rates = all_rounds(row, 0.4, LogLinear(), importance=importance)
    stay, total = rates.mask_prob, []
    for hidden in subsets(len(row)):
        over = (hidden & ~first).any(1)
        each = torch.where(hidden, stay, 1 - stay).prod(1)
        total.append((chance * each.masked_fill(over, 0.0)).sum())
    return torch.stack(total)


def test_masks_tell_nothing_about_what_they_hide():
    other = torch.tensor([1, 2, 4, 5, 7])  # differs in the second and fourth
    ours = chances_to_hide(ROW, by_neighbours)
    theirs = chances_to_hide(other, by_neighbours)
    assert ours.sum().item() == pytest.approx(1)
    sets = subsets(5)
    both = sets[:, 1] & sets[:, 3]
    torch.testing.assert_close(ours[both], theirs[both], rtol=1e-12, atol=0)
    assert (ours[~both] - theirs[~both]).abs().max() > 1e-3


def test_scores_of_the_clean_row_would_tell():
    other = torch.tensor([1, 2, 4, 5, 7])
    found = []
    for row in (ROW, other):
        clean = Batch.of(row[None])

        def peeking(batch, t, clean=clean):
            rows = clean.tokens.expand_as(batch.tokens)
            return by_neighbours(batch.with_tokens(rows), t)

        found.append(chances_to_hide(row, peeking))
    sets = subsets(5)
    both = sets[:, 1] & sets[:, 3]
    assert (found[0][both] - found[1][both]).abs().max() > 1e-3


def test_focus_moves_weights_within_a_row():
    def focus(score, free):
        return 1 + 2.0 * (score > 0.3).double()

    first, _, plain = all_rounds(ROW, 0.4, LogLinear())
    _, _, rates = all_rounds(ROW, 0.4, LogLinear(), focus=focus)
    mass = (plain.mask_prob * plain.weight).sum(1)
    torch.testing.assert_close((rates.mask_prob * rates.weight).sum(1), mass)
    moved = rates.weight / plain.weight
    assert moved[first.sum(1) > 2].max() > 1.1


# ---- the policy -------------------------------------------------------------

REAL = CurriculumConfig(preset="none", warmup=0, final_uniform=0.0)


def policy(**changes):
    importance = ImportanceConfig(
        width=16, blocks=1, heads=2, context="visible", frequency_tokens=500
    )
    settings = {"strategy": "proportional", "temperature": 0.5, "curriculum": REAL}
    config = AtatConfig(importance=importance, **settings | changes)
    with global_seed(Noise(0)):
        return build(config, source=tiny_source())


def test_the_policy_draws_and_says_so():
    ours = policy()
    assert ours.draws
    batch, t = Batch.of(torch.arange(8)[None]), torch.tensor([0.5]).double()
    with pytest.raises(UsageError, match=r"two rounds.*noise"):
        ours.rates(batch, t, LogLinear())


def test_masks_of_the_policy_have_the_rate_of_the_schedule():
    ours, rows = policy(), 4000
    tokens = torch.arange(8).expand(rows, -1)
    batch = Batch.of(tokens, sample_id=torch.arange(rows))
    times = Times(torch.full((rows,), 0.3).double(), torch.ones(rows).double())
    corrupted = corrupt(
        batch,
        times,
        schedule=LogLinear(),
        policy=ours,
        noise=Noise(4),
        mask_id=ours.mask_id,
    )
    share = corrupted.masked.double().mean(1)
    error = share.std() / rows**0.5
    assert abs(share.mean() - 0.999 * 0.3) < 4 * error
    worth = corrupted.masked * corrupted.weight.double()
    error = worth.std(0) / rows**0.5
    assert ((worth.mean(0) - 0.999).abs() < 4 * error).all()
    assert error.max() < 0.1


def test_the_network_is_asked_at_the_time_of_what_it_sees():
    ours, asked = policy(), []
    forward = ours.estimator.forward

    def listen(batch, t):
        asked.append((batch, t))
        return forward(batch, t)

    ours.estimator.forward = listen
    batch = Batch.of(torch.arange(10).repeat(3000, 1))
    t = torch.full((3000,), 0.25).double()
    ours.rates(batch, t, LogLinear(), noise=Noise(0))
    [(canvas, at)] = asked
    assert at.tolist() == pytest.approx([0.5] * 3000)
    seen = (canvas.tokens == ours.mask_id).double().mean().item()
    assert seen == pytest.approx(0.999 * 0.5, abs=0.01)


def test_frozen_tokens_stay_in_what_is_scored():
    ours, asked = policy(), []
    ours.estimator.forward = lambda batch, t: (
        asked.append(batch.tokens),
        torch.rand(batch.tokens.shape, generator=torch.Generator().manual_seed(0)),
    )[1]
    frozen = torch.zeros(4, 10, dtype=torch.bool)
    frozen[:, :3] = True
    batch = Batch.of(torch.arange(10).repeat(4, 1), frozen=frozen)
    t = torch.full((4,), 0.99).double()
    rates = ours.rates(batch, t, LogLinear(), noise=Noise(0))
    assert torch.equal(asked[0][frozen], batch.tokens[frozen])
    assert (asked[0][~frozen] == ours.mask_id).double().mean() > 0.9
    assert rates.mask_prob[frozen].max() == 0


def test_rows_and_draws():
    ours = policy()
    ids = torch.tensor([3, 8, 1, 5])
    batch = Batch.of(torch.arange(40).view(4, 10) % 10, sample_id=ids)
    t = torch.tensor([0.2, 0.4, 0.6, 0.8]).double()
    whole = ours.rates(batch, t, LogLinear(), noise=Noise(0))
    again = ours.rates(batch, t, LogLinear(), noise=Noise(0))
    assert torch.equal(whole.mask_prob, again.mask_prob)
    other = ours.rates(batch, t, LogLinear(), noise=Noise(1))
    assert not torch.equal(whole.mask_prob, other.mask_prob)
    part = ours.rates(batch.select(slice(1, 3)), t[1:3], LogLinear(), noise=Noise(0))
    torch.testing.assert_close(part.mask_prob, whole.mask_prob[1:3], atol=1e-4, rtol=0)


def test_focus_of_the_policy_is_that_of_its_curriculum():
    curriculum = CurriculumConfig(warmup=0, final_uniform=0.0, focus=3.0)
    focused = policy(strategy="balanced", curriculum=curriculum)
    focused.advance(0, 100)
    focused.advance(10, 100)  # easy: the masks are uniform, the weights are not
    assert focused.curriculum.kappa == 0
    batch = Batch.of(torch.arange(10).repeat(20, 1))
    t = torch.linspace(0.1, 0.9, 20).double()
    nothing = batch.with_tokens(torch.full_like(batch.tokens, focused.mask_id))
    focused.curriculum.quantiles.fill_(focused.importance(nothing, t).median())
    rates = focused.rates(batch, t, LogLinear(), noise=Noise(0))
    hidden = rates.mask_prob > 0
    share = t.sqrt()[:, None].expand_as(rates.mask_prob)
    torch.testing.assert_close(rates.mask_prob[hidden], share[hidden])
    spread = rates.weight.amax(1) / rates.weight.amin(1)
    assert spread.max().item() == pytest.approx(3.0)
