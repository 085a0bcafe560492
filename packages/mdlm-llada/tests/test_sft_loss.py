"""The loss of fine-tuning against sums over all masks, and against hand-made ones."""

import math
from dataclasses import replace

import pytest
import torch

from mdlm_core.diffusion import Draw
from mdlm_core.errors import TrainingError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Rates
from mdlm_llada.config import TimesConfig
from mdlm_llada.sft.curves import Curves, measure_losses
from mdlm_llada.sft.module import AtTimes, joined
from mdlm_llada.sft.noise import MirroredNoise

from .sft_toy import (
    ANSWERS,
    MASK,
    T_MIN,
    ToyBackbone,
    V,
    every_mask,
    expected_losses,
    loss_at,
    module,
    rows,
)

CUSTOM = TimesConfig(model="custom", custom=(2.0, 0.4, 1.0))
MODES = {"Normal": {}, "MultiSample": {"masks": 3}, "MIRROR": {}}


def draw(noise, batch, step=0):
    return Draw(noise, torch.arange(len(batch)), len(batch), step=step)


def targets(losses):
    """Return what each normaliser makes of the rows' expected losses."""
    sums = [n * loss for n, loss in zip(ANSWERS, losses, strict=True)]
    return {
        "sequence": sum(losses) / 3,
        "token": sum(sums) / sum(ANSWERS),
        "batch": sum(sums) / 3,
    }


def means(subject, batch, steps):
    """Return the mean of the loss over `steps` batches, and its standard error."""
    with torch.no_grad():
        losses = [subject(batch, draw(Noise(step), batch)) for step in range(steps)]
    values = torch.stack([loss.total.double() / loss.count for loss in losses])
    return float(values.mean()), float(values.std() / steps**0.5)


# ---- no mode is biased -------------------------------------------------------


