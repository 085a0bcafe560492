"""Preference optimisation: the loss, its gradient, its bounds and their variance."""

import math
from dataclasses import replace

import pytest
import torch

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.train.state import named_tensors
from mdlm_llada.preference.scores import Draws, both, log_bounds, views

from .preference_toy import (
    LENGTHS,
    REJECTED,
    Placed,
    draw,
    exact_bound,
    moved,
    pairs,
    preference,
    rejected_rows,
    sampling_variance,
)
from .sft_toy import MASK, ToyBackbone, rows

KINDS = {
    "counts": {"estimator": "counts"},
    "times": {"estimator": "times"},
    "mirrored counts": {"estimator": "counts", "mirror": True},
    "mirrored times": {"estimator": "times", "mirror": True},
}
SIZES = (4, 4, 3)
"""Tokens of the rejected answers."""


# ---- rows --------------------------------------------------------------------


def test_a_pair_is_two_rows_with_one_prompt():
    batch = pairs()
    found = both(batch)
    assert found.tokens.shape == (6, 7)
    assert found.tokens[:3, :6].tolist() == batch.tokens.tolist()
    assert found.tokens[3:].tolist() == REJECTED
    assert found.free.sum(1).tolist() == [5, 3, 2, 4, 4, 3]
    assert (~found.pad).sum(1).tolist() == [6, 6, 2, *LENGTHS]
    alone = rejected_rows()
    assert torch.equal(found.frozen[3:], alone.frozen)
    assert found.sample_id.tolist() == [0, 2, 4, 1, 3, 5]


def test_data_without_rejected_answers_are_refused():
    with pytest.raises(DataError, match=r"use data\.name=llada-preferences"):
        both(rows())


# ---- bounds ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 4])
def test_the_bounds_are_unbiased(kind, count):
    """Their mean is the sum over all sets of hidden tokens."""
    backbone, copies = ToyBackbone(), 1500
    batch = both(pairs(copies))
    noised = views(batch, Draws(count, **KINDS[kind]), noise=Noise(1), mask_id=MASK)
    with torch.no_grad():
        sums, _, _ = log_bounds(backbone, noised)
    means = sums.double().mean(0).view(2, copies, 3)
    for side, alone in enumerate((rows(), rejected_rows())):
        for row in range(3):
            goal = exact_bound(backbone, alone, row)
            values = means[side, :, row]
            error = float(values.std()) / copies**0.5
            assert abs(float(values.mean()) - goal) < 4 * error
            assert error < 0.03 * abs(goal)


@pytest.mark.parametrize("kind", KINDS)
def test_each_draw_has_a_part_of_the_counts_or_times_to_itself(kind):
    batch = both(pairs(200))
    noised = views(batch, Draws(4, **KINDS[kind]), noise=Noise(1), mask_id=MASK)
    shares = torch.stack([view.t for view in noised])
    if "counts" in kind:
        n = batch.free.sum(1)
        counts = torch.stack([view.masked.sum(1) for view in noised])
        assert (counts >= 1).all()
        assert torch.allclose(shares, counts / n)
        shares = (counts - 0.5) / n  # the middle of a count's part of (0, 1)
    low = torch.arange(4)[:, None] / 4
    slack = 0.5 / 2 if "counts" in kind else 0.0
    assert (shares > low - slack).all()
    assert (shares < low + 0.25 + slack).all()


def test_mirrored_counts_hide_every_token_and_one_of_them_twice():
    batch = both(pairs(50))
    noised = views(batch, Draws(4, mirror=True), noise=Noise(1), mask_id=MASK)
    for one, other in ((0, 3), (1, 2)):
        first, second = noised[one].masked, noised[other].masked
        assert torch.equal(first | second, batch.free)
        assert ((first & second).sum(1) == 1).all()


def test_masks_of_a_pair_do_not_depend_on_the_other_pairs():
    batch = pairs(3)
    kept = torch.tensor([4, 7])
    whole = views(both(batch), Draws(2), noise=Noise(1), mask_id=MASK)
    part = views(both(batch.select(kept)), Draws(2), noise=Noise(1), mask_id=MASK)
    for one, other in zip(whole, part, strict=True):
        chosen = one.masked[torch.cat([kept, 9 + kept])]
        assert torch.equal(chosen, other.masked)


