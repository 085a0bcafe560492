"""Bounds of log p(answer | prompt) against sums over all orders of restoring."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_llada.architecture import Architecture
from mdlm_llada.config import ExpertsConfig, LLaDAConfig
from mdlm_llada.guided import Guided
from mdlm_llada.likelihood import LikelihoodSettings, enumerated, score
from mdlm_llada.nn.trunk import LLaDA

V, MASK = 9, 8
PROMPT, ANSWER = (1, 5, 2), (3, 3, 0, 7)
LONG = tuple(i % 8 for i in range(0, 30, 3))
"""Ten tokens, more than can be enumerated in a few draws."""


def model(**settings):
    sizes = {"blocks": 2, "width": 16, "heads": 2, "mlp_width": 24}
    config = LLaDAConfig(**{**sizes, **settings})
    with global_seed(Noise(4)):
        backbone = LLaDA(Architecture.from_settings(config, V, MASK), mask_id=MASK)
        with torch.no_grad():
            for parameter in backbone.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.35)
    return backbone.eval()


@pytest.fixture(scope="module")
def backbone():
    return model()


class Counting(nn.Module):
    """A backbone that keeps what it was asked."""

    def __init__(self, inner, time_conditioned=False):
        super().__init__()
        self.inner = inner
        self.vocab_size, self.mask_id = inner.vocab_size, inner.mask_id
        self.time_conditioned = time_conditioned
        self.asked, self.times = [], []

    def hidden(self, batch, t=None):
        self.asked.append(batch.tokens.clone())
        self.times.append(t)
        return self.inner.hidden(batch)

    def logits(self, hidden):
        return self.inner.logits(hidden)


def law(backbone, tokens, place, w=0.0, prompt=0):
    """Return ``(V,)`` log-probabilities at one place, by hand."""

    def logits(ids):
        with torch.no_grad():
            return backbone.logits(backbone.hidden(Batch.of(ids[None]))[0, place][None])

    ids = torch.tensor(tokens)
    c = logits(ids)[0].double()
    without = ids.clone()
    without[:prompt] = MASK
    u = logits(without)[0].double()
    guided = u + (w + 1) * (c - u)
    guided[MASK] = -torch.inf
    return guided.log_softmax(0)


def by_orders(backbone, prompt, answer, w=0.0, asked=None):
    """Return the mean over all orders of the sum of log p, token by token."""
    asked = len(prompt) if asked is None else asked
    total = 0.0
    for order in itertools.permutations(range(len(answer))):
        tokens = [*prompt, *[MASK] * len(answer)]
        for i in order:
            place = len(prompt) + i
            total += float(law(backbone, tokens, place, w, asked)[answer[i]])
            tokens[place] = answer[i]
    return total / math.factorial(len(answer))


def one(backbone, prompt=PROMPT, answer=ANSWER, seed=0, **settings):
    found = score(
        backbone, [(prompt, answer)], settings=LikelihoodSettings(**settings), seed=seed
    )
    return found[0]


# ---- the bound --------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_short_answer_is_exact(backbone, length):
    answer = ANSWER[:length]
    found = one(backbone, answer=answer)
    expected = by_orders(backbone, PROMPT, answer)
    assert found.log_likelihood == pytest.approx(expected, abs=1e-5)
    assert (found.se, found.draws, found.tokens) == (0, 2**length - 1, length)


def test_enumeration_is_the_mean_over_orders(backbone):
    expected = by_orders(backbone, (), ANSWER)
    assert enumerated(backbone, (), ANSWER) == pytest.approx(expected, abs=1e-5)


def test_fewer_draws_than_sets_are_an_estimate_of_the_same(backbone):
    exact = enumerated(backbone, PROMPT, ANSWER)
    found = [one(backbone, draws=14, seed=seed) for seed in range(24)]
    values = torch.tensor([f.log_likelihood for f in found])
    errors = torch.tensor([f.se for f in found])
    assert {f.draws for f in found} == {14}
    assert (errors > 0).all()
    assert abs(values.mean() - exact) < 4 * values.std() / 24**0.5
    claimed = errors.square().mean().sqrt()
    assert 0.7 < claimed / values.std() < 2  # the error errs to the large side


def test_guidance_is_in_the_bound(backbone):
    for w in (0.5, 2.0):
        expected = by_orders(backbone, PROMPT, ANSWER[:3], w)
        found = one(backbone, answer=ANSWER[:3], cfg_scale=w)
        assert found.log_likelihood == pytest.approx(expected, abs=1e-5)


def test_guidance_with_w_0_changes_nothing(backbone):
    batch = Batch.of(
        torch.tensor([[*PROMPT, MASK, 3]]),
        frozen=torch.tensor([[True] * 3 + [False] * 2]),
    )
    with torch.no_grad():
        plain = backbone.logits(backbone.hidden(batch)[0])
        guided = Guided(backbone, 0.0)
        torch.testing.assert_close(guided.logits(guided.hidden(batch)[0]), plain)


def test_block_diffusion_is_asked_block_after_block():
    """Blocks of 4 after a prompt of 3: one token, then four, then two."""
    small = ExpertsConfig(count=2, per_token=1, width=8)
    causal = model(family="llada2", block_size=4, experts=small)
    answer = (3, 0, 7, 1, 1, 6, 2)
    for w in (0.0, 1.0):
        expected = sum(
            by_orders(causal, PROMPT + answer[:a], answer[a:b], w, asked=3)
            for a, b in ((0, 1), (1, 5), (5, 7))
        )
        found = one(causal, answer=answer, cfg_scale=w)
        assert found.log_likelihood == pytest.approx(expected, abs=1e-4)
        assert found.draws == 1 + 15 + 3


def test_answers_to_one_prompt_share_their_masks(backbone):
    counting = Counting(backbone)
    pairs = [(PROMPT, LONG), (PROMPT, LONG[::-1]), ((1, 1, 1), LONG)]
    score(counting, pairs, settings=LikelihoodSettings(draws=4))
    assert len(counting.asked) == 4
    for tokens in counting.asked:
        first, second, _ = tokens == MASK
        assert torch.equal(first, second)
    assert any(not torch.equal(*(t == MASK)[1:]) for t in counting.asked)


def test_a_score_does_not_depend_on_the_other_pairs(backbone):
    pairs = [
        (PROMPT, LONG),
        ((), ANSWER),
        ((4,), LONG[:6]),
        (PROMPT, ()),
        ((2, 2), LONG),
    ]
    settings = LikelihoodSettings(draws=20, batch_size=3)
    together = score(backbone, pairs, settings=settings)
    backwards = score(backbone, pairs[::-1], settings=settings)[::-1]
    for pair, found, other in zip(pairs, together, backwards, strict=True):
        alone = score(backbone, [pair], settings=settings)[0]
        for same in (found, other):
            assert same.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-4)
            assert same.se == pytest.approx(alone.se, abs=1e-4)
            assert same.draws == alone.draws


def test_nothing_is_certain(backbone):
    found = one(backbone, answer=())
    assert (found.log_likelihood, found.se, found.draws, found.tokens) == (0, 0, 0, 0)


def test_more_draws_are_made_where_the_error_is_large(backbone):
    first = one(backbone, answer=LONG, draws=8)
    target = first.se / 3
    more = one(backbone, answer=LONG, draws=8, target_se=target, max_draws=1000)
    assert 8 * 9 <= more.draws < 8 * 20
    assert more.se < 1.5 * target
    assert (
        one(backbone, answer=LONG, draws=8, target_se=target, max_draws=20).draws == 20
    )
    enough = one(backbone, answer=LONG, draws=8, target_se=2 * first.se)
    assert enough == first
    assert one(backbone, draws=15, target_se=1e-9).draws == 15  # exact already


def test_a_model_that_sees_the_time_is_told_the_share(backbone):
    counting = Counting(backbone, time_conditioned=True)
    one(counting, answer=ANSWER[:2], draws=3, greedy=True)
    assert sorted(counting.times[0].tolist()) == [0.5, 0.5, 1.0]
    assert counting.times[1].tolist() == pytest.approx([1.0], abs=1e-3)
    scored = Counting(backbone, time_conditioned=True)
    one(scored, answer=LONG, draws=4)
    shares = [(t == MASK)[:, 3:].double().mean(1) for t in scored.asked]
    for t, share in zip(scored.times, shares, strict=True):
        torch.testing.assert_close(t.double(), share)


# ---- greedy decoding --------------------------------------------------------


def decoded(backbone, prompt, length, w=0.0):
    """Return what committing the surest token, one at a time, gives."""
    tokens = [*prompt, *[MASK] * length]
    while MASK in tokens:
        laws = {
            i: law(backbone, tokens, i, w, len(prompt))
            for i, token in enumerate(tokens)
            if token == MASK
        }
        place = max(laws, key=lambda i: float(laws[i].max()))
        tokens[place] = int(laws[place].argmax())
    return tuple(tokens[len(prompt) :])


@pytest.mark.parametrize("w", [0.0, 1.5])
def test_greedy_answers_are_recognised(backbone, w):
    own = decoded(backbone, PROMPT, 6, w)
    other = (*own[:-1], (own[-1] + 1) % 8)
    pairs = [(PROMPT, own), (PROMPT, other), ((), ()), (PROMPT, own[:1])]
    settings = LikelihoodSettings(draws=2, greedy=True, cfg_scale=w, batch_size=2)
    found = score(backbone, pairs, settings=settings)
    first = decoded(backbone, PROMPT, 1, w) == own[:1]
    assert [f.greedy for f in found] == [True, False, True, first]
    assert one(backbone).greedy is None


def test_greedy_blocks_follow_each_other():
    small = ExpertsConfig(count=2, per_token=1, width=8)
    causal = model(family="llada2", block_size=4, experts=small)
    own = decoded(causal, PROMPT, 1)
    own += decoded(causal, PROMPT + own, 4)
    assert one(causal, answer=own, greedy=True).greedy
    assert not one(causal, answer=(*own[:-1], (own[-1] + 1) % 8), greedy=True).greedy


def test_a_row_is_left_at_its_first_other_token(backbone):
    own = decoded(backbone, PROMPT, 6)
    wrong = tuple((token + 1) % 8 for token in own)
    counting = Counting(backbone)
    pairs = [(PROMPT, own), (PROMPT, wrong)]
    score(counting, pairs, settings=LikelihoodSettings(draws=1, greedy=True))
    assert [len(t) for t in counting.asked] == [2, 2, 1, 1, 1, 1, 1]


# ---- refusals ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (((1,), (MASK,)), "holds the mask"),
        (((1,), (V,)), "0 to 8"),
        (((-1,), (1,)), "holds the id -1"),
    ],
)
def test_ids_that_are_no_text_are_refused(backbone, pair, reason):
    with pytest.raises(UsageError, match=reason):
        score(backbone, [pair])


def test_long_answers_are_not_enumerated(backbone):
    with pytest.raises(UsageError, match="8191 sets"):
        enumerated(backbone, (), (1,) * 13)


@pytest.mark.parametrize(
    "wrong",
    [
        {"draws": 0},
        {"batch_size": 0},
        {"target_se": -1.0},
        {"cfg_scale": math.nan},
        {"draws": 1, "target_se": 0.1},
        {"draws": 64, "max_draws": 32, "target_se": 0.1},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LikelihoodSettings(**wrong)
