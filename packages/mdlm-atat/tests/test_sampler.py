"""The uncertainty-guided sampler against samplers that follow every possible event."""

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from mdlm_atat.commit import fixed_rank, plan
from mdlm_atat.config import UncertaintyConfig
from mdlm_atat.sampler import UncertaintyGuidedSampler, build, uncertainty_guided
from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Cosine, LogLinear
from mdlm_core.errors import UsageError
from mdlm_core.kernels.categorical import categorical
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import Denoiser, first_hitting

from .table import (
    LENGTH,
    MASK,
    Policy,
    Table,
    V,
    blank,
    doubt,
    largest_prefix,
    law_of_results,
    nats,
    sample,
)

ORDERS = ["confident_first", "uncertain_first", "left_to_right", "importance", "random"]


def positions(order, score, bound):
    """Return the rule of the sampler, written out: which positions are committed."""
    policy = Policy()

    def committed(canvas, laws, left, rank):
        keys = {
            "confident_first": lambda i: doubt(laws[i], score),
            "uncertain_first": lambda i: -doubt(laws[i], score),
            "left_to_right": lambda i: i,
            "importance": lambda i: -policy.of(canvas, i),
            "random": lambda i: rank[i],
        }
        queue = sorted(laws, key=keys[order])
        if bound < 0:
            return queue[: -(-len(queue) // left)]
        return queue[: largest_prefix([nats(laws[i]) for i in queue], bound)]

    return committed


def exact_law(table, canvas, *, order, steps, score="entropy", bound=-1.0):
    """Return the law of the result; for ``random`` the mean over all orders."""
    rule = positions(order, score, bound)
    ranks = list(itertools.permutations(range(len(canvas))))
    ranks = ranks if order == "random" else ranks[:1]
    law = Counter()
    for rank in ranks:
        for result, chance in law_of_results(table, canvas, rule, steps, rank).items():
            law[result] += chance / len(ranks)
    return law


# ---- the law of the result ------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "steps", "bound"),
    [
        *((order, steps, -1.0) for order in ORDERS for steps in (2, 4)),
        *((order, 1, 0.9) for order in ORDERS),
    ],
)
def test_the_law_is_that_of_every_possible_event(order, steps, bound):
    """With a position that is known; 8000 rows, a chi-square at 1e-4."""
    table, rows = Table(LENGTH, seed=1, scale=0.7), 8_000
    canvas = blank(rows, known=[(2, 3)])
    law = exact_law(
        table, tuple(canvas.tokens[0].tolist()), order=order, steps=steps, bound=bound
    )
    assert sum(law.values()) == pytest.approx(1)
    found = sample(table, canvas, order=order, steps=steps, entropy_bound=bound)
    counts = Counter(map(tuple, found.tokens.tolist()))
    assert counts.keys() <= law.keys()
    likely = [result for result, chance in law.items() if chance * rows >= 5]
    observed = [counts[result] for result in likely]
    expected = [rows * law[result] for result in likely]
    if rest := len(law) - len(likely):
        assert rest < len(law) / 2
        observed.append(rows - sum(observed))
        expected.append(rows - sum(expected))
    assert chisquare(observed, expected).pvalue > 1e-4


def test_the_random_order_one_by_one_has_the_any_order_law():
    """The oracle above against the definition, the mean over all orders."""
    table, canvas = Table(3, seed=2), (MASK, MASK, MASK)
    law = exact_law(table, canvas, order="random", steps=3)
    for tokens in itertools.product([0, 2, 3], repeat=3):
        chance = 0.0
        for queue in itertools.permutations(range(3)):
            now, product = [MASK] * 3, 1.0
            for position in queue:
                product *= table.law(tuple(now), position)[tokens[position]]
                now[position] = tokens[position]
            chance += product / 6
        assert law[tokens] == pytest.approx(chance)


def test_the_random_order_one_by_one_is_first_hitting():
    table, canvas = Table(LENGTH), blank(200, known=[(1, 0)])
    alone = first_hitting(
        Denoiser(table), canvas, schedule=LogLinear(), noise=Noise(3), batch_size=7
    )
    for bound in (-1.0, 0.0):  # these laws have an entropy everywhere
        found = sample(table, canvas, seed=3, order="random", entropy_bound=bound)
        assert torch.equal(found.tokens, alone.tokens)
        assert torch.equal(found.nfe, alone.nfe)


# ---- which positions, step by step ------------------------------------------------


@pytest.mark.parametrize("bound", [-1.0, 0.0, 0.5, 1.5, math.inf])
@pytest.mark.parametrize("score", ["entropy", "confidence", "margin"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_row_commits_what_the_rule_says(order, score, bound):
    """Position by position and token by token, with the numbers that are keyed."""
    table, steps = Table(LENGTH, seed=5), 3
    canvas = blank(24)
    canvas.tokens[::3, 1] = 2
    canvas.tokens[1::4, 3] = 0
    denoiser = Denoiser(table, policy=Policy())
    rank = fixed_rank(denoiser, canvas, Noise(8), "random").tolist()
    numbers = Noise(8).child("what").uniform(canvas.sample_id, LENGTH)
    trace = [canvas.tokens]
    found = sample(
        table,
        canvas,
        seed=8,
        steps=steps,
        order=order,
        score=score,
        entropy_bound=bound,
        batch_size=24,
        trace=trace,
    )
    rule = positions(order, score, bound)
    for row in range(24):
        now, evaluations = canvas.tokens[row].tolist(), 0
        while MASK in now:
            assert trace[evaluations][row].tolist() == now
            laws = {
                i: table.law(now, i) for i, token in enumerate(now) if token == MASK
            }
            chosen = rule(tuple(now), laws, max(1, steps - evaluations), rank[row])
            for i in chosen:
                law = torch.tensor([laws[i].get(v, 0.0) for v in range(V)]).log()
                now[i] = int(categorical(law[None], numbers[row, i : i + 1]))
            evaluations += 1
        assert found.tokens[row].tolist() == now
        assert found.nfe[row] == evaluations
    assert table.rows == found.nfe.sum()


@pytest.mark.parametrize("order", ["random", "left_to_right", "confident_first"])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, [10]), (4, [3, 3, 2, 2]), (10, [1] * 10), (33, [1] * 10)],
)
def test_steps_have_equal_shares(order, steps, expected):
    class Flat(Table):
        def hidden(self, batch, t=None):
            place = torch.arange(batch.length)[:, None] * torch.arange(V)
            return place.sin().double().expand(len(batch), -1, -1)

    trace = [torch.full((1, 10), MASK)]
    sample(Flat(1), Batch.of(trace[0]), order=order, steps=steps, trace=trace)
    left = [int((now == MASK).sum()) for now in trace]
    assert [a - b for a, b in itertools.pairwise(left)] == expected


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 12, 40])
def test_the_plan_is_the_rule_of_equal_shares(steps):
    rank = torch.full((13, 12), 12)
    for n in range(13):
        rank[n, :n] = torch.arange(n)
    turn = plan(rank, steps).turn
    for n in range(13):
        expected, left, step = [], n, 0
        while left:
            share = -(-left // max(1, steps - step))
            expected += [step + 1] * share
            left, step = left - share, step + 1
        assert turn[n].tolist() == expected + [0] * (12 - n)


def test_left_to_right_goes_from_left_to_right():
    canvas, trace = blank(3, known=[(1, 0)]), []
    sample(Table(LENGTH), canvas, order="left_to_right", trace=trace)
    assert [(now == MASK)[0].tolist() for now in trace] == [
        [False, False, True, True],
        [False, False, False, True],
        [False, False, False, False],
    ]


def test_the_random_order_is_uniform_and_stays():
    """Keyed by row: another canvas with the same masks falls in the same order."""
    denoiser, canvas = Denoiser(Table(LENGTH)), blank(12_000)
    rank = fixed_rank(denoiser, canvas, Noise(0), "random")
    counts = Counter(map(tuple, rank.tolist()))
    assert len(counts) == math.factorial(LENGTH)
    assert chisquare(list(counts.values())).pvalue > 1e-4
    some = canvas.with_tokens(canvas.tokens.clone())
    some.tokens[:, 1] = 0
    after = fixed_rank(denoiser, some, Noise(0), "random")
    kept = [0, 2, 3]
    assert torch.equal(after[:, kept].argsort(1), rank[:, kept].argsort(1))
    assert (after[:, 1] == LENGTH).all()


# ---- ties, time and policy ----------------------------------------------------------


def test_what_is_equal_up_to_rounding_comes_in_random_order():
    """As on a blank canvas, where a transformer's positions differ in rounding only."""

    class Even(Table):
        def hidden(self, batch, t=None):
            tilt = 1e-7 * torch.arange(batch.length)[:, None] * torch.arange(V)
            return tilt.double().expand(len(batch), -1, -1)

    for order in ("confident_first", "uncertain_first", "importance"):
        trace = []
        policy = Policy()
        policy.of = lambda canvas, position: 0.3 + 1e-7 * position
        sample(
            Even(1),
            blank(4000),
            order=order,
            policy=policy,
            trace=trace,
            batch_size=4000,
        )
        first = (trace[0] != MASK).int().argmax(1)
        assert chisquare(torch.bincount(first, minlength=LENGTH)).pvalue > 1e-4


@pytest.mark.parametrize("order", ORDERS)
def test_a_model_that_sees_t_is_asked_at_the_time_its_canvas_implies(order):
    table, schedule = Table(LENGTH, time_conditioned=True), Cosine()
    canvas = blank(2, known=[(1, 0)])
    canvas.frozen[:, 1] = True
    policy = Policy()
    sample(table, canvas, order=order, policy=policy, schedule=schedule, steps=3)
    shares = [1.0, 2 / 3, 1 / 3]
    low, high = schedule.mask_rate(torch.tensor([0.0, 1.0], dtype=torch.float64))
    for share, t in zip(shares, table.times, strict=True):
        rate = schedule.mask_rate(t.double())
        expected = min(max(share, float(low)), float(high))
        torch.testing.assert_close(
            rate, torch.full_like(rate, expected), atol=1e-5, rtol=0
        )
    if order == "importance":
        assert [float(t[0]) for _, t in policy.asked] == [
            float(t[0]) for t in table.times
        ]


def test_importance_is_asked_on_the_canvas_as_it_is():
    policy, trace = Policy(), []
    sample(Table(LENGTH), blank(3), order="importance", policy=policy, trace=trace)
    seen = [tokens for tokens, _ in policy.asked]
    assert all(torch.equal(a, b) for a, b in zip(seen[1:], trace[:-1], strict=True))


@pytest.mark.parametrize("policy", [None, object()])
def test_importance_needs_a_policy_that_tells_it(policy):
    with pytest.raises(UsageError, match=r"sampler\.order=confident_first"):
        uncertainty_guided(
            Denoiser(Table(LENGTH), policy=policy),
            blank(1),
            schedule=LogLinear(),
            noise=Noise(0),
            steps=2,
            order="importance",
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"entropy_bound": math.nan}, "entropy_bound is nan"),
    ],
)
def test_what_is_no_number_of_steps_or_bound_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        sample(Table(LENGTH), blank(1), **wrong)


