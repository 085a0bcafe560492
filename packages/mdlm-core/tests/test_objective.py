"""The training loss: its expectation, its divisor, and the rows it gives the head."""

import math

import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import (
    Corrupted,
    Cosine,
    CosineSquared,
    Draw,
    Geometric,
    LinearSigma,
    LogLinear,
    corrupt_exactly,
    corrupt_for_training,
    masked_cross_entropy,
    nelbo,
    subs,
)
from mdlm_core.diffusion.objective import CHUNK
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Rates

from .toy import MASK, Toy, any_order_bound, cost_at

SCHEDULES = [LogLinear(), Cosine(), CosineSquared(), LinearSigma(), Geometric()]
KINDS = ["stratified", "uniform", "importance", "counts"]
T_MIN = 1e-2


def draw_of(rows, seed=0, step=0):
    return Draw(Noise(seed), torch.arange(rows), rows, step)


def copies(tokens, rows, frozen=None):
    many = torch.tensor([tokens]).expand(rows, -1)
    mark = None if frozen is None else torch.tensor([frozen]).expand(rows, -1)
    return Batch.of(many, frozen=mark)


class Even(torch.nn.Module):
    """Every logit is zero, or a multiple of the position; with or without a head."""

    vocab_size, mask_id, time_conditioned = 258, 257, False

    def __init__(self, width=4, fused=True):
        super().__init__()
        head = torch.nn.Linear(width, self.vocab_size)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        self.head = head if fused else None
        self.layer = head
        self.width = width
        self.rows = []

    def hidden(self, batch, t=None):
        shape = (*batch.tokens.shape, self.width)
        return torch.ones(shape, requires_grad=True)

    def logits(self, hidden):
        self.rows.append(len(hidden))
        return self.layer(hidden)


# ---- expectation ------------------------------------------------------------


def integral(toy, tokens, free, schedule, density=None, points=100_000):
    """Return the mean over t in [T_MIN, 1] of weight(t) times the expected cost."""
    t = T_MIN + (1 - T_MIN) * (torch.arange(points).double() + 0.5) / points
    cost = cost_at(toy, tokens, free, schedule.mask_rate(t))
    if density is None:
        return float((schedule.weight(t) * cost).mean())
    share = density(t) / density(t).sum()
    return float((schedule.weight(t) * cost * share).sum())


def bell(t):
    return 0.1 + 0.9 * (4 * t * (1 - t)) ** 1.2


