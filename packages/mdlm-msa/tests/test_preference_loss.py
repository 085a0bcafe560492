"""The loss of pairs against sums over all masks, and a gradient written by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdlm_core.diffusion import Draw
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import MASK
from mdlm_msa.config import AlignConfig
from mdlm_msa.preference.bounds import both, free_rows, log_bounds, views
from mdlm_msa.preference.objective import preference_loss

from .preference_toy import Toy, batch, log_law, masks, preference


def draw(seed=0, rows=3):
    return Draw(Noise(seed), torch.arange(rows), rows)


def exact_bound(backbone, canvas):
    """Return the bound on log p of one row: the mean over sizes and masks."""
    free = canvas.free[0]
    n = int(free.sum())
    total = 0.0
    for hidden in masks(free):
        view = canvas.with_tokens(canvas.tokens.clone())
        view.tokens[0, hidden] = MASK
        nats = sum(
            float(log_law(backbone, view, i)[canvas.tokens[0, i]]) for i in hidden
        )
        total += nats / len(hidden) / math.comb(n, len(hidden))
    return total


@pytest.fixture(scope="module")
def canvases():
    return both(batch())


def test_the_scores_are_unbiased_for_the_bounds(canvases):
    toy = Toy()
    exact = [exact_bound(toy, canvases.select(slice(i, i + 1))) for i in (0, 3, 4, 5)]
    copies = 400
    ids = torch.arange(copies)
    for place, expected in zip((0, 3, 4, 5), exact, strict=True):
        many = canvases.select(torch.full((copies,), place))
        many = replace(many, sample_id=ids)
        with torch.no_grad():
            found, _, _ = log_bounds(toy, views(many, 3, noise=Noise(5), mask_id=MASK))
        each = found.mean(0)
        error = float(each.std()) / copies**0.5
        assert abs(float(each.mean()) - expected) < 4 * error + 1e-5, place


def test_the_mean_of_the_path_ratio_over_times_is_the_difference_of_bounds(canvases):
    policy, reference = Toy(0), Toy(1)
    canvas = canvases.select(slice(0, 1))
    free = canvas.free[0]
    n = int(free.sum())
    total = 0.0
    for hidden in masks(free):
        view = canvas.with_tokens(canvas.tokens.clone())
        view.tokens[0, hidden] = MASK
        ratio = sum(
            float(
                (log_law(policy, view, i) - log_law(reference, view, i))[
                    canvas.tokens[0, i]
                ]
            )
            for i in hidden
        )
        k = len(hidden)  # the integral over t of (1 / t) t^k (1 - t)^(n - k)
        total += math.gamma(k) * math.gamma(n - k + 1) / math.gamma(n + 1) * ratio
    difference = exact_bound(policy, canvas) - exact_bound(reference, canvas)
    assert total == pytest.approx(difference, rel=1e-9)


def test_the_loss_is_log_two_where_policy_and_reference_agree():
    for name, expected in (
        ("dpo", math.log(2)),
        ("d2dpo", math.log(2)),
        ("ipo", (1 / (2 * 0.3)) ** 2),
    ):
        for smoothing in (0.0, 0.2):
            module = preference(
                Toy(3), Toy(3), objective=name, beta=0.3, smoothing=smoothing, draws=2
            )
            loss = module(batch(), draw())
            assert float(loss.total.detach()) / int(loss.count) == pytest.approx(
                expected
            )
            assert float(loss.extra["accuracy"]) == 0.5
            assert float(loss.extra["variance"]) == 0.0


def test_the_losses_are_those_written_by_hand():
    h = torch.tensor([[0.5, -2.0], [1.5, 4.0]], dtype=torch.float64)

    def minus_log_sigmoid(x):
        return np.log1p(np.exp(-x))

    mean, every = np.array([1.0, 1.0]), h.numpy()
    b, e = 0.7, 0.1
    expected = {
        "dpo": lambda s: minus_log_sigmoid(s * b * mean),
        "d2dpo": lambda s: minus_log_sigmoid(s * b * every).mean(0),
        "ipo": lambda s: (s * mean - 1 / (2 * b)) ** 2,
    }
    for name, f in expected.items():
        config = AlignConfig(objective=name, beta=b, smoothing=e)
        found = preference_loss(h, config).numpy()
        np.testing.assert_allclose(found, (1 - e) * f(1) + e * f(-1), rtol=1e-12)


def test_the_gradient_is_that_written_by_hand():
    beta, draws, noise = 0.4, 2, Noise(2)
    policy, reference = Toy(0), Toy(1)
    module = preference(policy, reference, beta=beta, draws=draws, sft=0.3)
    found = module(batch(), Draw(noise, torch.arange(3), 3))
    found.total.backward()
    canvases = both(batch())
    noised = views(
        canvases, draws, noise=noise.child("pairs", 0), mask_id=MASK, schedule=None
    )
    rows = free_rows(canvases).numpy()
    gradient = np.zeros((6, *policy.weight.shape))
    gain = np.zeros(6)
    bound = np.zeros(6)
    for view in noised:
        states = policy.hidden(view.batch).double().numpy()
        for c, i in view.masked.nonzero().tolist():
            share = float(view.weight[c, i]) / draws
            one = view.batch.select(slice(c, c + 1))
            target = int(view.targets[c, i])
            mine, theirs = (log_law(m, one, i).numpy() for m in (policy, reference))
            gain[c] += share * (mine[target] - theirs[target])
            bound[c] += share * mine[target]
            step = -np.exp(mine)
            step[target] += 1
            gradient[c] += share * np.outer(step, states[c, i])
    n = canvases.free.sum(1).numpy()
    expected, total = 0.0, 0.0
    for b in range(3):
        h = beta * (gain[b] / rows[b] - gain[b + 3] / rows[b + 3])
        slope = -beta / (1 + math.exp(h))  # of -log sigmoid
        expected += slope * (gradient[b] / rows[b] - gradient[b + 3] / rows[b + 3])
        expected -= 0.3 * gradient[b] / n[b]
        total += math.log1p(math.exp(-h)) - 0.3 * bound[b] / n[b]
    assert float(found.total.detach()) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(
        policy.weight.grad.numpy(), expected, rtol=1e-3, atol=1e-5
    )
    assert found.masked.shape == (12, canvases.length)
    assert len(found.nll) == int(found.masked.sum())


def test_scores_are_means_over_rows_unless_sums_are_asked_for():
    noise = Noise(0)
    sums, means = (
        preference(Toy(0), Toy(1), beta_sum=flag).margins(batch(), noise, 2).gains
        for flag in (True, False)
    )
    torch.testing.assert_close(
        means, sums / torch.tensor([[1, 2, 1], [2, 1, 1]]), rtol=1e-9, atol=0
    )


def test_shared_masks_take_the_noise_out_of_the_differences():
    """A reference near the model: the same masks for both, or masks of its own."""
    policy, reference = Toy(0), Toy(0)
    with torch.no_grad():
        reference.weight += 0.02 * Toy(5).weight
    canvases = both(batch())
    shared, apart = [], []
    for seed in range(60):
        mine, other = (
            views(canvases, 2, noise=Noise(s), mask_id=MASK) for s in (seed, seed + 500)
        )
        with torch.no_grad():
            own, same, foreign = (
                log_bounds(model, view)[0].mean(0)
                for model, view in (
                    (policy, mine),
                    (reference, mine),
                    (reference, other),
                )
            )
        for found, base in ((shared, same), (apart, foreign)):
            gain = own - base
            found.append((gain[:3] - gain[3:])[:2])
    variance = [float(torch.stack(v).var(0).mean()) for v in (shared, apart)]
    assert variance[1] > 50 * variance[0]


def test_the_draws_of_a_canvas_are_spread_over_all_numbers_of_hidden_tokens(canvases):
    """Draw d of D hides ceil((d + u) n / D) tokens, u in [0, 1), with weight n / k."""
    seen = set()
    for seed in range(20):
        found = views(canvases, 4, noise=Noise(seed), mask_id=MASK)
        counts = torch.stack([view.masked.sum(1) for view in found], 1)  # (6, 4)
        assert ((counts[1] + 1) // 2).tolist() == [1, 2, 3, 4]  # n = 8
        assert counts[5].tolist() == [1, 1, 1, 1]  # n = 1
        n = canvases.free.sum(1)
        for d, view in enumerate(found):
            u = Noise(seed).child("time", d).uniform(canvases.sample_id, 1)[:, 0]
            assert torch.equal(counts[:, d], ((d + u) * n / 4).floor().long() + 1)
            weight = view.weight[view.masked]
            row = view.masked.nonzero()[:, 0]
            torch.testing.assert_close(weight, (n / counts[:, d])[row])
        seen |= set(counts[1].tolist())
    assert seen == set(range(1, 9))


def test_masks_depend_on_the_pair_and_the_epoch_alone():
    module = preference(Toy(0), Toy(1), draws=2)
    whole = module(batch(), draw())
    part = module(batch().select(slice(1, 3)), draw(rows=2))
    columns = batch().condition["loser_tokens"].shape[1]
    assert columns <= whole.masked.shape[1]
    assert torch.equal(
        part.masked.view(2, 2, 2, -1), whole.masked.view(2, 2, 3, -1)[:, :, 1:]
    )
    later = module(replace(batch(), epoch=1), draw())
    assert not torch.equal(later.masked, whole.masked)
    assert not (whole.masked & both(batch()).frozen.repeat(2, 1)).any()


def test_the_reference_is_asked_once_about_the_same_masks():
    reference = Toy(1)
    module = preference(Toy(0), reference)
    first = module.margins(batch(), Noise(0), 3, keep=True)
    assert reference.calls == 3
    again = module.margins(batch(), Noise(0), 3, keep=True)
    assert reference.calls == 3
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.winner_before, again.winner_before)
    module.margins(batch().select(slice(1, 2)), Noise(0), 3, keep=True)
    assert reference.calls == 3
    module.margins(batch(), Noise(1), 3, keep=True)
    assert reference.calls == 6
