"""Own bounds: the estimator against quadrature, and what it refuses."""

import math
from types import SimpleNamespace

import pytest
import torch

from mdlm_atat.ablation.measure import _own_bound
from mdlm_atat.ablation.score import Scoring
from mdlm_atat.config import (
    AtatConfig,
    CurriculumConfig,
    GenMD4Config,
    ImportanceConfig,
)
from mdlm_atat.genmd4 import OwnTokenDiffusion
from mdlm_atat.own_bound import OwnBound, estimate, hide_some, own_bound, process_of
from mdlm_atat.policy import AdaptiveMasking
from mdlm_atat.reverse import ReverseRate, rate_term
from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Cosine, LinearSigma, LogLinear
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.masking import UniformMasking
from mdlm_core.tasks import MaskedDiffusion, measure
from mdlm_core.testing.tiny import tiny_batch, tiny_source

from .toy import MASK, MASKS, ROWS, L, Table, V, chance_of, index, quadrature, shifted

KAPPA = 0.8
RANKS = torch.tensor([0.15, 0.5, 0.95, 0.5])
EXPONENTS = torch.tensor([0.6, 1.0, 1.9, 1.0])
SMALL = ImportanceConfig(
    learned=0.0, frequency=1.0, width=8, heads=2, blocks=1, conv_kernel=3
)
STEADY = CurriculumConfig(preset="none", warmup=0, final_uniform=0.0)


# ---- the reverse rate --------------------------------------------------------


def test_rate_term_is_the_relative_entropy_of_counts():
    """Of Poisson counts in a unit of time, summed over the counts."""
    counts = torch.arange(80, dtype=torch.float64)

    def log_chance(rate):
        return counts * math.log(rate) - rate - torch.lgamma(counts + 1)

    for a, r in [(0.5, 2.0), (3.0, 3.0), (7.0, 0.4)]:
        p, q = log_chance(a), log_chance(r)
        expected = float((p.exp() * (p - q)).sum())
        found = rate_term(*(torch.tensor(x, dtype=torch.float64) for x in (a, r)))
        assert float(found) == pytest.approx(expected, abs=1e-9)


def test_rate_term_without_a_jump_costs_the_rate():
    rate = torch.tensor([0.3, 4.0], requires_grad=True)
    cost = rate_term(torch.zeros(2), rate)
    torch.testing.assert_close(cost, rate)
    [slope] = torch.autograd.grad(cost.sum(), [rate])
    torch.testing.assert_close(slope, torch.ones(2))


def reverse_rate(**settings):
    with global_seed(Noise(0)):
        return ReverseRate(
            ImportanceConfig(width=16, heads=2, conv_kernel=3, **settings),
            vocab_size=13,
            mask_id=5,
            length=16,
        )


def test_reverse_rate_starts_at_that_of_uniform_masks():
    batch, t = tiny_batch(), torch.tensor([0.01, 0.3, 0.7, 1.0])
    ratio = reverse_rate()(batch, t)
    assert ratio.shape == batch.tokens.shape
    assert ratio.dtype == torch.float32
    assert 0 < ratio.abs().max() < 0.2


def test_every_parameter_of_the_reverse_rate_has_a_gradient():
    network, batch = reverse_rate(), tiny_batch()
    ratio = network(batch, torch.tensor([0.01, 0.3, 0.7, 1.0]))
    (ratio * torch.linspace(-1, 1, 16)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name


# ---- masks that hide something -----------------------------------------------


def test_masks_that_hide_something_have_their_conditional_law():
    m = torch.tensor([0.02, 0.6, 0.11, 1e-4], dtype=torch.float64)
    frozen = torch.tensor([False, False, False, True])
    count = 40_000
    keys = Noise(0).uniform(torch.arange(count), 4)
    masked, some = hide_some(keys, ~frozen.expand(count, 4), m.log().expand(count, 4))
    expected_some = 1 - (1 - m[:3]).prod()
    torch.testing.assert_close(some, expected_some.expand(count))
    assert not masked[:, 3].any()
    seen = torch.bincount((masked[:, :3] * torch.tensor([4, 2, 1])).sum(1), minlength=8)
    law = chance_of(MASKS, m[:3]) / expected_some
    assert seen[0] == 0
    z = (seen - count * law)[1:] / (count * law * (1 - law))[1:].sqrt()
    assert z.abs().max() < 4


def test_masks_at_the_ends_of_time():
    free = torch.tensor([[True, True, False]])
    keys = torch.tensor([[0.9, 0.9, 0.9]], dtype=torch.float64)
    all_hidden, some = hide_some(keys, free, torch.zeros(1, 3, dtype=torch.float64))
    assert all_hidden.tolist() == [[True, True, False]]
    assert some == 1
    log_m = torch.full((1, 3), -600.0, dtype=torch.float64)
    one, some = hide_some(keys, free, log_m)
    assert one.sum() == 1
    assert float(some) == pytest.approx(2 * math.exp(-600), rel=1e-9)
    none, some = hide_some(keys, torch.zeros_like(free), log_m)
    assert not none.any()
    assert some == 0


# ---- the estimator -----------------------------------------------------------


def policy_of(*, reverse_step=0.5, **settings):
    source = SimpleNamespace(
        tokenizer=SimpleNamespace(vocab_size=V, mask_id=MASK), length=L
    )
    config = AtatConfig(
        importance=SMALL,
        temperature=1 / KAPPA,
        **{"objective": "nelbo", "curriculum": STEADY, "strategy": "proportional"}
        | settings,
    )
    with global_seed(Noise(1)):
        policy = AdaptiveMasking(config, source=source)
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape)
            parameter.data.add_(reverse_step * noise / parameter.shape[-1] ** 0.5)
    policy.frequency.rank.copy_(RANKS)
    policy.frequency.counted.fill_(True)
    policy.advance(10, 20)
    return policy.eval()


