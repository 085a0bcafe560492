"""The objective nelbo: cross-entropy and rate term together are the bound."""

import math

import pytest
import torch
from torch import nn

from mdlm_atat.ablation.diagnostics import _chance, full_strength
from mdlm_atat.importance import FIXED_TIME
from mdlm_core.diffusion import Cosine, Draw, LogLinear
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.tasks import MaskedDiffusion

from .test_policy import REAL, denoiser, noised, policy, rows

SCHEDULES = (LogLinear(), Cosine())


def moved(ours):
    """Return the policy with a reverse rate that has an opinion."""
    nn.init.normal_(ours.reverse.trunk.head.weight, std=0.1)
    return ours


def bound_of(ours, corrupted, nll, schedule, drawn):
    """Return the integrand, with loops, from the chances themselves."""
    t, h = corrupted.t.double(), 1e-5
    clean = corrupted.batch.with_tokens(corrupted.targets)
    importance = ours.importance(clean, torch.full_like(t, FIXED_TIME))
    kappa = ours.curriculum.kappa

    def chance(t):
        return ours.masking.rates(importance, clean.free, t, schedule, kappa).mask_prob

    ratio = ours.reverse(corrupted.batch, corrupted.t).double()
    usual = schedule.weight(t)
    total = 0.0
    rising = (chance(t + h) - chance(t - h)) / (2 * h)
    for index, (row, i) in enumerate(corrupted.masked.nonzero().tolist()):
        speed = (rising[row, i] / chance(t)[row, i]).item()
        rate = usual[row].item() * math.exp(ratio[row, i].item())
        cost = speed * nll[index].item() + speed * math.log(speed / rate) - speed + rate
        total += drawn[row].item() * cost
    return total


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("shape", ["logit-shift", "power"])
def test_both_terms_are_those_of_the_bound(schedule, shape):
    ours = moved(policy(objective="nelbo", loss_weight=0.0, shape=shape))
    drawn = torch.tensor([0.5, 1.0, 2.0, 3.0]).double()
    corrupted = noised(ours, rows(), schedule=schedule, weight=drawn)
    count = int(corrupted.masked.sum())
    nll = 3 * Noise(1).uniform(torch.arange(count), 1)[:, 0].float()
    cross_entropy = (corrupted.weight[corrupted.masked] * nll).sum().item()
    extra = ours.auxiliary_loss(corrupted, nll) * corrupted.batch.free.sum()
    expected = bound_of(ours, corrupted, nll, schedule, drawn)
    assert cross_entropy + extra.item() == pytest.approx(expected, rel=1e-5)
    assert extra.item() > 1e-3


def test_without_a_bias_the_right_rate_costs_nothing():
    ours = policy(objective="nelbo", loss_weight=0.0, temperature=1e9)
    nn.init.zeros_(ours.reverse.trunk.head.weight)
    corrupted = noised(ours, rows())
    nll = torch.ones(int(corrupted.masked.sum()))
    assert abs(ours.auxiliary_loss(corrupted, nll).item()) < 1e-7


def test_scores_do_not_change_with_the_time():
    ours = policy(objective="nelbo")
    offsets = []
    for t in (0.2, 0.5, 0.8):
        chance = ours.rates(rows(), torch.full((4,), t).double(), LogLinear()).mask_prob
        logit = torch.logit(chance[0] / 0.999)
        offsets.append(logit - logit.mean())
    torch.testing.assert_close(offsets[0], offsets[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(offsets[0], offsets[2], atol=1e-6, rtol=0)
    assert offsets[0].std() > 0.5


@pytest.mark.parametrize("objective", ["ht", "nelbo"])
def test_the_diagnostics_look_at_the_chances_of_training(objective):
    ours, schedule = policy(objective=objective), LogLinear()
    t = torch.tensor([0.1, 0.3, 0.6, 0.9]).double()
    assert ours.curriculum.kappa == full_strength(ours)
    trained = ours.rates(rows(), t, schedule).mask_prob
    torch.testing.assert_close(_chance(ours, rows(), t, schedule), trained)


def test_only_the_reverse_rate_learns_from_the_rate_term():
    ours = policy(objective="nelbo", loss_weight=0.0, curriculum=REAL)
    corrupted = noised(ours, rows())
    nll = torch.ones(int(corrupted.masked.sum()))
    ours.auxiliary_loss(corrupted, nll).backward()
    for name, parameter in ours.reverse.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    for parameter in ours.estimator.parameters():
        assert parameter.grad.abs().max() == 0


def test_the_reverse_rate_learns_to_cost_less():
    ours = policy(objective="nelbo", loss_weight=0.0, learned=0.0, frequency=1.0)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=3e-3)
    batch, costs = rows(), []
    for index in range(60):
        corrupted = noised(ours, batch, noise=index % 6)
        nll = torch.ones(int(corrupted.masked.sum()))
        loss = ours.auxiliary_loss(corrupted, nll)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(loss.item())
    assert min(costs) >= 0
    assert sum(costs[-6:]) < 0.8 * sum(costs[:6])


def test_a_whole_step_under_autocast_is_finite_and_reaches_everything():
    ours = policy(objective="nelbo")
    module = MaskedDiffusion(denoiser(), schedule=LogLinear(), policy=ours)
    module.advance(0, 10)
    with torch.autocast("cpu", torch.bfloat16):
        loss = module(rows(), Draw(Noise(3), torch.arange(4), 4, step=2))
    loss.total.backward()
    assert loss.total.isfinite()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_times_that_make_no_bound_are_refused():
    ours = policy(objective="nelbo")
    with pytest.raises(ConfigError, match=r"bell.*task\.t_sampling=stratified"):
        ours.check(LogLinear(), "bell")
    for kind in ("stratified", "uniform", "importance"):
        ours.check(LogLinear(), kind)
    policy(objective="ht").check(LogLinear(), "bell")