@pytest.mark.parametrize("times", [TimesConfig(), CUSTOM], ids=["uniform", "custom"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm", ["sequence", "token", "batch"])
def test_the_mean_over_masks_and_times_is_the_enumerated_one(mode, norm, times):
    backbone = ToyBackbone()
    subject = module(backbone, times, mode=mode, loss_norm=norm, **MODES[mode])
    goal = targets(expected_losses(backbone, rows()))[norm]
    mean, error = means(subject, rows(copies=300), 20)
    assert error < 0.03 * goal
    assert abs(mean - goal) < 4 * error


def test_the_normalisers_are_different_goals():
    goals = targets(expected_losses(ToyBackbone(), rows()))
    assert abs(goals["sequence"] - goals["token"]) > 0.02 * goals["token"]


@pytest.mark.parametrize("model", ["EPR", "AP"])
def test_fitted_times_leave_out_no_part_of_the_integral(model):
    """Times on a grid inside (0, 1) would miss 2 / b of the loss: 0.93 of it."""
    config = TimesConfig(
        ppots=True, model=model, samples_t=30, samples_x0=3, samples_xt=8, starts=2
    )
    backbone = ToyBackbone(zero=True)
    subject = module(backbone, config, mode="MIRROR", rows_at=lambda step: rows())
    subject.advance(0, 10)
    assert int(subject.times.measured) == 0
    drawn = subject.times.draw(Noise(3), torch.arange(4000), 4000)
    assert float(drawn.t.min()) < 1 / 30 < 1 - 1 / 30 < float(drawn.t.max())
    mean, error = means(subject, rows(copies=400), 24)
    assert error < 0.01 * math.log(V - 1)
    assert abs(mean - math.log(V - 1)) < 4 * error


# ---- masks -------------------------------------------------------------------


def masks_of(mode, of=600, **settings):
    batch = rows(copies=of // 3)
    subject = module(mode=mode, **settings)
    with torch.no_grad():
        loss = subject(batch, draw(Noise(2), batch))
    times = subject.times.draw(Noise(2).child("time", 0), torch.arange(of), of)
    return batch, times.t, loss.masked.view(-1, of, batch.length)


def test_mirrored_masks_are_complementary():
    batch, t, (first, second) = masks_of("MIRROR")
    low, high = t < 0.5, t >= 0.5
    assert not (first & second)[low].any()
    assert ((first | second) == batch.free)[high].all()
    u = Noise(2).child("mask", 0).uniform(batch.sample_id, batch.length)
    assert torch.equal(first, (u < t[:, None]) & batch.free)
    assert torch.equal(second, (u > 1 - t[:, None]) & batch.free)


def test_coverage_of_a_mirrored_pair_is_twice_the_mask_rate():
    batch, t, (first, second) = masks_of("MIRROR", of=6000)
    hit = (first | second)[batch.free].double()
    rate = (2 * t).clamp(max=1)[:, None].expand_as(batch.free)[batch.free]
    error = float((rate * (1 - rate)).sum().sqrt() / len(rate))
    assert abs(float(hit.mean() - rate.mean())) < 4 * error
    # Two independent masks cover 1 - (1 - t)^2, a twelfth less on average.
    assert float(rate.mean() - (1 - (1 - t) ** 2).mean()) > 20 * error


def test_independent_masks_are_not_mirrored_ones():
    batch, t, masks = masks_of("MultiSample", of=6000, masks=2)
    both = (masks[0] & masks[1])[batch.free].double()
    rate = t.square()[:, None].expand_as(batch.free)[batch.free]
    assert float(both.mean()) == pytest.approx(float(rate.mean()), abs=0.02)


def test_the_first_mask_of_every_mode_is_the_same():
    first = [masks_of(mode, masks=3)[2][0] for mode in MODES]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])


def test_mirrored_numbers_are_exact_and_their_children_are_not_mirrored():
    noise = Noise(9).child("mask")
    mirror = MirroredNoise.of(noise)
    ids = torch.arange(50)
    u, v = noise.uniform(ids, 7), mirror.uniform(ids, 7)
    assert torch.equal(u + v, torch.ones_like(u))
    assert float(v.min()) > 0
    assert float(v.max()) < 1
    children = [part.child("policy").uniform(ids, 3) for part in (noise, mirror)]
    assert torch.equal(*children)


def test_masks_and_times_do_not_depend_on_how_the_batch_is_cut():
    batch = rows(copies=4)
    subject = module(mode="MIRROR", times=TimesConfig(stratified=True))
    whole = subject(batch, draw(Noise(4), batch))
    cuts = [slice(0, 5), slice(5, 7), slice(7, 12)]
    parts = [
        subject(batch.select(cut), Draw(Noise(4), torch.arange(12)[cut], 12))
        for cut in cuts
    ]
    views = [part.masked.view(2, -1, 6) for part in parts]
    assert torch.equal(torch.cat(views, 1).view(-1, 6), whole.masked)
    total = sum(float(part.total.detach()) for part in parts)
    assert total == pytest.approx(float(whole.total.detach()), rel=1e-6)
    assert sum(int(part.count) for part in parts) == int(whole.count) == 12


# ---- normalisers by hand -----------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm", ["sequence", "token", "batch"])
def test_a_normaliser_by_hand(mode, norm):
    """With equal probabilities a hidden token costs ln(V - 1), whatever is visible."""
    batch, noise = rows(), Noise(11)
    subject = module(
        ToyBackbone(zero=True), CUSTOM, mode=mode, loss_norm=norm, **MODES[mode]
    )
    loss = subject(batch, draw(noise, batch))
    times = subject.times.draw(noise.child("time", 0), torch.arange(3), 3)
    masks = loss.masked.view(-1, 3, 6)
    hidden = masks.sum((0, 2)) / len(masks)  # in the mean over masks
    total = 0.0
    for row, n in enumerate(ANSWERS):
        each = math.log(V - 1) * float(hidden[row]) / float(times.t[row])
        each *= float(times.weight[row])
        total += each / n if norm == "sequence" else each
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-6)
    count = 10 if norm == "token" else 3
    assert int(loss.count) == int(subject.count(batch)) == count
    assert loss.extra["time_weight"] == pytest.approx(float(times.weight.mean()))


