"""Samplers that claim to be exact, against a joint law that can be enumerated."""

import itertools
from functools import partial

import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.schedule import (
    Cosine,
    CosineSquared,
    Geometric,
    LinearSigma,
    LogLinear,
)
from mdlm_core.kernels.categorical import categorical
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import (
    Denoiser,
    analytic,
    ancestral,
    first_hitting,
    semi_autoregressive,
)
from mdlm_core.samplers.events import levels, on_grid, one_by_one

ROWS = 12_000
SCHEDULES = [
    LogLinear(1e-3),
    LogLinear(0.0),
    Cosine(1e-3),
    CosineSquared(1e-3),
    LinearSigma(),
    Geometric(),
]
IDS = [
    "loglinear",
    "loglinear-0",
    "cosine",
    "cosine-squared",
    "linear-sigma",
    "geometric",
]


class Oracle:
    """A denoiser that knows the joint law: p(x_i | visible) by enumeration."""

    time_conditioned = False

    def __init__(self, tokens: int, length: int, seed: int) -> None:
        self.vocab_size, self.mask_id = tokens + 1, tokens
        states = list(itertools.product(range(tokens), repeat=length))
        self.states = torch.tensor(states)  # (S, L)
        generator = torch.Generator().manual_seed(seed)
        self.joint = (
            (1.5 * torch.randn(len(states), generator=generator)).double().softmax(0)
        )
        self.onehot = torch.nn.functional.one_hot(self.states, self.vocab_size).double()

    def hidden(self, batch, t=None):
        canvas = batch.tokens.unsqueeze(1)  # (B, 1, L)
        fits = ((canvas == self.mask_id) | (canvas == self.states)).all(-1)  # (B, S)
        mass = (fits * self.joint) @ self.onehot.flatten(1)  # (B, L * V)
        mass = mass.unflatten(1, self.onehot.shape[1:])
        return (mass / mass.sum(-1, keepdim=True)).log()

    def logits(self, hidden):
        return hidden

    def count(self, tokens):
        """Return how often each state stands in `tokens` ``(B, L)``."""
        base = self.vocab_size - 1
        weights = base ** torch.arange(tokens.shape[1] - 1, -1, -1)
        return torch.bincount((tokens * weights).sum(1), minlength=len(self.joint))

    def product_of_marginals(self):
        marginals = torch.einsum("s,slv->lv", self.joint, self.onehot)
        place = torch.arange(self.states.shape[1])
        return marginals[place, self.states].prod(1)


def chi_square_p(counts, probs):
    """Return the p-value of Pearson's test that `counts` come from `probs`."""
    possible = probs > 0
    assert counts[~possible].sum() == 0
    expected = probs[possible] * counts.sum()
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = torch.tensor((int(possible.sum()) - 1) / 2).double()
    return float(torch.special.gammaincc(freedom, statistic / 2))


def sample(sampler, oracle, *, steps, schedule=SCHEDULES[0], seed=0, canvas=None):
    length = oracle.states.shape[1]
    if canvas is None:
        canvas = Batch.of(torch.full((ROWS, length), oracle.mask_id))
    return sampler(
        Denoiser(oracle), canvas, schedule=schedule, noise=Noise(seed), steps=steps
    ).tokens


EXACT = {
    "ancestral": partial(ancestral, batch_size=ROWS),
    "first-hitting": partial(first_hitting, batch_size=ROWS),
    "analytic": partial(analytic, batch_size=ROWS),
    "semi-ar, ancestral": partial(
        semi_autoregressive, block=2, inner=partial(ancestral, batch_size=ROWS)
    ),
    "semi-ar, first-hitting": partial(
        semi_autoregressive, block=1, inner=partial(first_hitting, batch_size=ROWS)
    ),
}


@pytest.mark.parametrize("tokens", [3, 4])
@pytest.mark.parametrize("name", EXACT)
def test_the_joint_law_is_sampled(name, tokens):
    oracle = Oracle(tokens, 3, seed=tokens)
    counts = oracle.count(sample(EXACT[name], oracle, steps=100_000))
    assert chi_square_p(counts, oracle.joint) > 1e-3


@pytest.mark.parametrize("schedule", SCHEDULES, ids=IDS)
@pytest.mark.parametrize("name", ["ancestral", "first-hitting", "analytic"])
def test_the_joint_law_is_sampled_on_every_schedule(name, schedule):
    oracle = Oracle(3, 3, seed=5)
    counts = oracle.count(sample(EXACT[name], oracle, steps=100_000, schedule=schedule))
    assert chi_square_p(counts, oracle.joint) > 1e-3


