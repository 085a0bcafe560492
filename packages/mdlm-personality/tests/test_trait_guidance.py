"""Guidance by a regressor, against enumeration."""

from __future__ import annotations

import itertools
import math
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import ancestral
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.samplers.guidance import Guidance
from mdlm_personality.regressor.guidance import RegressorGuidance, guide, guided
from mdlm_personality.regressor.model import TraitRegressor

from .regressor_toy import LENGTH, MASK, VOCABULARY, canvas, regressor, schedule, traits
from .regressor_toy import trunk as new_trunk

WANTED = traits(0.9, None, 0.2, 0.7, 0.4)
EVERY = VOCABULARY


def laws(denoiser: Denoiser, rows: Batch, t: Tensor | None = None) -> Tensor:
    with denoiser.evaluating():
        where = denoiser.masked(rows)
        return torch.cat(list(denoiser.laws(rows, where, t)))


def evidence(model: TraitRegressor, row: Batch, position: int, token: int) -> float:
    """Return log p(y | row with `token` at `position`), by scipy."""
    tokens = row.tokens.clone()
    tokens[0, position] = token
    with torch.no_grad():
        law = model.law(row.with_tokens(tokens), torch.tensor([0.5]))
    known = WANTED["known"][0]
    logs = norm.logpdf(
        WANTED["traits"][0][known].double().numpy(),
        law.mean[0][known].double().numpy(),
        law.sd[0][known].double().numpy(),
    )
    return float(logs.sum())


@pytest.mark.parametrize("gamma", [1.0, 2.5])
def test_the_exact_form_is_the_product_of_model_and_regressor(gamma: float) -> None:
    model, judge, rows = new_trunk(), regressor(), canvas()
    exact = RegressorGuidance(
        Denoiser(model), judge, traits=WANTED, gamma=gamma, candidates=EVERY
    )
    found = laws(exact, rows, torch.full((3,), 0.5))
    plain = laws(Denoiser(model), rows)
    for n, (row, position) in enumerate(exact.masked(rows).nonzero().tolist()):
        one = rows.select(slice(row, row + 1))
        weights = [
            0.0
            if token == MASK
            else math.exp(
                float(plain[n, token]) + gamma * evidence(judge, one, position, token)
            )
            for token in range(VOCABULARY)
        ]
        wanted = torch.tensor(weights).double() / sum(weights)
        assert torch.allclose(found[n].exp().double(), wanted, atol=1e-5)