def test_a_row_without_an_answer_is_no_row():
    batch = rows()
    frozen = batch.frozen.clone()
    frozen[1] = True
    batch = replace(batch, frozen=frozen)
    counts = {
        norm: int(module(loss_norm=norm).count(batch))
        for norm in ("sequence", "token", "batch")
    }
    assert counts == {"sequence": 2, "token": 7, "batch": 2}
    loss = module()(batch, draw(Noise(0), batch))
    assert math.isfinite(float(loss.total.detach()))
    assert not loss.masked[1].any()


# ---- losses at given times ---------------------------------------------------


def test_row_losses_at_given_times_are_the_enumerated_ones():
    backbone = ToyBackbone()
    subject = module(backbone).train()
    copies = 3000
    batch = rows(copies)
    for tau in (0.15, 0.8):
        losses = subject.row_losses(batch, torch.full((3 * copies,), tau), Noise(1))
        assert not losses.requires_grad
        losses = losses.view(copies, 3).double()
        error = losses.std(0) / copies**0.5
        goal = torch.tensor([loss_at(backbone, rows(), row, tau) for row in range(3)])
        assert bool(((losses.mean(0) - goal).abs() < 4 * error).all())
    assert subject.training


def test_row_losses_with_mirrored_noise_are_those_of_the_other_mask():
    subject, batch, noise = module(ToyBackbone(zero=True)), rows(), Noise(8)
    tau = torch.tensor([0.3, 0.5, 0.9])
    pair = [
        subject.row_losses(batch, tau, view)
        for view in (noise, MirroredNoise.of(noise))
    ]
    p = T_MIN + (1 - T_MIN) * tau
    u = noise.uniform(batch.sample_id, 6)
    for losses, numbers in zip(pair, (u, 1 - u), strict=True):
        hidden = ((numbers < p[:, None]) & batch.free).sum(1)
        goal = math.log(V - 1) * hidden / p / torch.tensor(ANSWERS)
        assert torch.allclose(losses.double(), goal.double(), rtol=1e-5)


def test_a_measurement_that_is_not_finite_stops_the_run():
    backbone = ToyBackbone()
    with torch.no_grad():
        backbone.head.weight[0] = torch.nan
    config = TimesConfig(ppots=True, samples_x0=2, samples_t=3, samples_xt=2)
    subject = module(backbone, config, rows_at=lambda step: rows())
    with pytest.raises(TrainingError, match="finite"):
        subject.advance(0, 10)


@pytest.mark.parametrize("norm", ["sequence", "token", "batch"])
def test_times_are_fitted_to_what_rows_add_to_the_loss(norm):
    config = TimesConfig(
        ppots=True, model="AP", samples_x0=2, samples_t=4, samples_xt=3,
        max_tokens_per_forward=6, loss_max=1e9,
    )  # fmt: skip
    subject = module(ToyBackbone(), config, loss_norm=norm, rows_at=lambda step: rows())
    subject.advance(0, 10)
    each = measure_losses(
        subject.row_losses,
        rows().select(slice(2)),
        times=subject.times.times,
        masks=3,
        loss_max=config.loss_max,
        max_tokens=100,
        noise=subject.noise.child(0).child("masks"),
    ).losses
    n = torch.tensor(ANSWERS[:2], dtype=torch.float64)
    factor = torch.ones_like(n) if norm == "sequence" else n / n.mean()
    goal = Curves(subject.times.times, each * factor[:, None, None])
    assert torch.allclose(subject.times.g, goal.g, rtol=1e-5)
    assert torch.allclose(subject.times.v, goal.v, rtol=1e-5)


# ---- policies and backbones --------------------------------------------------