@pytest.mark.parametrize("kind", [*KINDS, "bell"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_expectation_against_enumeration(schedule, kind):
    toy, tokens, rows = Toy(3), [0, 1, 1], 20_000
    loss = nelbo(
        toy,
        copies(tokens, rows),
        schedule=schedule,
        draw=draw_of(rows),
        t_sampling=kind,
        t_min=T_MIN,
    )
    row_of = loss.masked.nonzero()[:, 0]
    if kind == "counts":
        expected = any_order_bound(toy, tokens, [0, 1, 2])
    elif kind == "bell":
        expected = integral(toy, tokens, [0, 1, 2], schedule, bell)
    else:
        expected = integral(toy, tokens, [0, 1, 2], schedule)
    assert int(loss.count) == 3 * rows
    mean = float(loss.total.detach()) / rows
    corrupted = corrupt_for_training(
        copies(tokens, rows),
        schedule=schedule,
        draw=draw_of(rows),
        t_sampling=kind,
        t_min=T_MIN,
        mask_id=MASK,
    )
    each = torch.zeros(rows).double()
    each.index_add_(0, row_of, (corrupted.weight[loss.masked] * loss.nll).double())
    assert float(each.mean()) == pytest.approx(mean, rel=1e-5)
    error = float(each.std()) / rows**0.5
    assert error < 0.04 * expected
    assert abs(mean - expected) < 4 * error


def test_expectation_with_a_frozen_position():
    toy, tokens, rows = Toy(3, seed=2), [1, 0, 1], 40_000
    batch = copies(tokens, rows, frozen=[False, True, False])
    loss = nelbo(
        toy, batch, schedule=LogLinear(), draw=draw_of(rows), t_sampling="counts"
    )
    assert int(loss.count) == 2 * rows
    expected = any_order_bound(toy, tokens, [0, 2])
    mean = float(loss.total.detach()) / rows
    assert mean == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("schedule", [Cosine(), LogLinear(0.3), Geometric()])
def test_exact_counts_train_at_the_time_of_their_share(schedule):
    noised = corrupt_for_training(
        copies([0, 1, 0, 1], 32),
        schedule=schedule,
        draw=draw_of(32),
        t_sampling="counts",
        mask_id=MASK,
    )
    low, high = schedule.mask_rate(torch.tensor([0.0, 1.0], dtype=torch.float64))
    share = noised.masked.double().mean(1).clamp(low, high)
    found = schedule.mask_rate(noised.t.double())
    torch.testing.assert_close(found, share, atol=1e-6, rtol=0)


# ---- divisor and weights ----------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
def test_even_logits_cost_ln_of_the_tokens(fused):
    # exact counts: weight n / k times k tokens of ln(V - 1), whatever k is
    batch = Batch.of(torch.randint(0, 257, (32, 20), generator=torch.Generator()))
    backbone = Even(fused=fused)
    loss = nelbo(
        backbone, batch, schedule=LogLinear(), draw=draw_of(32), t_sampling="counts"
    )
    assert abs(float(loss.total.detach() / loss.count) - math.log(257)) < 1e-5
    assert loss.total.dtype == loss.nll.dtype == torch.float32
    assert not loss.nll.requires_grad
    torch.testing.assert_close(loss.nll, torch.full_like(loss.nll, math.log(257)))


def test_the_divisor_counts_free_tokens_not_hidden_ones():
    frozen = torch.zeros(8, 10, dtype=torch.bool)
    frozen[:, :4] = True
    pad = torch.zeros_like(frozen)
    pad[:, 9:] = True
    tokens = torch.zeros(8, 10, dtype=torch.long)
    batch = Batch.of(tokens, frozen=frozen, pad=pad)
    noised = corrupt_exactly(
        batch, torch.full((8,), 2), noise=Noise(0), mask_id=Even.mask_id
    )
    loss = masked_cross_entropy(Even(), noised)
    assert int(noised.masked.sum()) == 16
    assert int(loss.count) == 8 * 5
    assert len(loss.nll) == 16
    assert torch.equal(loss.masked, noised.masked)
    expected = 16 * 5 / 2 * math.log(257)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("fused", [True, False])
def test_weights_go_with_their_positions(fused):
    generator = torch.Generator().manual_seed(3)
    masked = torch.rand(4, 6, generator=generator) < 0.5
    weight = torch.rand(4, 6, generator=generator)
    batch = Batch.of(torch.zeros(4, 6, dtype=torch.long))
    noised = Corrupted(batch, batch.tokens, masked, weight, torch.ones(4))
    loss = masked_cross_entropy(Even(fused=fused), noised)
    expected = float(weight[masked].sum()) * math.log(257)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("fused", [True, False])
def test_weights_that_are_learned_get_gradients(fused):
    weight = torch.full((2, 5), 0.5, requires_grad=True)
    batch = Batch.of(torch.zeros(2, 5, dtype=torch.long))
    masked = torch.arange(10).view(2, 5) % 2 == 0
    noised = Corrupted(batch, batch.tokens, masked, weight, torch.ones(2))
    loss = masked_cross_entropy(Even(fused=fused), noised)
    loss.total.backward()
    assert float(loss.total.detach()) == pytest.approx(2.5 * math.log(257), rel=1e-6)
    torch.testing.assert_close(weight.grad, masked * math.log(257))


@pytest.mark.parametrize("fused", [True, False])
def test_nothing_hidden_is_a_loss_of_zero_with_gradients(fused):
    batch = Batch.of(torch.zeros(2, 5, dtype=torch.long))
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    noised = Corrupted(batch, batch.tokens, nothing, torch.ones(2, 5), torch.ones(2))
    backbone = Even(fused=fused)
    loss = masked_cross_entropy(backbone, noised)
    loss.total.backward()
    assert float(loss.total.detach()) == 0
    assert int(loss.count) == 10
    assert backbone.layer.weight.grad.abs().sum() == 0


# ---- what the head sees -----------------------------------------------------


def test_the_head_sees_hidden_rows_only_and_in_chunks():
    tokens = torch.zeros(10, 100, dtype=torch.long)
    backbone = Even(fused=False)
    noised = corrupt_exactly(
        Batch.of(tokens), torch.full((10,), 60), noise=Noise(0), mask_id=257
    )
    with torch.no_grad():
        masked_cross_entropy(backbone, noised)
    assert sum(backbone.rows) == 600
    assert max(backbone.rows) <= CHUNK


def test_a_subclass_of_linear_is_not_bypassed():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x) + torch.arange(self.out_features)

    backbone = Even()
    backbone.head = backbone.layer = Doubled(4, 258)
    batch = Batch.of(torch.zeros(2, 5, dtype=torch.long))
    loss = nelbo(
        backbone, batch, schedule=LogLinear(), draw=draw_of(2), t_sampling="counts"
    )
    logits = backbone.layer(torch.ones(1, 4))
    expected = -subs(logits, 257)[0, 0]
    torch.testing.assert_close(loss.nll, expected.detach().expand(len(loss.nll)))


def test_a_time_conditioned_backbone_gets_the_time_of_each_row():
    toy = Toy(3)
    batch = copies([0, 1, 1], 8)
    for kind in KINDS:
        nelbo(toy, batch, schedule=Cosine(), draw=draw_of(8), t_sampling=kind)
        noised = corrupt_for_training(
            batch, schedule=Cosine(), draw=draw_of(8), t_sampling=kind, mask_id=MASK
        )
        assert torch.equal(toy.times[-1], noised.t)
        assert toy.times[-1].shape == (8,)


# ---- randomness -------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "bell"])
def test_cutting_a_batch_changes_neither_masks_nor_loss(kind):
    toy = Toy(3)
    tokens = torch.randint(0, 2, (12, 3), generator=torch.Generator().manual_seed(0))
    batch, rows, noise = Batch.of(tokens, epoch=3), torch.arange(12), Noise(5)

    def part(cut):
        draw = Draw(noise, rows[cut], 12, step=9)
        return nelbo(
            toy, batch.select(cut), schedule=LogLinear(), draw=draw, t_sampling=kind
        )

    whole = part(slice(None))
    parts = [part(slice(0, 3)), part(slice(3, 4)), part(slice(4, 12))]
    assert torch.equal(torch.cat([loss.masked for loss in parts]), whole.masked)
    assert sum(int(loss.count) for loss in parts) == int(whole.count)
    torch.testing.assert_close(sum(loss.total for loss in parts), whole.total)


def test_steps_change_times_and_epochs_change_masks():
    tokens = torch.zeros(16, 64, dtype=torch.long)

    def noised(step, epoch, kind="stratified"):
        return corrupt_for_training(
            Batch.of(tokens, epoch=epoch),
            schedule=LogLinear(),
            draw=draw_of(16, step=step),
            t_sampling=kind,
            mask_id=9,
        )

    for kind in KINDS:
        first = noised(0, 0, kind)
        assert not torch.equal(first.t, noised(1, 0, kind).t)
        assert torch.equal(first.t, noised(0, 1, kind).t)
        assert not torch.equal(first.masked, noised(0, 1, kind).masked)
        assert torch.equal(first.masked, noised(0, 0, kind).masked)


# ---- refusals ---------------------------------------------------------------


class Tilted:
    def rates(self, batch, t, schedule):
        tilt = torch.linspace(0.5, 1, batch.length).double()
        return Rates(schedule.mask_rate(t)[:, None] * tilt, schedule.weight(t)[:, None])


def test_counts_do_not_go_with_a_policy_that_is_not_uniform():
    batch = copies([0, 1, 1], 4)
    settings = {"schedule": LogLinear(), "draw": draw_of(4), "policy": Tilted()}
    with pytest.raises(ConfigError, match=r"'Tilted'.*t_sampling=stratified"):
        nelbo(Toy(3), batch, t_sampling="counts", **settings)
    assert torch.isfinite(nelbo(Toy(3), batch, **settings).total)


# ---- SUBS -------------------------------------------------------------------


def test_subs_normalises_over_tokens_and_never_says_mask():
    logits = 5 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    for mask_id in (0, 3, 6):
        log_probs = subs(logits, mask_id)
        assert (log_probs[:, mask_id] == -math.inf).all()
        rest = [v for v in range(7) if v != mask_id]
        expected = logits[:, rest].double().log_softmax(-1).float()
        torch.testing.assert_close(log_probs[:, rest], expected)
    assert subs(logits.bfloat16(), 3).dtype == torch.float32
    high = logits.clone()
    high[:, 3] = 1e30  # a logit of the mask changes nothing
    assert torch.equal(subs(high, 3), subs(logits, 3))
