"""The policy as a whole: what it asks of its parts, and what it must leave alone."""

import pytest
import torch
from scipy.stats import norm
from torch import nn

from mdlm_atat.config import AtatConfig, CurriculumConfig, ImportanceConfig
from mdlm_atat.policy import build
from mdlm_core.config.components import DiTConfig
from mdlm_core.diffusion import (
    Corrupted,
    Draw,
    LinearSigma,
    LogLinear,
    Times,
    corrupt,
    masked_cross_entropy,
    rates_of,
)
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.masking import UniformMasking
from mdlm_core.nn.dit import DiT
from mdlm_core.tasks import MaskedDiffusion
from mdlm_core.testing import tiny_batch, tiny_canvas, tiny_source

V, MASK, L = 12, 11, 16
REAL = CurriculumConfig(preset="none", warmup=0, final_uniform=0.0)
T = torch.tensor([0.2, 0.4, 0.6, 0.8]).double()


def policy(source=True, curriculum=REAL, **changes):
    sizes = {"width": 16, "blocks": 1, "heads": 2, "frequency_tokens": 500}
    names = {f.name for f in ImportanceConfig.__dataclass_fields__.values()}
    inner = {key: changes.pop(key) for key in list(changes) if key in names}
    config = AtatConfig(
        importance=ImportanceConfig(**sizes | inner),
        curriculum=curriculum,
        **{"strategy": "proportional", "temperature": 0.5} | changes,
    )
    with global_seed(Noise(0)):
        return build(config, source=tiny_source() if source else None)


def rows(count=4):
    return tiny_batch(rows=count, vocab_size=V, mask_id=MASK)


def denoiser(seed=1):
    config = DiTConfig(blocks=1, width=16, heads=2, cond_width=8, dropout=0.0)
    with global_seed(Noise(seed)):
        model = DiT(config, vocab_size=V, mask_id=MASK, length=L)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    return model


def noised(ours, batch, t=T, schedule=None, noise=0, weight=None):
    return corrupt(
        batch,
        Times(t, torch.ones_like(t) if weight is None else weight),
        schedule=schedule or LogLinear(),
        policy=ours,
        noise=Noise(noise),
        mask_id=MASK,
    )


# ---- importance -------------------------------------------------------------


def test_importance_is_the_mixture_of_network_and_rank():
    ours, batch = policy(learned=0.6, frequency=0.3), rows()
    expected = 0.6 * ours.estimator(batch, T) + 0.3 * ours.frequency(batch.tokens)
    torch.testing.assert_close(ours.importance(batch, T), expected)
    assert not ours.importance(batch, T).requires_grad
    alone = policy(learned=0.0, frequency=1.0)
    assert alone.estimator is None
    assert torch.equal(alone.importance(batch, T), alone.frequency(batch.tokens))
    alone = policy(learned=1.0, frequency=0.0)
    assert alone.frequency is None
    assert torch.equal(alone.importance(batch, T), alone.estimator(batch, T))


def test_importance_of_a_canvas_does_not_know_what_is_hidden():
    ours, batch = policy(), rows()
    canvas = tiny_canvas(batch, MASK)
    found = ours.importance(canvas, T)
    assert ((found > 0) & (found < 1)).all()
    assert torch.equal(ours.frequency(canvas.tokens[0]), torch.full((L,), 0.5))


@pytest.mark.parametrize(
    "changes", [{"learned": 0.0, "frequency": 0.0}, {"strategy": "time_only"}]
)
def test_a_policy_without_importance_says_so(changes):
    with pytest.raises(UsageError, match=r"no importance.*time_only"):
        policy(source=False, **changes).importance(rows(), T)


@pytest.mark.parametrize("learned", [0.0, 0.7])
def test_importance_needs_data(learned):
    with pytest.raises(ConfigError, match=r"needs the data.*importance\.learned=0"):
        policy(source=False, learned=learned)


