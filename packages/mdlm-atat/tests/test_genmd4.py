"""Schedules learned for each token: the loss, its gradient, the sampler, the task."""

import math

import pytest
import torch

from mdlm_atat.config import GenMD4Config
from mdlm_atat.genmd4 import OwnTokenDiffusion, own_token_cost
from mdlm_atat.genmd4_sampler import OwnTokenSampler, step_law
from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, LogLinear, nelbo
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.nn.dit import DiT
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.testing.contract import cases
from mdlm_core.testing.tiny import tiny_batch, tiny_source
from mdlm_core.train.optim import build_optimizer

from .toy import (
    CANVASES,
    MASK,
    MASKS,
    ROWS,
    L,
    Table,
    V,
    chance_of,
    gumbel,
    jump_law,
)

EXPONENTS = torch.tensor([0.6, 1.0, 1.9])
SETTINGS = {"task-genmd4": {"w_init": 1.3}}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.id)
        for case in cases("atat", settings=SETTINGS)
        if case.id.startswith("task-")
    ],
)
def test_task_laws(case):
    case.run()


def module_of(backbone, exponents=None, *, eps=1e-3, **settings):
    module = OwnTokenDiffusion(
        backbone, GenMD4Config(**settings), schedule=LogLinear(eps=eps)
    )
    if exponents is not None:
        with torch.no_grad():
            module.log_exponents[: len(exponents)] = exponents.log()
    return module