# ---- the loss ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_its_reference_has_the_loss_ln_2(kind):
    subject = preference(apart=False, **KINDS[kind])
    batch = pairs()
    loss = subject(batch, draw(batch))
    assert loss.total.item() == pytest.approx(3 * math.log(2), abs=1e-6)
    assert int(loss.count) == int(subject.count(batch)) == 3
    assert float(loss.extra["accuracy"]) == 0.5
    for name in ("margin", "chosen", "rejected", "variance"):
        assert float(loss.extra[name]) == pytest.approx(0, abs=1e-6)
    loss.total.backward()
    assert max(float(p.grad.norm()) for p in subject.backbone.parameters()) > 0.01
    assert all(p.grad is None for p in subject.reference.parameters())


@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_is_the_formula(shared):
    subject, batch = preference(shared=shared), pairs()
    loss = subject(batch, draw(batch))
    noise = Noise(4).child("pairs", 0)
    keys = [noise, noise if shared else noise.child("reference")]
    scores = []
    for model, key in zip(
        (subject.backbone, subject.reference.copy), keys, strict=True
    ):
        noised = views(both(batch), subject.draws, noise=key, mask_id=MASK)
        sums = torch.zeros(4, 6, dtype=torch.float64)
        for d, view in enumerate(noised):
            with torch.no_grad():
                logits = model.logits(model.hidden(view.batch))
            logits[..., MASK] = -torch.inf
            log_p = logits.log_softmax(-1)
            for r, place in view.masked.nonzero().tolist():
                n, k = int(view.batch.free[r].sum()), int(view.masked[r].sum())
                sums[d, r] += n / k * log_p[r, place, view.targets[r, place]]
        scores.append(sums.mean(0))
    gain = 0.3 * (scores[0] - scores[1])
    margins = (gain[:3] - gain[3:]).tolist()
    goal = sum(math.log(1 + math.exp(-z)) for z in margins)
    assert loss.total.item() == pytest.approx(goal, rel=1e-5)
    assert float(loss.extra["margin"]) == pytest.approx(sum(margins) / 3, rel=1e-4)
    assert float(loss.extra["chosen"]) == pytest.approx(
        float(gain[:3].mean()), rel=1e-4
    )
    assert float(loss.extra["accuracy"]) == sum(z > 0 for z in margins) / 3
    assert loss.masked.shape == (24, 7)
    assert len(loss.nll) == int(loss.masked.sum())


@pytest.mark.parametrize("kind", ["counts", "mirrored times"])
def test_the_gradient_is_that_of_finite_differences(kind):
    subject, batch = preference(**KINDS[kind]), pairs()
    subject(batch, draw(batch)).total.backward()
    generator = torch.Generator().manual_seed(9)
    for _ in range(3):
        step = [
            torch.randn(p.shape, generator=generator, dtype=p.dtype)
            for p in subject.backbone.parameters()
        ]
        slope = sum(
            float((p.grad * s).sum())
            for p, s in zip(subject.backbone.parameters(), step, strict=True)
        )
        h, values = 4e-3, {}
        for times in (-2, -1, 1, 2):
            with torch.no_grad():
                for p, s in zip(subject.backbone.parameters(), step, strict=True):
                    p.add_(times * h * s)
                values[times] = subject(batch, draw(batch)).total.item()
                for p, s in zip(subject.backbone.parameters(), step, strict=True):
                    p.sub_(times * h * s)
        near, far = values[1] - values[-1], values[2] - values[-2]
        assert (8 * near - far) / (12 * h) == pytest.approx(slope, rel=1e-3, abs=5e-3)


def test_halves_of_a_batch_add_up():
    subject, batch = preference(), pairs(2)
    whole = subject(batch, draw(batch))
    parts = [
        subject(batch.select(cut), replace(draw(batch), rows=torch.arange(6)[cut]))
        for cut in (slice(0, 2), slice(2, 6))
    ]
    assert sum(p.total.item() for p in parts) == pytest.approx(whole.total.item())
    assert sum(int(p.count) for p in parts) == 6


