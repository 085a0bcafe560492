"""Samplers that choose where to write next: by confidence, and block after block."""

import itertools
import math

import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.categorical import categorical
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import (
    Denoiser,
    ancestral,
    confidence,
    first_hitting,
    semi_autoregressive,
)
from mdlm_core.samplers.confidence import scores

from .fake_sampling import MASK, SCHEDULE, Fake, blank, run

# ---- confidence ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, [10]), (4, [3, 3, 2, 2]), (10, [1] * 10), (33, [1] * 10)],
)
def test_confidence_commits_equal_shares(steps, expected):
    trace = [torch.full((1, 10), MASK)]
    run(
        "confidence",
        Batch.of(trace[0]),
        steps=steps,
        callback=lambda _, now: trace.append(now),
    )
    left = [int((now == MASK).sum()) for now in trace]
    assert [a - b for a, b in itertools.pairwise(left)] == expected


@pytest.mark.parametrize("score", ["probability", "margin", "entropy"])
def test_confidence_commits_the_surest_first(score):
    """Without context the scores stay, so the order is that of the scores."""
    backbone = Fake(context=False)
    canvas = Batch.of(torch.full((1, 12), MASK))
    law = torch.cat(list(Denoiser(backbone).laws(canvas, torch.ones(1, 12).bool())))
    probs = law.double().exp()
    best = probs.sort(dim=-1, descending=True).values
    entropy = [-sum(p * math.log(p) for p in row if p > 0) for row in probs.tolist()]
    sure = {
        "probability": best[:, 0],
        "margin": best[:, 0] - best[:, 1],
        "entropy": (-torch.tensor(entropy)).exp(),
    }[score]
    torch.testing.assert_close(scores(law, law.argmax(-1), score), sure.float())
    trace = [canvas.tokens]
    confidence(
        Denoiser(backbone, temperature=0.0),
        canvas,
        schedule=SCHEDULE,
        noise=Noise(0),
        steps=12,
        score=score,
        callback=lambda _, now: trace.append(now),
    )
    committed = [int((a != b).nonzero()[0, 1]) for a, b in itertools.pairwise(trace)]
    assert committed == sure.argsort(descending=True).tolist()


def test_confidence_scores_the_token_that_is_drawn():
    law = torch.tensor([[0.7, 0.2, 0.1]]).log()
    for token, expected in enumerate([0.7, 0.2, 0.1]):
        score = scores(law, torch.tensor([token]), "probability")
        assert score.item() == pytest.approx(expected)


def test_confidence_draws_anew_at_every_step():
    """Else a position that drew a rare token would propose it until the end."""
    backbone = Fake(context=False)
    canvas = Batch.of(torch.full((1, 12), MASK))
    law = torch.cat(list(Denoiser(backbone).laws(canvas, torch.ones(1, 12).bool())))
    trace = [canvas.tokens]
    run(
        "confidence",
        canvas,
        backbone=backbone,
        steps=12,
        seed=5,
        callback=lambda _, now: trace.append(now),
    )
    for step, (before, after) in enumerate(itertools.pairwise(trace)):
        [position] = (before != after)[0].nonzero().flatten().tolist()
        u = Noise(5).child("what", step).uniform(canvas.sample_id, 12)[0]
        expected = categorical(law[position : position + 1], u[position : position + 1])
        assert after[0, position] == expected


def test_a_threshold_commits_all_that_reach_it_and_at_least_one():
    backbone = Fake(context=False)
    canvas = Batch.of(torch.full((1, 12), MASK))
    law = torch.cat(list(Denoiser(backbone).laws(canvas, torch.ones(1, 12).bool())))
    sure = law.exp().amax(-1).sort(descending=True).values
    threshold = float(sure[4:6].mean())  # five pass
    trace = [canvas.tokens]
    sampled = confidence(
        Denoiser(backbone, temperature=0.0),
        canvas,
        schedule=SCHEDULE,
        noise=Noise(0),
        steps=1,
        threshold=threshold,
        callback=lambda _, now: trace.append(now),
    )
    left = [int((now == MASK).sum()) for now in trace]
    assert left == [12, 7, 6, 5, 4, 3, 2, 1, 0]
    assert sampled.nfe.item() == 8


# ---- blocks -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["semi-ar", "semi-ar-confidence"])
def test_blocks_are_filled_from_left_to_right(name):
    canvas = blank()
    outside = ~(canvas.free & (canvas.tokens == MASK))

    def check(_, tokens):
        done = (tokens != MASK) | outside
        for row, fresh in zip(done, (tokens != canvas.tokens), strict=True):
            if fresh.any():
                block = int(fresh.nonzero().max()) // 5
                assert row[: block * 5].all()

    run(name, canvas, callback=check, batch_size=2)


@pytest.mark.parametrize("inner", [ancestral, first_hitting, confidence])
def test_one_block_is_the_inner_sampler(inner):
    given = {"schedule": SCHEDULE, "noise": Noise(1), "steps": 7}
    blocks = semi_autoregressive(
        Denoiser(Fake()), blank(), block=100, inner=inner, **given
    )
    alone = inner(Denoiser(Fake()), blank(), **given)
    assert torch.equal(blocks.tokens, alone.tokens)
    assert torch.equal(blocks.nfe, alone.nfe)


def test_blocks_share_the_steps():
    canvas = Batch.of(torch.full((1, 40), MASK))
    sampled = semi_autoregressive(
        Denoiser(Fake()),
        canvas,
        block=10,
        inner=confidence,
        schedule=SCHEDULE,
        noise=Noise(0),
        steps=8,
    )
    assert sampled.nfe.item() == 8


def test_a_block_has_positions():
    with pytest.raises(UsageError, match="block is 0"):
        semi_autoregressive(
            Denoiser(Fake()),
            blank(),
            block=0,
            schedule=SCHEDULE,
            noise=Noise(0),
            steps=1,
        )