def tiny_dit():
    config = resolve(load_catalog(), sets=["model.name=dit"], tiny=True).config.model
    backbone = DiT(config.config, vocab_size=13, mask_id=5, length=16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return backbone.eval()


def gradient(loss, backbone):
    found = torch.autograd.grad(loss, list(backbone.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


# ---- the loss ----------------------------------------------------------------


def test_equal_exponents_are_plain_masked_diffusion():
    """With w = 1 and no learning of w: core's loss, under core's masks."""
    backbone, batch = tiny_dit(), tiny_batch()
    module = module_of(backbone, w_lr_factor=0.0)
    draw = Draw(Noise(3), torch.arange(len(batch)), len(batch))
    ours = module(batch, draw)
    plain = nelbo(backbone, batch, schedule=module.schedule, draw=draw)
    assert torch.equal(ours.masked, plain.masked)
    assert int(ours.count) == int(plain.count)
    torch.testing.assert_close(ours.total, plain.total, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours.nll, plain.nll, rtol=1e-4, atol=1e-5)
    ours, plain = (gradient(x.total, backbone) for x in (ours, plain))
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4 * plain.abs().max())


def test_learning_averages_two_masks_of_a_row():
    backbone, batch = tiny_dit(), tiny_batch()
    module = module_of(backbone)
    draw = Draw(Noise(3), torch.arange(len(batch)), len(batch))
    both = module(batch, draw)
    first = module_of(backbone, w_lr_factor=0.0)(batch, draw)
    assert torch.equal(both.masked, first.masked)
    torch.testing.assert_close(both.nll, first.nll)
    second = 2 * both.total - first.total  # the loss is linear in the masks
    assert second > 0
    assert abs(second - first.total) > 1e-3
    [slope] = torch.autograd.grad(both.total, [module.log_exponents])
    assert slope.isfinite().all()
    assert slope[5] == 0, "the mask has no schedule"
    assert slope.ne(0).sum() > 6


def test_the_cost_under_autocast_is_that_in_float32():
    generator = torch.Generator().manual_seed(0)
    log_mu = torch.randn(5, 40, generator=generator).log_softmax(1)
    exponents = torch.rand(40, generator=generator) + 0.5
    targets = torch.arange(5)
    expected = own_token_cost(log_mu, targets, exponents)
    with torch.autocast("cpu", torch.bfloat16):
        found = own_token_cost(log_mu, targets, exponents)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_gradient_of_the_exponents_is_that_of_the_expected_loss():
    """Over all pairs of masks, the estimator averages to the exact derivative."""
    t, x = 0.37, torch.tensor([0, 2, 1])
    table = Table(seed=4, error=1.0)
    module = module_of(table, EXPONENTS)

    def exact(log_w):
        """The expected loss of x, by hand in float64."""
        w, u = log_w.exp(), torch.tensor(t, dtype=torch.float64)
        chances = 0.999 * u ** w[x]
        logits = table.table.detach()[..., :MASK]
        total = 0.0
        for masked in MASKS:
            canvas = x.masked_fill(masked, MASK)
            mu = torch.softmax(
                logits[int((canvas * torch.tensor([16, 4, 1])).sum())] + w * u.log(), -1
            )
            own = mu[torch.arange(L), x]
            cost = w[x] * (-own.log() - 1) + mu @ w
            chance = torch.where(masked, chances, 1 - chances).prod()
            total = total + chance * (cost * masked).sum() / u
        return total

    log_w = EXPONENTS.double().log().requires_grad_()
    value = exact(log_w)
    [expected] = torch.autograd.grad(value, [log_w])

    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    masks = torch.stack((MASKS[pairs[:, 0]], MASKS[pairs[:, 1]]))  # (2, 64, L)
    batch = Batch.of(x.expand(64, L).clone())
    times = torch.full((64,), t, dtype=torch.float64)
    losses, _ = module.row_losses(batch, times, masks)
    chances = module.log_chance(batch, times).detach().exp()
    weight = chance_of(masks[0], chances) * chance_of(masks[1], chances)
    average = (losses.double() * weight).sum()
    assert float(average.detach()) == pytest.approx(float(value.detach()), rel=1e-5)
    [found] = torch.autograd.grad(average, [module.log_exponents])
    torch.testing.assert_close(
        found[:MASK].double(), expected, rtol=1e-4, atol=1e-5 * expected.abs().max()
    )
    alone, _ = module.row_losses(batch, times, masks[:1])  # without the score
    [naive] = torch.autograd.grad((alone * weight).sum(), [module.log_exponents])
    assert (naive[:MASK] - expected).abs().max() > 0.1 * expected.abs().max()


def test_masks_are_drawn_with_the_chance_of_each_token():
    rows = 4000
    module = module_of(Table(), EXPONENTS)
    batch = Batch.of(torch.tensor([[0, 1, 2]]).repeat(rows, 1))
    loss = module(batch, Draw(Noise(1), torch.arange(rows), rows))
    # over t uniform in (0, 1) the mean of R(1) t^w is R(1) / (w + 1)
    expected = 0.999 / (EXPONENTS + 1)
    error = (expected * (1 - expected) / rows).sqrt()
    assert ((loss.masked.float().mean(0) - expected).abs() < 4 * error).all()


# ---- optimiser and refusals --------------------------------------------------


def test_exponents_learn_at_their_own_rate():
    run = resolve(load_catalog(), tiny=True).config
    module = module_of(tiny_dit(), w_lr_factor=7.0)
    groups = build_optimizer(module, run.train).param_groups
    [own] = [g for g in groups if any(p is module.log_exponents for p in g["params"])]
    assert own["lr_factor"] == 7
    assert own["weight_decay"] == 0
    fixed = module_of(tiny_dit(), w_lr_factor=0.0)
    assert not fixed.log_exponents.requires_grad
    assert build_optimizer(fixed, run.train).param_groups


def test_a_masking_policy_is_refused():
    catalog = load_catalog()
    sets = ["task.name=genmd4", "masking.name=atat"]
    run = resolve(catalog, sets=sets, tiny=True).config
    task = catalog.build("task", run.task, run=run, catalog=catalog)
    with pytest.raises(ConfigError, match=r"masking\.name=uniform"):
        task.build(tiny_source())


def test_start_of_the_exponents():
    assert module_of(Table(), w_init=2.5).exponents.allclose(torch.tensor(2.5))


# ---- the sampler -------------------------------------------------------------


def test_step_law_is_the_chance_to_be_revealed_and_to_stay():
    mu = torch.softmax(gumbel("step", 5, V).float(), -1)
    ratio = 0.3
    exponents = torch.cat((EXPONENTS, torch.ones(1)))
    law = step_law(mu.log(), exponents, torch.tensor(math.log(ratio))).exp()
    torch.testing.assert_close(law[:, :V], mu * (1 - ratio**exponents))
    torch.testing.assert_close(law[:, V], (mu * ratio**exponents).sum(1))
    last = step_law(mu.log(), exponents, torch.tensor(-math.inf)).exp()
    torch.testing.assert_close(last[:, :V], mu)
    assert last[:, V].eq(0).all()


def law_in_steps(table, steps, law_of_step):
    """Return the chance of each row, ``(27,)``, of the chain on a grid of `steps`.

    Args:
        table: the denoiser.
        steps: of the grid in t.
        law_of_step: of (log mu, log (s / u)), giving ``(64, L, V)``; the last column
            is to stay masked.
    """
    visible = torch.nn.functional.one_hot(CANVASES, V).double()
    masked = (CANVASES == MASK)[..., None]
    logits = table.table.detach()[..., :MASK]
    chance = torch.zeros(V**L, dtype=torch.float64)
    chance[-1] = 1
    for step in range(steps):
        now, then = 1 - step / steps, 1 - (step + 1) / steps
        tilted = logits + EXPONENTS.double() * math.log(now)
        log_ratio = math.log(then / now) if then > 1e-12 else -math.inf
        law = law_of_step(tilted.log_softmax(-1), torch.tensor(log_ratio))
        law = torch.where(masked, law, visible)
        chance = torch.einsum("z,za,zb,zc->abc", chance, *law.unbind(1)).flatten()
    return chance.view(V, V, V)[:MASK, :MASK, :MASK].flatten()


def by_hand(log_mu, log_ratio):
    keep = torch.exp(log_ratio) ** EXPONENTS.double()
    mu = log_mu.exp()
    stay = (mu * keep).sum(-1, keepdim=True)
    return torch.cat((mu * (1 - keep), stay), -1)


def of_the_package(log_mu, log_ratio):
    return step_law(log_mu.flatten(0, 1), EXPONENTS, log_ratio).exp().view(V**L, L, V)


def test_steps_become_the_process_whose_bound_is_told():
    """On ever finer grids the chain's law is that of the master equation."""
    table, w = Table(seed=2, error=1.5), EXPONENTS.double()

    def flow(s):
        return w * torch.softmax(table.table.detach()[..., :MASK] - s * w, -1)

    exact = jump_law(
        lambda s: flow(s).sum(-1), lambda s: flow(s) / flow(s).sum(-1, True)
    )
    exact = (-exact).exp()
    errors = [
        (law_in_steps(table, steps, of_the_package) - exact).abs().sum()
        for steps in (50, 400)
    ]
    assert errors[1] < 5e-3
    assert errors[1] < errors[0] / 4
    plain = (-jump_law(lambda s: torch.ones(64, L), lambda s: table.laws)).exp()
    assert (exact - plain).abs().sum() > 0.05, "the exponents matter"


def test_samples_follow_the_law_of_their_steps():
    """Chi-squared over all rows, on a coarse grid."""
    table, count, steps = Table(seed=2, error=1.5), 8000, 4
    law = law_in_steps(table, steps, by_hand)
    assert float(law.sum()) == pytest.approx(1)
    sampled = OwnTokenSampler(torch.cat((EXPONENTS, torch.ones(1))), batch_size=3000)(
        Denoiser(table),
        Batch.of(torch.full((count, L), MASK)),
        schedule=LogLinear(),
        noise=Noise(5),
        steps=steps,
    )
    assert sampled.tokens.max() < MASK
    assert int(sampled.nfe.max()) <= steps
    assert ROWS[5].tolist() == [0, 1, 2]  # the order of the law
    number = (sampled.tokens * torch.tensor([9, 3, 1])).sum(1)
    seen = torch.bincount(number, minlength=27)
    statistic = ((seen - count * law).square() / (count * law)).sum()
    assert statistic < 26 + 4 * math.sqrt(2 * 26)


def test_rows_of_a_sample_do_not_depend_on_each_other():
    table = Table(seed=2)
    tokens = torch.full((6, L), MASK)
    tokens[1, 0] = 2
    canvas = Batch.of(tokens)
    steps = []

    def sample(batch, size):
        return OwnTokenSampler(torch.ones(V), batch_size=size)(
            Denoiser(table),
            batch,
            schedule=LogLinear(),
            noise=Noise(0),
            steps=9,
            callback=lambda step, tokens: steps.append(step),
        )

    together = sample(canvas, 4)
    assert together.tokens[1, 0] == 2
    assert steps == list(range(1, len(steps) + 1))
    for row in range(6):
        alone = sample(canvas.select(slice(row, row + 1)), 4)
        assert torch.equal(alone.tokens[0], together.tokens[row])
        assert alone.nfe[0] == together.nfe[row]
