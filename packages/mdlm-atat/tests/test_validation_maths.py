"""The maths of a validation: sound policies pass, and each broken formula fails."""

import math
from dataclasses import replace

import pytest
import torch

import mdlm_atat.importance
import mdlm_atat.masking
from mdlm_atat.config import AtatConfig, ImportanceConfig
from mdlm_atat.policy import AdaptiveMasking
from mdlm_atat.validation import exact, laws, maths
from mdlm_atat.validation.subject import strongest_step
from mdlm_core import load_catalog
from mdlm_core.config.schema import Component
from mdlm_core.diffusion import Cosine, LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Rates
from mdlm_core.testing.tiny import tiny_batch, tiny_source

from .tiny_phase import check, failures, tiny_subject


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phase")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDLM_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture
def full(place):
    return tiny_subject(place, variants=("full",))


# ---- 5 maths ---------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [LogLinear(), Cosine()])
@pytest.mark.parametrize(
    "settings",
    [
        AtatConfig(strategy="proportional"),
        AtatConfig(strategy="inverse", position_bias=0.5, temperature=1.0),
        AtatConfig(strategy="proportional", shape="rescale"),
        AtatConfig(strategy="proportional", objective="nelbo"),
    ],
)
def test_laws_hold_on_sound_policies(place, settings, schedule):
    source = tiny_source()
    tokenizer = source.tokenizer
    batch = tiny_batch(vocab_size=tokenizer.vocab_size, mask_id=tokenizer.mask_id)
    config = tiny_subject(place).configs()["full"]
    small = ImportanceConfig(width=16, heads=2, blocks=1, frequency_tokens=1000)
    settings = replace(settings, importance=small)
    config = replace(config, masking=Component(name="atat", config=settings))
    policy = load_catalog().build("masking", config.masking, source=source)
    masks = laws.Masks(policy, schedule, batch, Noise(0))
    found = list(laws.laws(masks, config))
    assert strongest_step(policy, config.train.steps) > 0
    assert {finding.status for finding in found} == {"pass"}, found


def laws_of(subject):
    """Check the laws on the policy of the first variant."""
    (config, *_) = subject.configs().values()
    policy = subject.policy(config)
    return list(laws.laws(laws.masks_of(subject, config, policy), config))


def break_masking(monkeypatch, name, function):
    """Replace what `masking` imports from `shift`."""
    old = getattr(mdlm_atat.masking, name)
    monkeypatch.setattr(
        mdlm_atat.masking, name, lambda *arguments: function(old(*arguments))
    )


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda sigma: sigma * 0.999, "mean chance"),
        (lambda sigma: sigma.clamp(max=0.999), "m(1)"),
        (lambda sigma: sigma.clamp(min=0.001), "m(0)"),
        (lambda sigma: (sigma + 0.3 * torch.sin(6.3 * sigma)).clamp(0, 1), "falls"),
    ],
)
def test_chances_that_are_wrong_fail(full, monkeypatch, change, broken):
    break_masking(monkeypatch, "solve_shift", change)
    found = failures(laws_of(full))
    assert any(broken in finding.seen for finding in found), found


@pytest.mark.parametrize("factor", [0.9, 1.0001])
def test_weights_that_do_not_fit_fail(full, monkeypatch, factor):
    scheduler = mdlm_atat.masking.AdaptiveMaskingScheduler
    old = scheduler.correction
    monkeypatch.setattr(scheduler, "correction", lambda *a: factor * old(*a))
    found = failures(laws_of(full))
    assert any("E[1{hidden} w]" in finding.seen for finding in found), found


def test_a_biased_weight_is_a_warning(place):
    subject = tiny_subject(place, variants=("frequency_naive",))
    status, seen = check(laws_of, subject)
    assert status == "warn"
    assert "ht_power is 0" in seen


def test_a_velocity_that_is_wrong_fails(full, monkeypatch):
    full.sets = ("masking.objective=nelbo",)
    assert not failures(laws_of(full))
    break_masking(monkeypatch, "velocity", lambda speed: speed * 1.01)
    found = failures(laws_of(full))
    assert any("by finite differences" in finding.seen for finding in found)


def test_a_step_without_bias_that_is_not_cores_fails(full, monkeypatch):
    rates = AdaptiveMasking.rates

    def near(self, *arguments):
        found = rates(self, *arguments)
        return Rates(found.mask_prob, found.weight * (1 + 1e-6))

    assert maths.uniform_is_core(full, full.configs()["full"]).status == "pass"
    monkeypatch.setattr(AdaptiveMasking, "rates", near)
    found = maths.uniform_is_core(full, full.configs()["full"])
    assert found.status == "fail"
    assert "core's uniform masking" in found.seen