@pytest.mark.parametrize("name", EXACT)
def test_a_partly_known_canvas_gives_the_conditional_law(name):
    oracle = Oracle(3, 3, seed=6)
    canvas = torch.full((ROWS, 3), oracle.mask_id)
    canvas[:, 1] = 2
    frozen = torch.zeros_like(canvas, dtype=torch.bool)
    frozen[: ROWS // 2, 1] = True  # half as a prompt, half as a token that is there
    tokens = sample(
        EXACT[name], oracle, steps=100_000, canvas=Batch.of(canvas, frozen=frozen)
    )
    conditional = oracle.joint * (oracle.states[:, 1] == 2)
    assert chi_square_p(oracle.count(tokens), conditional / conditional.sum()) > 1e-3


def test_one_step_gives_the_product_of_the_marginals():
    oracle = Oracle(3, 3, seed=7)
    counts = oracle.count(sample(EXACT["ancestral"], oracle, steps=1))
    assert chi_square_p(counts, oracle.product_of_marginals()) > 1e-3
    assert chi_square_p(counts, oracle.joint) < 1e-9  # the test has the power to tell


def test_two_steps_give_the_mixture_over_what_is_revealed_first():
    """Each position falls in the first step with chance 1 - m(1/2) / m(1) = 1/2."""
    oracle = Oracle(3, 3, seed=8)
    exact = torch.zeros_like(oracle.joint)
    for first in itertools.product([False, True], repeat=3):
        first = torch.tensor(first)
        # Those of step one are independent; those of step two independent given them.
        seen = oracle.states.clone()
        seen[:, ~first] = oracle.mask_id
        blank = torch.full((1, 3), oracle.mask_id)
        prior = oracle.hidden(Batch.of(blank)).exp()[0]
        later = oracle.hidden(Batch.of(seen)).exp()
        place, every = torch.arange(3), torch.arange(len(seen)).unsqueeze(1)
        one = prior[place, oracle.states]
        two = later[every, place, oracle.states]
        exact += torch.where(first, one, two).prod(1) / 8
    counts = oracle.count(sample(EXACT["ancestral"], oracle, steps=2))
    assert chi_square_p(counts, exact) > 1e-3
    assert chi_square_p(counts, oracle.joint) < 1e-6


# ---- the times of the events --------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=IDS)
def test_events_fall_into_the_steps_of_the_reverse_process(schedule):
    steps = 7
    canvas = Batch.of(torch.full((2000, 20), 3))
    times = torch.linspace(0, 1, steps + 1).double()
    level = levels(Denoiser(Oracle(3, 1, 0)), canvas, Noise(3))
    plan = on_grid(level, times, schedule)
    step = (plan.time * steps).round().long()
    rate = schedule.mask_rate(times)
    rate[0] = 0
    masked, law = 1.0, torch.zeros(steps + 1).double()
    for i in range(steps, 0, -1):  # survive step by step
        law[i] = masked * (1 - rate[i - 1] / rate[i])
        masked = masked * rate[i - 1] / rate[i]
    assert masked == 0
    counts = torch.bincount(step.flatten(), minlength=steps + 1)
    assert chi_square_p(counts[1:], law[1:]) > 1e-3


def test_turns_number_the_distinct_steps_from_the_latest_time():
    level = torch.tensor(
        [[0.95, 0.15, 0.91, -1.0, 0.5], [-1.0, -1.0, -1.0, -1.0, -1.0]]
    )
    plan = on_grid(level.double(), torch.linspace(0, 1, 11).double(), LogLinear(0.0))
    assert plan.turn.tolist() == [[1, 3, 1, 0, 2], [0, 0, 0, 0, 0]]
    expected = torch.tensor([[1.0, 0.2, 1.0, 0.0, 0.6], [0.0] * 5]).double()
    torch.testing.assert_close(plan.time, expected)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=IDS)
def test_first_hitting_times_are_powers_of_uniforms(schedule):
    """m(t') = m(t) u^(1/n): so (m(t') / m(t))^n is uniform, n = L, L - 1, ..., 1."""
    length = 3
    canvas = Batch.of(torch.full((ROWS, length), 3))
    plan = one_by_one(levels(Denoiser(Oracle(3, 1, 0)), canvas, Noise(4)), schedule)
    order = plan.turn.argsort(1)
    times = plan.time.gather(1, order)  # in the order of the turns
    assert (times.diff(dim=1) <= 0).all()
    rate = schedule.mask_rate(times)
    before = schedule.mask_rate(torch.ones(ROWS, 1).double())
    ratio = rate / torch.cat([before, rate[:, :-1]], dim=1)
    exponent = torch.arange(length, 0, -1)
    if schedule.mask_rate(torch.zeros(1)) < 1e-6:  # else the end of the range is cut
        uniform = ratio**exponent
        for column in uniform.unbind(1):
            counts = torch.bincount((column * 20).long().clamp(max=19), minlength=20)
            assert chi_square_p(counts, torch.full((20,), 0.05).double()) > 1e-3
    orders = torch.bincount((order * torch.tensor([9, 3, 1])).sum(1), minlength=27)
    orders = orders[orders > 0]
    assert len(orders) == 6  # every order, each with the same chance
    assert chi_square_p(orders, torch.full((6,), 1 / 6).double()) > 1e-3