@pytest.mark.parametrize("batch_size", [1, 3, 5])
@pytest.mark.parametrize("bound", [-1.0, 1.0])
def test_the_batch_size_changes_nothing(bound, batch_size):
    canvas = blank(9)
    canvas.tokens[::2, :2] = 0
    whole = sample(Table(LENGTH), canvas, steps=3, entropy_bound=bound)
    small = sample(
        Table(LENGTH), canvas, steps=3, entropy_bound=bound, batch_size=batch_size
    )
    assert torch.equal(small.tokens, whole.tokens)
    assert torch.equal(small.nfe, whole.nfe)


def test_the_catalog_s_sampler_has_its_settings_bound():
    config = UncertaintyConfig(
        steps=2, order="uncertain_first", score="margin", batch_size=2
    )
    sampler, table, canvas = build(config), Table(LENGTH, seed=3), blank(60)
    assert isinstance(sampler, UncertaintyGuidedSampler)
    given = {"schedule": LogLinear(), "noise": Noise(0)}
    found = sampler(Denoiser(table), canvas, **given)
    expected = sample(table, canvas, steps=2, order="uncertain_first", score="margin")
    assert torch.equal(found.tokens, expected.tokens)
    other = sample(table, canvas, steps=2, order="uncertain_first")
    assert not torch.equal(found.tokens, other.tokens)
    assert (sampler(Denoiser(table), canvas, steps=4, **given).nfe == 4).all()
    bound = build(UncertaintyConfig(entropy_bound=math.inf))
    assert (bound(Denoiser(table), canvas, **given).nfe == 1).all()


def test_the_preset_samples_in_the_order_of_its_bound():
    config = resolve(load_catalog(), preset="atat/default").config.sampler
    assert (config.name, config.config.order) == ("uncertainty", "random")