# ---- rates ------------------------------------------------------------------


def test_rates_come_from_importance_and_curriculum():
    ours, batch, schedule = policy(position_bias=0.3), rows(), LogLinear()
    found = ours.rates(batch, T, schedule)
    importance = ours.importance(batch, T)
    expected = ours.masking.rates(importance, batch.free, T, schedule, 2.0)
    assert torch.equal(found.mask_prob, expected.mask_prob)
    assert torch.equal(found.weight, expected.weight)
    assert ours.curriculum.kappa == 2
    first = torch.corrcoef(torch.stack((importance[0].double(), found.mask_prob[0])))
    assert first[0, 1] > 0.5


def test_rates_have_no_gradient_and_are_exact_under_autocast():
    ours, batch = policy(), rows()
    plain = ours.rates(batch, T, LogLinear())
    assert not plain.mask_prob.requires_grad
    assert not plain.weight.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        again = rates_of(ours, batch, T, LogLinear(), Noise(0))
    assert torch.equal(again.mask_prob, plain.mask_prob)


def refusing(*args):
    raise AssertionError("the network was asked")


@pytest.mark.parametrize("context", ["clean", "visible"])
def test_without_a_bias_rates_are_those_of_uniform_masking(context):
    ours = policy(context=context, curriculum=CurriculumConfig(), strategy="balanced")
    ours.estimator.forward = refusing
    for step in (0, 5, 9, 99):  # warm-up, and the last step
        ours.advance(step, 100)
        found = rates_of(ours, rows(), T, LogLinear(), Noise(0))
        expected = UniformMasking().rates(rows(), T, LogLinear())
        assert torch.equal(found.mask_prob, expected.mask_prob)
        assert torch.equal(found.weight, expected.weight)
    ours.advance(50, 100)
    with pytest.raises(AssertionError, match="was asked"):
        rates_of(ours, rows(), T, LogLinear(), Noise(0))


def test_a_position_bias_needs_no_importance():
    ours = policy(source=False, strategy="time_only", position_bias=0.7)
    chance = ours.rates(rows(), T, LogLinear()).mask_prob
    assert (chance[0].diff() > 0).all()
    assert chance[0].mean().item() == pytest.approx(0.999 * 0.2)
    torch.testing.assert_close(
        chance[0],
        ours.rates(rows().with_tokens(rows().tokens.flip(1)), T, LogLinear()).mask_prob[
            0
        ],
    )


# ---- one training step ------------------------------------------------------


def step(masking, t_sampling="stratified", seed=1):
    """Return the loss of one step, and the gradients of the denoiser."""
    module = MaskedDiffusion(
        denoiser(seed), schedule=LogLinear(), policy=masking, t_sampling=t_sampling
    )
    if hasattr(masking, "advance"):
        module.advance(0, 100)
    loss = module(rows(), Draw(Noise(3), torch.arange(4), 4, step=2))
    (loss.total / loss.count).backward()
    return loss, [parameter.grad for parameter in module.backbone.parameters()]


@pytest.mark.parametrize("t_sampling", ["stratified", "bell", "importance", "counts"])
@pytest.mark.parametrize(
    "changes", [{"learned": 0.0, "frequency": 0.0}, {"strategy": "time_only"}]
)
def test_a_uniform_variant_is_a_step_of_core_bit_for_bit(changes, t_sampling):
    ours = policy(source=False, **changes)
    assert not list(ours.parameters())
    loss, gradients = step(ours, t_sampling)
    plain, expected = step(UniformMasking(), t_sampling)
    assert torch.equal(loss.total, plain.total)
    assert torch.equal(loss.masked, plain.masked)
    for ours_, theirs in zip(gradients, expected, strict=True):
        assert torch.equal(ours_, theirs)


