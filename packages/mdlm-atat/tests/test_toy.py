"""Bounds against the exact law of the model, on everything that three tokens can do."""

import pytest
import torch

from mdlm_atat.config import AtatConfig, GenMD4Config
from mdlm_atat.genmd4 import OwnTokenDiffusion
from mdlm_atat.masking import AdaptiveMaskingScheduler
from mdlm_atat.reverse import rate_term
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear

from .toy import (
    CANVASES,
    MASK,
    MASKS,
    ROWS,
    Table,
    binary_entropy_to,
    chance_of,
    conditionals,
    everything,
    in_steps,
    index,
    joint,
    jump_law,
    masking_law,
    over_orders,
    quadrature,
    shifted,
)

PLAIN = LogLinear(eps=0.0)
KAPPA = 1.0
VALUES = torch.tensor([0.1, 0.35, 0.9])  # the importance of each token
EXPONENTS = torch.tensor([0.7, 1.0, 1.8])
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def table():
    return Table()


@pytest.fixture(scope="module")
def exact(table):
    """-log of the law of the plain reverse process, rate 1 / t."""
    return jump_law(lambda s: torch.ones(64, 3), lambda s: table.laws)


def scheduler(**settings):
    return AdaptiveMaskingScheduler(AtatConfig(**settings))


def bound(table, masking, *, importance=None, kappa=0.0, reverse=None, stretch=1.0):
    """Return the package's weights and chances, integrated."""

    def rates(batch, u):
        scores = None if importance is None else importance(batch.tokens)
        found = masking.rates(scores, batch.free, u, PLAIN, kappa)
        return [x.expand(batch.tokens.shape) for x in found]

    def costs(batch, masked, u):
        speed = rates(batch, u)[1]
        cost = speed * table.nll(batch.tokens, masked)
        if reverse is not None:
            cost = cost + rate_term(speed, reverse(u)[:, None].expand_as(speed))
        return torch.where(masked, cost, 0.0).sum(1)

    return quadrature(lambda batch, u: rates(batch, u)[0], costs, stretch=stretch)


def by_token(tokens):
    return VALUES[tokens]


def offsets(rows):
    """Return kappa times the standardised importance, by hand; 2.5 is not reached."""
    value = by_token(rows).double()
    deviation = value.std(1, correction=0, keepdim=True)
    centred = value - value.mean(1, keepdim=True)
    return torch.where(deviation > 1e-6, KAPPA * centred / deviation, 0.0)


# ---- bounds ------------------------------------------------------------------


def test_master_equation_is_the_law_over_orders(table, exact):
    torch.testing.assert_close(exact, over_orders(table, [1, 1, 1])[1], **close())


def test_uniform(table, exact):
    found = bound(table, scheduler(strategy="time_only"))
    torch.testing.assert_close(found, over_orders(table, [1, 1, 1])[0], **close())
    assert (found - exact).min() > -TOLERANCE
    check_figures(found, exact, 3.691, 3.546, 0.031, 0.345)


def test_position_dependent(table):
    """t^w_i: a law over orders of its own, and no term for the rates."""
    masking = scheduler(
        strategy="time_only", shape="power", objective="nelbo", position_bias=0.5
    )
    speeds = torch.exp(-0.5 * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64))
    found = bound(table, masking, stretch=3.0)
    expected, law = over_orders(table, speeds.tolist())
    torch.testing.assert_close(found, expected, **close())
    assert (found - law).min() > -TOLERANCE
    check_figures(found, law, 3.650, 3.525, 0.024, 0.312)
    assert (expected - over_orders(table, [1, 1, 1])[0]).abs().max() > 1e-3


def test_token_dependent(table):
    """GenMD4: the rates of the reverse process follow from its law of the token."""
    process = own_token(EXPONENTS, table).own_process()
    found = quadrature(
        lambda batch, u: process.log_chance(batch, u.log(), u).exp(),
        lambda batch, masked, u: process.costs(batch, masked, u.log(), u) / u,
        stretch=3.0,
    )
    w = EXPONENTS.double()

    def mu(canvases, log_u):
        logits = table.table.detach()[index(canvases), :, :MASK]
        return torch.softmax(logits + w * log_u, -1)

    def law(s):
        flow = w * mu(CANVASES, -s)
        return flow / flow.sum(-1, keepdim=True)

    exact = jump_law(lambda s: (w * mu(CANVASES, -s)).sum(-1), law)
    assert (found - exact).min() > -TOLERANCE
    check_figures(found, exact, 3.701, 3.570, 0.035, 0.291)

    def model(rows, masked, u, later, xi):
        said = mu(rows.masked_fill(masked, MASK), u.log()[:, None, None])
        stays = (later / u)[:, None, None] ** w
        own = said.gather(2, rows[..., None])[..., 0]
        rest = (said * stays).sum(-1)
        return torch.special.xlogy(xi, 1 / own) + torch.special.xlogy(
            1 - xi, (1 - xi) / torch.where(rest > 0, rest, 1.0)
        )

    steps = in_steps(lambda rows, u: u[:, None] ** w[rows], model)
    torch.testing.assert_close(found, steps, rtol=0, atol=2e-3)


