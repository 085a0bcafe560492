"""The loss against its formula, and its control variate against enumeration."""

from itertools import combinations

import pytest
import torch

from mdlm_classify.nn.condition import labelled
from mdlm_classify.objective import _control, hybrid_loss, meet, thinned
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import masked_cross_entropy
from mdlm_core.diffusion.corrupt import Corrupted
from mdlm_core.kernels.noise import Noise

from .class_models import MASK, L, model


def rows(count=4):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, MASK, (count, L), generator=generator)
    pad = torch.zeros(count, L, dtype=torch.bool)
    pad[1, 4:] = True
    return Batch.of(
        tokens, pad=pad, condition={"label": torch.tensor([0, 2, 1, -1][:count])}
    )


def noised(batch, masked, weight):
    return Corrupted(
        batch=batch.with_tokens(batch.tokens.masked_fill(masked, MASK)),
        targets=batch.tokens,
        masked=masked,
        weight=weight.expand(batch.tokens.shape),
        t=torch.full((len(batch),), 0.5),
    )


def chosen(labels, *, contrast=7, hidden=None, seed=0):
    return meet(
        labels,
        classes=3,
        contrast=contrast,
        hidden=torch.zeros_like(labels, dtype=torch.bool) if hidden is None else hidden,
        noise=Noise(seed),
        rows=torch.arange(len(labels)),
    )


def test_every_row_meets_its_class_and_others():
    labels = torch.tensor([0, 2, 1, -1])
    met = chosen(labels, hidden=torch.tensor([False, True, False, False]))
    assert met.row[:4].tolist() == [0, 1, 2, 3]
    assert met.label[:4].tolist() == [0, -1, 1, -1]
    for row in range(3):
        compared = met.label[(met.row == row) & met.compared].tolist()
        assert sorted(compared) == [0, 1, 2]
    assert not met.compared[met.row == 3].any()
    few = chosen(labels, contrast=1)
    counts = [int(((few.row == row) & few.compared).sum()) for row in range(4)]
    assert counts == [2, 2, 2, 0]


@pytest.mark.parametrize("per_class", [False, True])
def test_value_and_gradient_are_those_of_the_formula(per_class):
    made = model(3, per_class=per_class)
    batch = rows(3)
    masked = torch.rand(3, L, generator=torch.Generator().manual_seed(4)) < 0.6
    masked &= batch.free
    weight = torch.tensor([[1.5], [2.0], [1.0]])
    prior = torch.tensor([0.2, 0.3, 0.5]).log()
    counts, d = torch.tensor([1.0, 2.0, 0.5]), 0.7
    corrupted = noised(batch, masked, weight)
    labels = batch.condition["label"]
    loss = hybrid_loss(
        made,
        corrupted,
        chosen(labels),
        log_prior=prior,
        row_weights=counts,
        discriminative=d,
        temper=0.5,
    )
    found = torch.autograd.grad(loss.total, list(made.parameters()), allow_unused=True)

    sums = []
    for c in range(3):
        states = made.hidden(labelled(corrupted.batch, torch.full((3,), c)))
        logits = made.logits(states.flatten(0, 1)).view(3, L, -1)
        logits[..., MASK] = -torch.inf
        nll = -logits.log_softmax(-1).gather(2, batch.tokens[..., None])[..., 0]
        u = made.context_free()[c][batch.tokens]
        terms = weight * nll * masked + u * (masked * weight - batch.free.float())
        sums.append(terms.sum(1))
    sums = torch.stack(sums, 1)
    n = batch.free.sum(1)
    own = sums.gather(1, labels[:, None])[:, 0]
    log_q = (
        ((prior - sums) / n[:, None] ** 0.5)
        .log_softmax(1)
        .gather(1, labels[:, None])[:, 0]
    )
    value = (counts[labels] * (own - d * n * log_q)).sum()
    wanted = torch.autograd.grad(value, list(made.parameters()), allow_unused=True)
    assert torch.allclose(loss.total, value, rtol=1e-5)
    assert int(loss.count) == int(n.sum())
    seen = 0
    for a, b in zip(found, wanted, strict=True):
        if b is None:
            assert a is None or (a == 0).all()
            continue
        seen += 1
        assert a is not None
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)
    assert seen > 5


def test_without_the_posterior_it_is_the_bound_of_core():
    made = model(3)
    batch = rows()
    corrupted = noised(batch, batch.free, torch.ones(1, 1))  # no noise to control
    loss = hybrid_loss(
        made,
        corrupted,
        chosen(batch.condition["label"], contrast=0),
        log_prior=torch.zeros(3),
        row_weights=torch.ones(3),
        discriminative=0.0,
        temper=0.5,
    )
    core = masked_cross_entropy(made, corrupted)
    assert torch.allclose(loss.total, core.total, rtol=1e-5)
    assert torch.allclose(loss.nll, core.nll, rtol=1e-4)
    assert torch.equal(loss.masked, core.masked)


def test_the_control_has_mean_zero_over_all_masks():
    made, batch = model(3), rows(2)
    n = batch.free.sum(1)
    met = chosen(batch.condition["label"])
    total = torch.zeros(len(met.row))
    for row in range(2):
        free = batch.free[row].nonzero()[:, 0].tolist()
        mean = torch.zeros(len(met.row))
        for k in range(1, len(free) + 1):
            subsets = list(combinations(free, k))
            for subset in subsets:
                masked = torch.zeros(2, L, dtype=torch.bool)
                masked[row, list(subset)] = True
                corrupted = noised(batch, masked, (n / k)[:, None])
                control = _control(made, corrupted, met)
                mean += control / len(subsets) / len(free)
        total += mean * (met.row == row)
    assert total.abs().max() < 1e-4


def test_a_row_of_rare_classes_counts_more():
    made, batch = model(3), rows(3)
    corrupted = noised(batch, batch.free, torch.ones(1, 1))

    def total(weights):
        return hybrid_loss(
            made,
            corrupted,
            chosen(batch.condition["label"]),
            log_prior=torch.zeros(3),
            row_weights=torch.tensor(weights),
            discriminative=1.0,
            temper=0.5,
        ).total

    parts = [total([float(i == c) for i in range(3)]) for c in range(3)]
    assert torch.allclose(sum(parts), total([1.0, 1.0, 1.0]), rtol=1e-5)
    assert torch.allclose(total([2.0, 0.0, 0.0]), 2 * parts[0], rtol=1e-5)


def test_fewer_scored_tokens_have_the_same_mean():
    batch = rows(3)
    corrupted = noised(batch, batch.free, torch.full((1, 1), 1.5))
    whole = (corrupted.masked * corrupted.weight).sum(1)
    seen = torch.zeros(3, L)
    draws = 300
    for draw in range(draws):
        few = thinned(corrupted, 2, noise=Noise(draw), rows=torch.arange(3))
        assert (few.masked.sum(1) == 2).all()
        assert torch.equal(few.batch.tokens, corrupted.batch.tokens)
        weights = few.masked * few.weight
        assert torch.allclose(weights.sum(1), whole)
        seen += weights / draws
    assert torch.allclose(seen, corrupted.masked * corrupted.weight, atol=0.5)
    assert thinned(corrupted, 0, noise=Noise(0), rows=torch.arange(3)) is corrupted