class Independent(nn.Module):
    """Tokens that are independent, each place with a law of its own."""

    vocab_size, mask_id, time_conditioned = VOCABULARY, MASK, False

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table  # (L, V) logits

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        return torch.eye(batch.length).expand(len(batch), -1, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.table


class Marginal(TraitRegressor):
    """The true p(y | z_t) of a joint law: a sum over all that may be hidden."""

    table: Tensor

    def law(self, batch: Batch, *_: Any, **__: Any) -> Any:
        chance = self.table.index_fill(1, torch.tensor([MASK]), -torch.inf)
        chance = chance.softmax(1)

        def log_prob(values: Tensor, known: Tensor) -> Tensor:
            return torch.stack(
                [
                    marginal(row.tolist(), values[b], chance)
                    for b, row in enumerate(batch.tokens)
                ]
            )

        return SimpleNamespace(log_prob=log_prob)


def joint(
    row: list[int], wanted: Tensor, chance: Tensor
) -> dict[tuple[int, ...], float]:
    """Return p(x, y | what is visible) of every way to fill the row."""
    letters = [v for v in range(VOCABULARY) if v != MASK]
    choices = [[token] if token != MASK else letters for token in row]
    found = {}
    for filled in itertools.product(*choices):
        p = 1.0
        for place, token in enumerate(filled):
            if row[place] == MASK:
                p *= float(chance[place, token])
        mean = sum((place + 1) * token for place, token in enumerate(filled)) / 30
        found[filled] = p * math.exp(-0.5 * ((float(wanted[0]) - mean) / 0.2) ** 2)
    return found


def marginal(row: list[int], wanted: Tensor, chance: Tensor) -> Tensor:
    return torch.tensor(math.log(sum(joint(row, wanted, chance).values())))


def test_with_the_true_regressor_gamma_one_is_the_law_given_the_traits() -> None:
    """p(v | z_t, y) of a joint law, though model and regressor know only halves."""
    table = torch.special.ndtri(Noise(2).uniform(torch.arange(3), VOCABULARY)).float()
    judge = Marginal(new_trunk(), schedule=schedule())
    judge.table = table
    rows = Batch.of(torch.tensor([[MASK, 4, MASK], [MASK, MASK, MASK]]))
    inner = Denoiser(cast("Any", Independent(table)))
    exact = RegressorGuidance(
        inner, judge, traits=traits(0.7, *[None] * 4), candidates=EVERY
    )
    found = laws(exact, rows)
    chance = table.index_fill(1, torch.tensor([MASK]), -torch.inf).softmax(1)
    for n, (row, position) in enumerate(exact.masked(rows).nonzero().tolist()):
        ways = joint(rows.tokens[row].tolist(), torch.tensor([0.7]), chance)
        wanted = torch.zeros(VOCABULARY).double()
        for filled, p in ways.items():
            wanted[filled[position]] += p
        wanted /= wanted.sum()
        assert torch.allclose(found[n].exp().double(), wanted, atol=1e-5)


class Linear(TraitRegressor):
    """log p(y | z_t) is linear in the vectors, so that first order is all there is."""

    def law(
        self, batch: Batch, t: Tensor | None = None, *, vectors: Tensor | None = None
    ) -> Any:
        if vectors is None:
            vectors = self.trunk.embedded(batch)
        u = Noise(5).uniform(torch.arange(batch.length), vectors.shape[-1])
        weight = torch.special.ndtri(u).float()
        total = (vectors * weight).sum((1, 2))
        return SimpleNamespace(log_prob=lambda values, known: total)


def test_first_order_is_exact_for_a_linear_regressor() -> None:
    model, rows = new_trunk(), canvas()
    judge = Linear(new_trunk(3), schedule=schedule())
    make = partial(RegressorGuidance, traits=WANTED, gamma=1.7)
    exact = laws(make(Denoiser(model), judge, candidates=EVERY), rows)
    first = laws(make(Denoiser(model), judge), rows)
    assert torch.allclose(first.exp(), exact.exp(), atol=1e-5)
    plain = laws(Denoiser(model), rows)
    assert float((plain.exp() - first.exp()).abs().max()) > 0.05


def test_slopes_are_finite_differences() -> None:
    judge, rows, t = regressor(), canvas(), torch.full((3,), 0.5)
    judge = judge.double()
    guide_ = RegressorGuidance(Denoiser(new_trunk()), judge, traits=WANTED)
    known = WANTED["known"].expand(3, -1)
    values = WANTED["traits"].double().expand(3, -1)
    guide_._target = lambda canvas: (values, known)  # type: ignore[method-assign]
    found = guide_.slopes(rows, t)
    vectors = judge.trunk.embedded(rows).detach()
    for row, place, column in [(0, 1, 3), (1, 2, 0), (2, 1, 7)]:
        step = torch.zeros_like(vectors)
        step[row, place, column] = 1e-5
        with torch.no_grad():
            up = judge.law(rows, t, vectors=vectors + step).log_prob(values, known)
            down = judge.law(rows, t, vectors=vectors - step).log_prob(values, known)
        wanted = float((up - down).sum()) / 2e-5
        assert float(found[row, place, column]) == pytest.approx(wanted, rel=2e-3)


def test_small_steps_of_the_tokens_make_first_order_exact() -> None:
    """With vectors close to each other both forms have the same logarithms."""
    model, judge, rows = new_trunk(), regressor(), canvas()
    with torch.no_grad():
        weight = judge.trunk.embed.weight
        weight.copy_(weight[MASK] + 0.01 * (weight - weight[MASK]))
    t = torch.full((3,), 0.5)
    make = partial(RegressorGuidance, traits=WANTED, gamma=40.0)
    exact = laws(make(Denoiser(model), judge, candidates=EVERY), rows, t)
    first = laws(make(Denoiser(model), judge), rows, t)
    plain = laws(Denoiser(model), rows)
    moved = float((exact - plain).nan_to_num(0).abs().max())
    assert moved > 0.05
    assert float((exact - first).nan_to_num(0).abs().max()) < 0.1 * moved


@pytest.mark.parametrize("candidates", [None, EVERY])
def test_gamma_zero_is_the_model_to_the_bit(candidates: int | None) -> None:
    model, rows = new_trunk(), canvas()
    zero = RegressorGuidance(
        Denoiser(model), regressor(), traits=WANTED, gamma=0.0, candidates=candidates
    )
    assert torch.equal(laws(zero, rows), laws(Denoiser(model), rows))


def test_a_strength_of_the_time_is_that_of_each_row() -> None:
    model, judge, rows = new_trunk(), regressor(), canvas()
    t = torch.tensor([0.1, 0.9, 0.5])
    changing = RegressorGuidance(
        Denoiser(model),
        judge,
        traits=WANTED,
        gamma=lambda t: torch.where(t < 0.3, 2.0, 0.0),
    )
    constant = RegressorGuidance(Denoiser(model), judge, traits=WANTED, gamma=2.0)
    first = changing.masked(rows)[0].sum()
    found = laws(changing, rows, t)
    assert torch.equal(found[:first], laws(constant, rows, t)[:first])
    assert torch.equal(found[first:], laws(Denoiser(model), rows)[first:])


@pytest.mark.parametrize("candidates", [None, 2, EVERY])
def test_the_rate_of_revealing_is_that_of_the_model(candidates: int | None) -> None:
    """No term for the mask: the canvases have their masks in the same places."""
    model, judge = new_trunk(), regressor()
    rows = Batch.of(torch.full((4, LENGTH), MASK))

    def masks(denoiser: Denoiser) -> tuple[list[Tensor], Tensor]:
        seen: list[Tensor] = []
        done = ancestral(
            denoiser,
            rows,
            schedule=schedule(),
            noise=Noise(0),
            steps=4,
            callback=lambda _, tokens: seen.append(tokens == MASK),
        )
        return seen, done.tokens

    plain, one = masks(Denoiser(model))
    strong = RegressorGuidance(
        Denoiser(model), judge, traits=WANTED, gamma=8.0, candidates=candidates
    )
    found, two = masks(strong)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
    assert not torch.equal(one, two)
    assert not bool((two == MASK).any())


def test_guided_texts_have_the_wanted_traits_more() -> None:
    model, judge = new_trunk(scale=0.1), regressor()
    rows = Batch.of(torch.full((64, LENGTH), MASK))
    wanted = traits(0.9, *[None] * 4)

    def mean(gamma: float, candidates: int | None) -> float:
        denoiser = RegressorGuidance(
            Denoiser(model), judge, traits=wanted, gamma=gamma, candidates=candidates
        )
        done = ancestral(
            denoiser, rows, schedule=schedule(), noise=Noise(0), steps=5, batch_size=64
        )
        with torch.no_grad():
            law = judge.law(Batch.of(done.tokens), torch.zeros(64))
        return float(law.log_prob(wanted["traits"], wanted["known"]).mean())

    plain = mean(0.0, None)
    assert mean(4.0, None) > plain
    assert mean(4.0, EVERY) > plain


def test_it_goes_on_top_of_guidance_and_of_a_sampler() -> None:
    model, rows = new_trunk(), canvas()
    views = [lambda batch: batch, lambda batch: batch]
    inner = partial(Guidance, views=views, weights=[3.0, -2.0])
    make = guide(regressor(), traits=WANTED, inner=inner)
    denoiser = make(model, temperature=0.7, top_k=0, top_p=1.0, banned=[0])
    found = laws(denoiser, rows)
    assert denoiser.passes == 3
    assert denoiser.temperature == 0.7
    assert bool(torch.isneginf(found[:, [0, MASK]]).all())
    assert bool(torch.isfinite(found[:, [1, 3, 4, 5]]).all())
    assert torch.allclose(found.exp().sum(1), torch.ones(len(found)))
    assert denoiser.count.rows == 3 * len(rows)


def test_the_condition_of_the_canvas_may_be_the_target() -> None:
    model, judge, rows = new_trunk(), regressor(), canvas()
    told = {name: value.expand(3, -1) for name, value in WANTED.items()}
    by_rows = Batch.of(rows.tokens, frozen=rows.frozen, pad=rows.pad, condition=told)
    t = torch.full((3,), 0.5)
    one = laws(RegressorGuidance(Denoiser(model), judge), by_rows, t)
    two = laws(RegressorGuidance(Denoiser(model), judge, traits=WANTED), rows, t)
    assert torch.equal(one, two)
    with pytest.raises(UsageError, match="no traits"):
        laws(RegressorGuidance(Denoiser(model), judge), rows, t)


def test_candidates_leave_out_what_is_improbable() -> None:
    model, judge, rows = new_trunk(), regressor(), canvas()
    t = torch.full((3,), 0.5)
    two = RegressorGuidance(Denoiser(model), judge, traits=WANTED, candidates=2)
    found, plain = laws(two, rows, t), laws(Denoiser(model), rows)
    kept = plain.topk(2, dim=-1).indices.sort(1).values
    assert torch.equal(torch.isfinite(found).nonzero()[:, 1].view(-1, 2), kept)


def test_a_trunk_that_sees_the_time_is_told_what_the_canvas_implies() -> None:
    model, judge, rows = new_trunk(), regressor(timed=True), canvas()
    denoiser = RegressorGuidance(Denoiser(model), judge, traits=WANTED)
    share = denoiser.masked(rows).sum(1) / rows.free.sum(1)
    clocked = denoiser.on_implied_time(schedule())
    assert torch.allclose(laws(clocked, rows), laws(denoiser, rows, share))
    assert not torch.allclose(laws(denoiser, rows, share / 9), laws(clocked, rows))
    assert clocked.on_implied_time(schedule()) is clocked
    assert clocked.count is denoiser.count


def test_what_cannot_work_is_refused() -> None:
    model, judge, rows = new_trunk(), regressor(), canvas()
    other = Independent(torch.zeros(LENGTH, VOCABULARY))
    other.mask_id = 0
    with pytest.raises(UsageError, match="mask at 2"):
        RegressorGuidance(Denoiser(cast("Any", other)), judge, traits=WANTED)
    with pytest.raises(UsageError, match="no trait is known"):
        RegressorGuidance(Denoiser(model), judge, traits=traits(*[None] * 5))
    with pytest.raises(UsageError, match="at least 1"):
        RegressorGuidance(Denoiser(model), judge, traits=WANTED, candidates=0)
    kept = RegressorGuidance(Denoiser(model), judge, traits=WANTED)
    with pytest.raises(UsageError, match="keeps states"):
        kept.states(rows, kept.masked(rows))


def test_impossible_tokens_stay_so_without_nan() -> None:
    law = torch.tensor([[0.0, 0.0, -torch.inf]]).log_softmax(-1)
    found = guided(law, torch.tensor([[1.0, -torch.inf, 9.0]]), torch.tensor([2.0]))
    assert found.tolist() == [[0.0, -torch.inf, -torch.inf]]
    assert torch.equal(guided(law, law, torch.zeros(1)), law)