def test_logit_shift_with_the_plain_reverse_rate(table, exact):
    found = bound(
        table,
        scheduler(objective="nelbo"),
        importance=by_token,
        kappa=KAPPA,
        reverse=lambda u: 1 / u,
    )
    assert (found - exact).min() > -TOLERANCE
    check_figures(found, exact, 4.091, 3.546, 0.174, 1.251)
    plain = over_orders(table, [1, 1, 1])[0]
    assert (found.mean() - plain.mean()) > 1e-2, "the price of knowing the row"

    def model(rows, masked, u, later, xi):
        rho = (1 - later / u)[:, None].expand_as(xi)
        rho = torch.where(rho < 1, rho, 1 - 1e-12)
        return xi * table.nll(rows, masked) + binary_entropy_to(xi, rho)

    steps = in_steps(lambda rows, u: shifted(offsets(rows), u), model)
    torch.testing.assert_close(found, steps, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("settings", "figures"),
    [
        ({"ht_power": 0.0}, (3.607, 3.546, -0.261, 1.003)),  # 1 / t
        ({}, (3.688, 3.546, -0.139, 0.508)),  # 1 / m
        ({"objective": "nelbo"}, (3.714, 3.546, -0.185, 0.825)),  # A, no rate term
    ],
    ids=["1/t", "1/m", "A"],
)
def test_without_the_rate_term_chosen_masks_give_no_bound(
    table, exact, settings, figures
):
    """It falls below -log p for some rows, and is far above for others."""
    found = bound(table, scheduler(**settings), importance=by_token, kappa=KAPPA)
    assert (found - exact).min() < -0.05
    check_figures(found, exact, *figures)


def check_figures(found, exact, mean, law, least, most):
    """Hold that the figures are those that docs/plugins/atat-bound.md tells."""
    gap = found - exact
    told = torch.tensor([mean, law, least, most], dtype=torch.float64)
    here = torch.stack((found.mean(), exact.mean(), gap.min(), gap.max()))
    torch.testing.assert_close(here, told, rtol=0, atol=6e-4)


# ---- what a weighting learns -------------------------------------------------


def own_token(exponents, table=None):
    module = OwnTokenDiffusion(table or Table(), GenMD4Config(), schedule=PLAIN)
    with torch.no_grad():
        module.log_exponents[:MASK] = exponents.log()
    return module


def learned(weigh, exponents, t=0.4):
    """Return the best law for a weight, the true one, and the chances to be hidden.

    The weighted cross-entropy of a canvas is least where a token's chance is what its
    rows count: law of the row, chance of the mask, weight.
    """
    module, time = own_token(exponents), torch.full((27,), t, dtype=torch.float64)
    hidden = module.log_chance(Batch.of(ROWS), time).detach().exp()  # (27, L)
    weight = weigh(hidden, exponents.double()[ROWS], time)
    counts = joint()[:, None] * masking_law(hidden)[..., None] * weight
    return conditionals(counts), conditionals(joint()[None, :, None])


def ht(hidden, exponents, t):
    masking = scheduler(clip=1e9)
    return masking.correction(hidden, t) / t[:, None]


def distance(one, other, k):
    """Return the L1 distances at the masked positions of canvases with k of them."""
    masked = CANVASES == MASK
    chosen = masked & (masked.sum(1, keepdim=True) == k)
    return (one - other).abs().sum(-1)[chosen]


def test_weights_one_over_the_chance_learn_the_true_conditional():
    best, true = learned(ht, EXPONENTS)
    assert distance(best, true, 1).max() < 1e-6
    assert distance(best, true, 3).mean() > 0.01, "which others are hidden tells more"
    nearly = learned(ht, EXPONENTS**0.01)
    assert distance(*nearly, 3).mean() < 0.02 * distance(best, true, 3).mean()


def test_weights_one_over_t_learn_a_tilted_conditional():
    best, true = learned(lambda m, w, t: 1 / t[:, None].expand_as(m), EXPONENTS)
    assert distance(best, true, 1).mean() > 0.1
    tilted = true * 0.4 ** EXPONENTS.double()
    tilted = tilted / tilted.sum(-1, keepdim=True)
    assert distance(best, tilted, 1).max() < 1e-6


def test_weights_of_the_bound_learn_the_law_of_the_jump():
    best, true = learned(lambda m, w, t: w / t[:, None], EXPONENTS)
    rising = EXPONENTS.double() * 0.4 ** (EXPONENTS.double() - 1)
    jump = true * rising / (true * rising).sum(-1, keepdim=True)
    assert distance(best, jump, 1).max() < 1e-6
    assert distance(best, true, 1).mean() > 0.02


def test_the_tilt_leaves_the_true_conditional_to_the_network():
    """With one hidden token the bound of own-token schedules is least at the truth."""
    table = Table(error=0.0)
    module = own_token(EXPONENTS, table)
    time, rows, masked = everything(torch.tensor([0.4], dtype=torch.float64))
    batch = Batch.of(rows)
    losses, _ = module.row_losses(batch, time, masked[None])
    hidden = module.log_chance(batch, time).detach().exp()
    chance = chance_of(masked, hidden) * joint().repeat_interleave(len(MASKS))
    (losses.double() * chance).sum().backward()
    free = CANVASES == MASK
    slope = table.table.grad[..., :MASK].abs().amax(-1).masked_fill(~free, 0).amax(1)
    several = free.sum(1) > 1
    assert slope[~several].max() < 1e-8
    assert slope[several].max() > 1e-4


def close():
    return {"rtol": 0, "atol": TOLERANCE}