def test_first_hitting_is_the_limit_of_ancestral():
    oracle = Oracle(3, 4, seed=9)
    canvas = Batch.of(torch.full((500, 4), oracle.mask_id))
    fine = sample(ancestral, oracle, steps=10**6, canvas=canvas)
    assert torch.equal(fine, sample(first_hitting, oracle, steps=1, canvas=canvas))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=IDS)
def test_the_tweedie_step_is_the_ancestral_step(schedule):
    """Staggered score times transition, written out as for a score model."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    t, s = torch.tensor([0.8, 0.3], dtype=torch.float64)
    sigma, d = schedule.sigma(t), schedule.sigma(t) - schedule.sigma(s)
    score = torch.cat([p / torch.expm1(sigma), torch.ones(1).double()])  # mask last
    staggered = score * d.exp()
    staggered[-1] += (1 - d.exp()) * score.sum()
    transition = torch.full((4,), 1.0).double() * -torch.expm1(-d)
    transition[-1] += (-d).exp()
    law = staggered * transition
    m_t, m_s = schedule.mask_rate(t), schedule.mask_rate(s)
    expected = torch.cat([p * (m_t - m_s) / m_t, (m_s / m_t).unsqueeze(0)])
    torch.testing.assert_close(law, expected, rtol=1e-9, atol=0)


# ---- the float32 Gumbel trap ----------------------------------------------------

VOCAB = 50257
GROUP = torch.log2(torch.arange(1, VOCAB + 1).double()).floor().long()  # of 16 groups
SIZE = torch.bincount(GROUP)


def grouped_zipf():
    """Return Zipf's law, made equal inside the groups of ranks 2^j to 2^(j+1) - 1."""
    zipf = 1 / torch.arange(1, VOCAB + 1).double()
    mass = torch.zeros(16).double().index_add(0, GROUP, zipf / zipf.sum())
    return (mass / SIZE)[GROUP], mass


def float32_race(t, dt, draws, seed):
    """Draw as the references do: argmax q / (1e-10 - log(u + 1e-10)), u in float32.

    Of tokens with equal q the one with the largest u wins. A float32 uniform is a
    multiple of 2^-24, so the largest of n is floor(2^24 U^(1/n)) / 2^24: one number
    for a whole group, and a hundred thousand draws over the vocabulary in a second.
    Returns the groups drawn, 16 for the mask.
    """
    probs, _ = grouped_zipf()
    first = torch.cat([torch.zeros(1).long(), SIZE.cumsum(0)[:-1]])
    q = torch.cat([probs[first] * dt, torch.tensor([t - dt]).double()]).float()
    size = torch.cat([SIZE, torch.ones(1).long()]).double()
    generator, drawn = torch.Generator().manual_seed(seed), []
    for _ in range(0, draws, 100_000):
        u = torch.rand(100_000, 17, generator=generator, dtype=torch.float64)
        u = (torch.floor(2.0**24 * u ** (1 / size)) * 2.0**-24).float()
        drawn.append((q / (1e-10 - torch.log(u + 1e-10))).argmax(1))
    return torch.cat(drawn)


@pytest.mark.parametrize(
    ("dt", "draws", "share"), [(1e-3, 600_000, 0.75), (1e-4, 1_000_000, 0.55)]
)
def test_float32_gumbel_reveals_too_rarely_and_ours_does_not(dt, draws, share):
    """The published shares, 0.75 and 0.55 of the true rate, are for Zipf's own law."""
    t = 0.5
    drawn = float32_race(t, dt, draws, seed=1)
    rate = dt / t
    hits = int((drawn < 16).sum())
    assert hits / draws / rate == pytest.approx(share, abs=0.12)
    law = torch.tensor([rate, 1 - rate]).double()
    assert chi_square_p(torch.tensor([hits, draws - hits]), law) < 1e-6

    steps = round(1 / dt)
    canvas = Batch.of(torch.full((2 * draws // 100, 100), 3))  # half is masked at t
    level = levels(Denoiser(Oracle(3, 1, 0)), canvas, Noise(2))
    plan = on_grid(level, torch.linspace(0, 1, steps + 1).double(), LogLinear(0.0))
    masked = int((plan.time <= t + dt / 2).sum())
    ours = int(((plan.time - t).abs() < dt / 2).sum())
    assert chi_square_p(torch.tensor([ours, masked - ours]), law) > 1e-3


def test_float32_gumbel_sharpens_the_tokens_and_ours_does_not():
    probs, mass = grouped_zipf()
    drawn = float32_race(0.5, 1e-3, 600_000, seed=3)
    counts = torch.bincount(drawn[drawn < 16], minlength=16)
    assert chi_square_p(counts, mass) < 1e-9
    u = Noise(4).uniform(torch.tensor([0]), 2000)[0]
    ours = categorical(probs.log().float().expand(2000, VOCAB), u)
    assert chi_square_p(torch.bincount(GROUP[ours], minlength=16), mass) > 1e-3