def check(process, expected):
    """Hold that the estimate of each row is the integral, within its error."""
    copies = 80
    rows = ROWS.repeat(copies, 1)
    found = estimate(process, Batch.of(rows), draws=24, noise=Noise(2))
    values = found.nats.detach().view(copies, len(ROWS))
    error = values.std(0) / copies**0.5
    z = (values.mean(0) - expected) / error
    assert z.abs().max() < 4
    assert z.square().mean() < 2
    assert (error < 0.03 * expected).all(), "the test sees errors of a few percent"
    told = found.se.view(copies, len(ROWS)).square().mean(0).sqrt()
    assert (told > 0.7 * values.std(0)).all(), "the error that is told is no smaller"


@pytest.mark.parametrize(
    ("settings", "schedule"),
    [
        ({}, LogLinear(eps=0.2)),
        ({"position_bias": 0.4}, LinearSigma(sigma_min=0.3, sigma_max=2.0)),
        ({"shape": "power"}, Cosine()),
        ({"sharpness_power": 1.0}, Cosine()),
        ({"sharpness_power": 0.5}, LinearSigma(sigma_min=0.5, sigma_max=2.0)),
    ],
    ids=["logit-shift", "position", "power", "sharpness", "late start"],
)
def test_adaptive_masking_against_quadrature(settings, schedule):
    """Chances by bisection, their speed by differences, the rate term by hand."""
    table, policy = Table(seed=3), policy_of(**settings)
    module = MaskedDiffusion(table, schedule=schedule, policy=policy)
    process = process_of(module)
    last = schedule.mask_rate(torch.ones((), dtype=torch.float64))

    def time(u):
        return schedule.time_of((u * last).clamp(min=schedule.mask_rate(0 * last)))

    def log_chances(rows, log_u):
        u = log_u.exp()
        value = RANKS.double()[rows]
        deviation = value.std(1, correction=0, keepdim=True)
        score = value - value.mean(1, keepdim=True)
        score = torch.where(deviation > 1e-6, score / deviation, 0.0)
        power = settings.get("sharpness_power", 0.0)
        offset = KAPPA * (1 - time(u)[:, None]) ** power * score
        offset = offset + settings.get("position_bias", 0) * torch.tensor([-1.0, 0, 1])
        if settings.get("shape") == "power":
            return torch.exp(-offset) * log_u[:, None]
        return shifted(offset, u).log()

    def costs(batch, masked, u):
        rows, step = batch.tokens, 1e-4
        ahead, behind = (log_chances(rows, u.log() + h) for h in (-step, -3 * step))
        here = log_chances(rows, u.log() - 2 * step)
        speed = (ahead - behind) / (2 * step) / u[:, None]
        assert (speed[here < -1e-6] > 0).all()
        canvas = batch.with_tokens(rows.masked_fill(masked, MASK))
        rate = policy.reverse(canvas, time(u)).double().exp() / u[:, None]
        term = speed * (speed / rate).log() - speed + rate
        cost = speed * table.nll(rows, masked) + term
        return torch.where(masked, cost, 0.0).sum(1)

    expected = quadrature(
        lambda batch, u: log_chances(batch.tokens, u.log()).exp(),
        costs,
        stretch=3.0 if settings.get("shape") == "power" else 1.0,
        nodes=30,
    )
    with torch.no_grad():
        check(process, expected)