class Counting:
    """A masking policy with a random part and a loss of its own."""

    draws = True

    def __init__(self):
        self.noises, self.seen = [], []

    def rates(self, batch, t, schedule, noise):
        self.noises.append(noise)
        rate = schedule.mask_rate(t)[:, None]
        return Rates(rate, schedule.weight(t)[:, None])

    def auxiliary_loss(self, corrupted, nll):
        self.seen.append((corrupted, nll))
        return torch.tensor(0.25)


@pytest.mark.parametrize("norm", ["sequence", "token"])
def test_a_policys_own_loss_is_added_after_the_division(norm):
    batch = rows()
    subject = module(mode="MIRROR", loss_norm=norm)
    plain = subject(batch, draw(Noise(0), batch))
    subject.policy = policy = Counting()
    loss = subject(batch, draw(Noise(0), batch))
    per = float((loss.total - plain.total).detach() / loss.count)
    assert per == pytest.approx(0.25, rel=1e-5)
    (corrupted, nll), *_ = policy.seen
    assert len(nll) == int(corrupted.masked.sum())
    assert corrupted.masked.shape == (6, 6)
    weights = corrupted.weight[0] * corrupted.t[0]
    assert torch.allclose(weights, torch.ones_like(weights))  # not normalised
    assert policy.noises[0] == policy.noises[1]  # the same rates under both masks


def test_a_backbone_that_sees_blocks_is_told_the_clean_row():
    seen = []

    class Blocks(ToyBackbone):
        def hidden(self, batch, t=None):
            seen.append(batch)
            return super().hidden(batch, t)

    batch = rows()
    for size in (0, 2):
        backbone = Blocks()
        backbone.block_size = size
        module(backbone, mode="MIRROR")(batch, draw(Noise(0), batch))
    assert "clean" not in seen[0].condition
    assert torch.equal(seen[1].condition["clean"], batch.tokens.repeat(2, 1))
    assert (seen[1].tokens == MASK).any()


def test_joined_rows_keep_what_is_known_about_them():
    batch = replace(rows(), condition={"trait": torch.arange(3)})
    subject = module(mode="MIRROR")
    times = subject.times.draw(Noise(0), torch.arange(3), 3)
    views = [subject._corrupt(batch, times, view) for view in subject.views(Noise(1))]
    whole = joined(views)
    assert whole.batch.condition["trait"].tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(whole.batch.sample_id, batch.sample_id.repeat(2))
    assert torch.equal(whole.t[:3], whole.t[3:])
    assert torch.equal(whole.targets[3:], batch.tokens)


def test_gradients_are_those_of_the_enumerated_loss():
    """Not the value alone: the gradient is unbiased too, weights and all."""
    backbone = ToyBackbone()
    subject = module(backbone, CUSTOM, mode="MIRROR")
    batch = rows(copies=300)
    found = []
    for step in range(12):
        backbone.zero_grad()
        loss = subject(batch, draw(Noise(step), batch))
        (loss.total / loss.count).backward()
        found.append(backbone.head.bias.grad.clone())
    stacked = torch.stack(found)
    error = stacked.std(0) / len(found) ** 0.5
    # By finite differences of the enumerated loss.
    h, goal = 1e-4, []
    for index in (0, 2, 5):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                backbone.head.bias[index] += sign * h
            ends.append(sum(expected_losses(backbone, rows())) / 3)
            with torch.no_grad():
                backbone.head.bias[index] -= sign * h
        goal.append((ends[0] - ends[1]) / (2 * h))
    gap = (stacked.mean(0)[[0, 2, 5]] - torch.tensor(goal)).abs()
    assert bool((gap < 4 * error[[0, 2, 5]]).all())


def test_given_times_ask_for_rows():
    batch = rows()
    answer = module()(batch, AtTimes(torch.full((3,), 0.5), Noise(0)))
    assert answer.shape == (3,)
    assert [every_mask(ToyBackbone(), batch, row)[0] for row in range(3)] == [*ANSWERS]