def test_masks_are_new_in_every_epoch():
    subject, batch = preference(), pairs()
    losses = {
        subject(replace(batch, epoch=epoch), draw(batch)).total.item()
        for epoch in range(3)
    }
    assert len(losses) == 3


# ---- variance ----------------------------------------------------------------


def spread(subject, copies):
    """Return the variances of the margins of the three pairs over many masks."""
    with torch.no_grad():
        found = subject.margins(pairs(copies), Noise(6))
    return found.margin.double().view(copies, 3).var(0)


def test_shared_masks_take_the_variance_that_model_and_reference_have_in_common():
    """The closed form of sampling without replacement; here by factors of 10 and more.

    Apart, the variances of the two bounds add up. Shared, what counts is the spread of
    the differences of the tokens' log-probabilities.
    """
    backbone = Placed()
    shared = preference(backbone, apart=False, count=1)
    moved(backbone, 0.1)
    other = shared.reference.copy
    apart = preference(backbone, apart=False, count=1, shared=False)
    apart.reference = shared.reference
    prompts, sides = (1, 3, 0), ((rows().tokens.tolist(), (5, 3, 2)), (REJECTED, SIZES))
    answers = [
        [(ids[p : p + n], p) for ids, p, n in zip(side, prompts, sizes, strict=True)]
        for side, sizes in sides
    ]
    goal = torch.zeros(2, 3, dtype=torch.float64)
    for side in answers:
        for index, (ids, first) in enumerate(side):
            mine, base = backbone.costs(ids, first), other.costs(ids, first)
            goal[0, index] += 0.09 * sampling_variance(mine - base)
            goal[1, index] += 0.09 * (sampling_variance(mine) + sampling_variance(base))
    found = torch.stack([spread(shared, 20_000), spread(apart, 20_000)])
    assert torch.allclose(found, goal, rtol=0.08)
    factor = goal[1] / goal[0]
    assert float(factor.min()) > 10
    assert torch.allclose(found[1] / found[0], factor, rtol=0.12)


def test_more_masks_and_mirrored_ones_have_less_variance():
    one, four, mirrored = (
        spread(preference(**settings), 1500)
        for settings in ({"count": 1}, {"count": 4}, {"count": 4, "mirror": True})
    )
    assert (four < one / 4).all()  # stratified: better than 4 times
    assert float(mirrored.mean()) < float(four.mean())


@pytest.mark.parametrize(("count", "mirror"), [(6, False), (8, True)])
def test_the_variance_is_told_by_the_draws(count, mirror):
    """Between strata it is estimated from neighbours, which errs to the large side."""
    subject = preference(count=count, mirror=mirror)
    with torch.no_grad():
        found = subject.margins(pairs(1500), Noise(6))
    told = subject.variance(found.values).view(1500, 3).mean(0)
    true = found.margin.double().view(1500, 3).var(0)
    assert (told > 0.9 * true).all()
    assert float(told.sum()) < 6 * float(true.sum())


def test_one_draw_tells_no_variance():
    batch = pairs()
    for settings in ({"count": 1}, {"count": 2, "mirror": True}):
        loss = preference(**settings)(batch, draw(batch))
        assert "variance" not in loss.extra


# ---- the reference -----------------------------------------------------------


def test_the_reference_is_in_no_checkpoint_and_does_not_learn():
    subject, batch = preference(apart=False), pairs()
    others = [n for n in named_tensors(subject) if not n.startswith("backbone.")]
    assert others == ["reference.checksum"]
    assert subject.train().reference.training is False
    before = [p.clone() for p in subject.reference.parameters()]
    wanted = [p for p in subject.parameters() if p.requires_grad]
    assert len(wanted) == len(list(subject.backbone.parameters()))
    optimizer = torch.optim.AdamW(wanted, lr=0.02)
    for step in range(30):
        optimizer.zero_grad()
        loss = subject(batch, draw(batch, Noise(step)))
        loss.total.backward()
        optimizer.step()
    assert float(loss.extra["accuracy"]) == 1.0
    assert loss.total.item() < 0.6 * 3 * math.log(2)
    for value, old in zip(subject.reference.parameters(), before, strict=True):
        assert torch.equal(value, old)