def test_a_warm_up_that_is_not_cores_fails(full, monkeypatch):
    rates = AdaptiveMasking.rates

    def only_biased(self, *arguments):
        found = rates(self, *arguments)
        if self.config.strategy == "time_only":
            return found
        return Rates(found.mask_prob, found.weight * (1 + 1e-6))

    monkeypatch.setattr(AdaptiveMasking, "rates", only_biased)
    found = maths.uniform_is_core(full, full.configs()["full"])
    assert found.status == "fail"
    assert "warm-up" in found.seen


def test_a_bound_without_its_rate_term_fails(full, monkeypatch):
    monkeypatch.setattr(exact, "rate_term", lambda a, r: torch.zeros_like(a))
    assert failures(maths.toy(full))


def test_a_schedule_that_falls_must_be_refused(full, monkeypatch):
    assert maths.not_monotone_is_refused().status == "pass"
    monkeypatch.setattr(mdlm_atat.masking, "check_monotone", lambda *arguments: None)
    assert maths.not_monotone_is_refused().status == "fail"


def test_a_phase_that_is_not_monotone_fails_with_the_reason(full):
    full.sets = ("masking.sharpness_power=30", "masking.temperature=0.25")
    status, seen = check(maths.maths, full)
    assert status == "fail"
    assert "cannot take masks back" in seen


def test_masks_drawn_in_two_rounds_have_the_weights_of_uniform_ones(place):
    subject = tiny_subject(place, variants=("proportional",))
    subject.sets = ("masking.importance.context=visible",)
    status, seen = check(laws_of, subject)
    assert status == "pass"
    assert "two rounds" in seen


def test_a_clip_that_bites_is_a_warning(place):
    subject = tiny_subject(place, variants=("inverse",))
    subject.sets = ("masking.temperature=0.1",)
    status, seen = check(laws_of, subject)
    assert status == "warn"
    assert "at the clip" in seen


def test_a_network_that_changes_its_mind_is_a_warning(full, monkeypatch):
    estimator = mdlm_atat.importance.ImportanceEstimator

    def moody(self, batch, t):
        sign = torch.where(t[:, None] < 0.5, 1.0, -1.0)
        place = torch.linspace(-0.4, 0.4, batch.length)
        return 0.5 + sign * place.expand(batch.tokens.shape).float()

    monkeypatch.setattr(estimator, "forward", moody)
    status, seen = check(laws_of, full)
    assert status == "warn"
    assert "because the importance network sees the time" in seen
    full.sets = ("masking.objective=nelbo",)
    assert check(laws_of, full)[0] == "pass"


# ---- the exact model ---------------------------------------------------------------


def any_order(table, row):
    """Return the mean over both orders of -log p of the steps, and -log p."""
    orders = []
    for first, second in ((0, 1), (1, 0)):
        canvas = [exact.MASK, exact.MASK]
        total = -float(table[canvas[0], canvas[1], first, row[first]])
        canvas[first] = row[first]
        total -= float(table[canvas[0], canvas[1], second, row[second]])
        orders.append(total)
    law = sum(math.exp(-total) for total in orders) / 2
    return sum(orders) / 2, -math.log(law)


def test_the_uniform_bound_is_the_mean_over_orders():
    table = exact.denoiser(3)
    rows = [(a, b) for a in (0, 1) for b in (0, 1)]
    found = list(exact.bounds(AtatConfig(), table, kappa=0.0))
    for row, (truth, own, uniform) in zip(rows, found, strict=True):
        bound, law = any_order(table, row)
        assert truth == pytest.approx(law, abs=1e-12)
        assert uniform == pytest.approx(bound, abs=1e-9)
        assert own == pytest.approx(bound, abs=1e-9)
    assert sum(math.exp(-truth) for truth, _, _ in found) == pytest.approx(1.0)


@pytest.mark.parametrize("shape", ["logit-shift", "power"])
@pytest.mark.parametrize("kappa", [-2.0, 0.5, 2.0])
def test_the_bound_of_biased_masks_is_one_and_the_naive_loss_is_not(shape, kappa):
    settings = AtatConfig(shape=shape)
    lowest = math.inf
    for seed in range(3):
        table = exact.denoiser(seed)
        for truth, own, _ in exact.bounds(settings, table, kappa=kappa):
            assert own > truth
        lowest = min(lowest, *exact.naive(settings, table, kappa=kappa))
    assert lowest < -0.05