def test_own_token_schedules_against_quadrature():
    module = OwnTokenDiffusion(Table(seed=3), GenMD4Config(), schedule=LogLinear())
    with torch.no_grad():
        module.log_exponents.copy_(EXPONENTS.log())
    w, logits = EXPONENTS.double(), module.backbone.table.detach()

    def costs(batch, masked, u):
        canvas = batch.tokens.masked_fill(masked, MASK)
        tilted = logits[index(canvas)] + w * u.log()[:, None, None]
        mu = torch.softmax(tilted[..., :MASK], -1)
        own = mu.gather(2, batch.tokens[..., None])[..., 0]
        rate = (mu * w[:MASK]).sum(-1)
        cost = w[batch.tokens] * (-own.log() - 1) + rate
        return torch.where(masked, cost, 0.0).sum(1) / u

    expected = quadrature(
        lambda batch, u: u[:, None] ** w[batch.tokens], costs, stretch=4.0
    )
    with torch.no_grad():
        check(module.own_process(), expected)


# ---- on held-out rows --------------------------------------------------------


def tiny_genmd4():
    catalog, source = load_catalog(), tiny_source()
    run = resolve(catalog, sets=["task.name=genmd4"], tiny=True).config
    task = catalog.build("task", run.task, run=run, catalog=catalog)
    with global_seed(Noise(0)):
        module = task.build(source)
        for parameter in module.backbone.parameters():
            parameter.data.add_(0.2 * torch.randn(parameter.shape))
    return module, source


def test_equal_exponents_have_the_uniform_bound():
    module, source = tiny_genmd4()
    own = own_bound(module, source, draws=16, noise=Noise(0))
    uniform = measure(module.backbone, source, draws=16, noise=Noise(0))
    assert isinstance(own, OwnBound)
    assert own.rows == uniform.rows == source.size("validation")
    assert own.tokens == uniform.tokens
    assert own.nats_se < 0.1 * own.nats
    assert abs(own.nats - uniform.nats) < 3 * math.hypot(own.nats_se, uniform.nats_se)


def test_a_run_gives_its_own_data_and_the_same_number_again():
    module, source = tiny_genmd4()
    module.train()
    run = SimpleNamespace(module=module, source=source)
    first = own_bound(run, draws=3, noise=Noise(0), rows=5)
    assert first == own_bound(module, source, draws=3, noise=Noise(0), rows=5)
    assert first != own_bound(run, draws=3, noise=Noise(1), rows=5)
    assert first.rows == 5
    assert first.draws == 3
    assert "genmd4" in first.label
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_refusals():
    table, schedule = Table(), LogLinear()
    plain = MaskedDiffusion(table, schedule=schedule, policy=UniformMasking())
    weighted = MaskedDiffusion(
        table, schedule=schedule, policy=policy_of(objective="ht")
    )
    with pytest.raises(UsageError, match="hides tokens uniformly"):
        own_bound(plain, tiny_source(), draws=2, noise=Noise(0))
    with pytest.raises(UsageError, match=r"objective=ht[\s\S]*uniform bound"):
        own_bound(weighted, tiny_source(), draws=2, noise=Noise(0))
    with pytest.raises(UsageError, match="pass source"):
        own_bound(tiny_genmd4()[0], draws=2, noise=Noise(0))


def test_a_bias_that_fell_to_zero_is_refused_and_an_ablation_notes_it():
    def module(step, **settings):
        policy = policy_of(
            curriculum=CurriculumConfig(preset="none", warmup=4), **settings
        )
        policy.advance(step, 100)
        return MaskedDiffusion(Table(), schedule=LogLinear(), policy=policy)

    way_out = r"final_uniform=0, or evaluate an earlier checkpoint"
    for step in (0, 99, 100):
        with pytest.raises(UsageError, match=way_out):
            own_bound(module(step), tiny_source(), draws=2, noise=Noise(0))
        process_of(module(step, position_bias=0.3))
    process_of(module(50))
    run = SimpleNamespace(module=module(100), source=tiny_source())
    found = _own_bound(run, Scoring(rows=4, draws=2), run.source)
    assert found["own_bound"] is None
    assert "final_uniform=0" in found["no_own_bound"]


def test_labels_name_the_schedule():
    def label(**settings):
        policy = policy_of(**settings)
        module = MaskedDiffusion(Table(), schedule=LogLinear(), policy=policy)
        return process_of(module).label

    assert "logit-shift" in label()
    assert "kappa = 0.8" in label()
    assert "power" in label(shape="power")