def test_in_the_warm_up_the_denoiser_learns_as_in_core():
    ours = policy(curriculum=CurriculumConfig(), strategy="balanced")
    loss, gradients = step(ours)
    plain, expected = step(UniformMasking())
    assert loss.total > plain.total  # the network has a loss of its own
    for ours_, theirs in zip(gradients, expected, strict=True):
        assert torch.equal(ours_, theirs)
    assert all(parameter.grad is not None for parameter in ours.parameters())


@pytest.mark.parametrize("context", ["clean", "visible"])
@pytest.mark.parametrize("target", ["loss_rank", "loss_ema", "el2n", "excess"])
def test_neither_learns_from_the_loss_of_the_other(context, target):
    ours, backbone = policy(context=context, target=target), denoiser()
    corrupted = noised(ours, rows())
    loss = masked_cross_entropy(backbone, corrupted, residual=ours.needs_residual)
    assert ours.needs_residual == (target == "el2n")
    more = {"residual": loss.residual} if ours.needs_residual else {}
    extra = ours.auxiliary_loss(corrupted, loss.nll, **more)
    loss.total.backward()
    assert all(parameter.grad is None for parameter in ours.parameters())
    backbone.zero_grad(set_to_none=True)
    extra.backward()
    assert all(parameter.grad is None for parameter in backbone.parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


# ---- the loss of the network ------------------------------------------------


def test_the_auxiliary_loss_is_a_mean_squared_error():
    ours = policy(bins=2, loss_weight=0.3)
    corrupted = noised(ours, rows())
    masked, free = corrupted.masked, corrupted.batch.free
    nll = 3 * Noise(1).uniform(torch.arange(int(masked.sum())), 1)[:, 0].float()
    found = ours.auxiliary_loss(corrupted, nll)
    learned = ours.estimator(rows(), T)
    dense = torch.zeros(4, L)
    dense[masked] = nll
    total = 0.0
    for half in (slice(0, 2), slice(2, 4)):  # t below and above 1 / 2
        inside = dense[half][masked[half]].double()
        for row in range(*half.indices(4)):
            errors = []
            for i in masked[row].nonzero()[:, 0].tolist():
                z = (dense[row, i].double() - inside.mean()) / inside.std(correction=0)
                errors.append((learned[row, i].item() - norm.cdf(z.item())) ** 2)
            total += int(free[row].sum()) * sum(errors) / len(errors)
    assert found.item() == pytest.approx(0.3 * total / int(free.sum()), rel=1e-5)


def test_a_batch_with_nothing_hidden_still_has_a_gradient():
    ours, batch = policy(), rows()
    nothing = torch.zeros(4, L, dtype=torch.bool)
    corrupted = Corrupted(batch, batch.tokens, nothing, torch.ones(4, L), T.float())
    ours.advance(0, 10)
    loss = ours.auxiliary_loss(corrupted, torch.zeros(0))
    assert loss.item() == 0
    loss.backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    ours.advance(1, 10)
    assert ours.targets.loss.running.abs().max() == 0


def test_a_visible_network_reads_the_canvas_and_a_clean_one_the_row():
    for context in ("clean", "visible"):
        ours, seen = policy(context=context), []
        forward = ours.estimator.forward
        corrupted = noised(ours, rows())
        ours.estimator.forward = lambda batch, t, f=forward, s=seen: (
            s.append(batch.tokens),
            f(batch, t),
        )[1]
        nll = torch.rand(
            int(corrupted.masked.sum()), generator=torch.Generator().manual_seed(0)
        )
        ours.auxiliary_loss(corrupted, nll)
        expected = rows() if context == "clean" else corrupted.batch
        assert torch.equal(seen[0], expected.tokens)


def test_a_schedule_that_is_a_module_does_not_become_a_part():
    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def mask_rate(self, t):
            return t * 0.9

        def weight(self, t):
            return 1 / t

        def dalpha(self, t):
            return torch.full_like(t, -0.9)

    ours = policy()
    before = set(ours.state_dict())
    ours.rates(rows(), T, Learned())
    assert set(ours.state_dict()) == before


# ---- learning ---------------------------------------------------------------


def test_the_network_finds_the_tokens_that_cost_most():
    ours = policy(learned=1.0, frequency=0.0)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=3e-3)
    batch = tiny_batch(rows=16, vocab_size=V, mask_id=MASK)
    for index in range(60):
        ours.advance(index, 60)
        t = 0.05 + 0.9 * Noise(index).uniform(torch.arange(16), 1)[:, 0]
        corrupted = noised(ours, batch, t, noise=index)
        row = corrupted.masked.nonzero()[:, 0]
        nll = 3 * t[row] + 0.1 * (corrupted.targets[corrupted.masked] % 4)
        optimizer.zero_grad()
        (10 * ours.auxiliary_loss(corrupted, nll.float())).backward()
        optimizer.step()
    learned = ours.importance(batch, torch.full((16,), 0.5))
    mean = [learned[batch.tokens.remainder(4) == k].mean().item() for k in range(4)]
    assert mean == sorted(mean)
    assert mean[3] - mean[0] > 0.4


def test_focus_looks_at_the_importance_of_free_tokens():
    curriculum = CurriculumConfig(warmup=0, final_uniform=0.0, focus=3.0)
    ours = policy(curriculum=curriculum, strategy="balanced")
    ours.advance(0, 100)
    ours.advance(10, 100)
    batch = rows()
    corrupted = noised(ours, batch)
    ours.auxiliary_loss(corrupted, torch.ones(int(corrupted.masked.sum())))
    assert ours.curriculum.histogram.sum() == batch.free.sum()
    ours.advance(11, 100)
    inside = ours.importance(batch, T)[batch.free].double()
    low, high = ours.curriculum.quantiles.tolist()
    assert (inside <= low).double().mean().item() == pytest.approx(0.3, abs=0.05)
    assert (inside >= high).double().mean().item() == pytest.approx(0.3, abs=0.05)
    found = ours.rates(batch, T, LogLinear())
    spread = found.weight.masked_fill(~batch.free, 1.0 / 0.2)
    assert ours.curriculum.kappa == 0
    assert (spread[0].max() / spread[0].min()).item() == pytest.approx(3.0)


def test_dynamic_stages_hear_the_mean_loss_of_hidden_tokens():
    curriculum = CurriculumConfig(dynamic=True)
    ours = policy(curriculum=curriculum, strategy="balanced")
    ours.advance(0, 100)
    corrupted = noised(ours, rows())
    nll = torch.arange(int(corrupted.masked.sum())).float()
    ours.auxiliary_loss(corrupted, nll)
    total, count = ours.curriculum.pending.tolist()
    assert (total, count) == (nll.sum().item(), len(nll))


@pytest.mark.parametrize(
    ("changes", "schedule", "t_sampling", "told"),
    [
        ({"sharpness_power": 1.0}, LogLinear(), "stratified", "could fall as t"),
        ({"shape": "power"}, LinearSigma(), "stratified", "hides 0.001"),
        ({}, LogLinear(), "counts", "hides tokens uniformly"),
    ],
)
def test_what_goes_wrong_later_is_refused_before_training(
    changes, schedule, t_sampling, told
):
    backbone = DiT(
        DiTConfig(blocks=1, width=16, heads=2),
        vocab_size=258,
        mask_id=257,
        length=16,
    )
    settings = {"schedule": schedule, "t_sampling": t_sampling}
    chosen = policy(curriculum=CurriculumConfig(), temperature=1.2, **changes)
    assert chosen.curriculum.kappa == 0  # so that no rate is wrong yet
    with pytest.raises(ConfigError, match=told):
        MaskedDiffusion(backbone, policy=chosen, **settings)
    plain = policy(strategy="time_only", **changes)
    MaskedDiffusion(backbone, policy=plain, **settings)
