"""The held-out bound: against enumeration, and the same at every measurement."""

import math
from dataclasses import replace
from itertools import combinations, pairwise
from types import SimpleNamespace

import pytest
import torch

from mdlm_core.diffusion import LogLinear, exact_counts
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_llada.backbone import build as build_backbone
from mdlm_llada.config import LLaDAConfig
from mdlm_llada.sft import held_out as subject
from mdlm_llada.sft.held_out import measure, mirrored_counts, stack
from mdlm_llada.sft.module import with_clean

from .sft_toy import MASK, ToyBackbone, V, every_mask, rows

SCHEDULE = LogLinear(eps=0.0)


class Source:
    """The three rows, over and over, each as wide as it is."""

    def __init__(self, size=40):
        self.count = size
        self.asked = []
        self.tokenizer = SimpleNamespace(pad_id=0, vocab_size=V, mask_id=MASK)

    def size(self, split):
        return self.count

    def batches(self, split, *, size, seed, start=0, rank=0, world=1):
        self.asked.append((split, size, start, world))
        for place in range(start, self.count):
            row = rows().select(slice(place % 3, place % 3 + 1))
            width = int((~row.pad).sum())
            yield replace(
                row,
                tokens=row.tokens[:, :width],
                frozen=row.frozen[:, :width],
                pad=row.pad[:, :width],
                sample_id=torch.tensor([place]),
            )

    def card(self):
        return {}


def enumerated(backbone, batch, row):
    """Return sum over S of (|S| - 1)! (n - |S|)! / n! times its sum of -log p."""
    n, masks = every_mask(backbone, batch, row)
    return sum(
        math.factorial(k - 1) * math.factorial(n - k) / math.factorial(n) * c
        for k, c in masks
    )


@pytest.mark.parametrize("draws", [2, 3, 8])
def test_mirrored_counts_give_the_enumerated_bound(draws):
    backbone, copies = ToyBackbone(), 1500
    estimate = mirrored_counts(backbone, rows(copies), draws=draws, noise=Noise(0))
    values = estimate.nats.view(copies, 3)
    for row in range(3):
        error = float(values[:, row].std()) / copies**0.5
        goal = enumerated(backbone, rows(), row)
        assert abs(float(values[:, row].mean()) - goal) < 4 * error
        assert error < 0.02 * goal


def test_a_mirrored_pair_hides_every_token_and_one_of_them_twice(monkeypatch):
    seen = []
    real = subject.corrupt_exactly

    def watch(batch, counts, **rest):
        corrupted = real(batch, counts, **rest)
        seen.append((counts, corrupted.masked))
        return corrupted

    monkeypatch.setattr(subject, "corrupt_exactly", watch)
    batch = rows(copies=50)
    mirrored_counts(ToyBackbone(), batch, draws=4, noise=Noise(0))
    assert len(seen) == 4
    n = batch.free.sum(1)
    for (k, first), (other, second) in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(k + other, n + 1)
        assert torch.equal(first.sum(1), k)
        assert torch.equal(first | second, batch.free)
        assert ((first & second).sum(1) == 1).all()
    for (counts, _), draw in zip(seen, (0, 3, 1, 2), strict=True):
        assert (counts > n * draw / 4).all()  # of its own quarter
        assert (counts - 1 < n * (draw + 1) / 4).all()


def test_mirrored_pairs_have_a_smaller_error_at_the_same_cost():
    """Where tokens are unequally hard whatever is visible, some of that cancels."""
    backbone, batch = ToyBackbone(zero=True), rows(copies=1000)
    with torch.no_grad():
        backbone.head.bias.copy_(torch.arange(V))
    variance = [
        float(estimate(backbone, batch, draws=2, noise=Noise(1)).nats[::3].var())
        for estimate in (exact_counts, mirrored_counts)
    ]
    assert variance[1] < 0.9 * variance[0]


def test_every_measurement_is_the_same():
    backbone, source = ToyBackbone(), Source()
    settings = {"draws": 4, "noise": Noise(3), "rows": 10, "schedule": SCHEDULE}
    first = measure(backbone.train(), source, **settings)
    torch.rand(1000)  # global random state plays no part
    again = measure(backbone.eval(), Source(), **settings)
    assert first.bound == again.bound
    assert first.curve() == again.curve()
    other = measure(backbone, source, **{**settings, "noise": Noise(4)})
    assert other.bound != first.bound


def test_rows_are_read_one_by_one_and_spread_over_the_split():
    source = Source()
    list(subject.held_out(source, 8))
    assert [start for _, _, start, _ in source.asked] == [2, 7, 12, 17, 22, 27, 32, 37]
    assert {(split, size, world) for split, size, _, world in source.asked} == {
        ("validation", 1, 1)
    }
    assert subject.places(source, 0) == list(range(40))
    assert subject.places(source, 99) == list(range(40))


@pytest.mark.parametrize("world", [2, 3])
def test_every_number_of_processes_gives_the_same_numbers(monkeypatch, world):
    backbone = ToyBackbone()
    settings = {"draws": 4, "noise": Noise(3), "schedule": SCHEDULE}
    alone = measure(backbone, Source(70), **settings)
    shares, found = [], []
    for rank in range(world):
        state = SimpleNamespace(num_processes=world, process_index=rank)
        monkeypatch.setattr(subject, "PartialState", lambda state=state: state)
        monkeypatch.setattr(subject, "gather", lambda mine: shares.append(mine) or mine)
        measure(backbone, Source(70), **settings)
    for index in range(max(map(len, shares))):
        found += [share[index] for share in shares if index < len(share)]
    monkeypatch.setattr(subject, "gather", lambda mine: found)
    together = measure(backbone, Source(70), **settings)
    assert together.bound == alone.bound  # bit for bit
    assert torch.equal(together.estimate.values, alone.estimate.values)


def test_the_bound_is_per_token_of_all_answers():
    backbone = ToyBackbone(zero=True)
    found = measure(
        backbone, Source(6), draws=2, noise=Noise(0), schedule=SCHEDULE
    ).bound
    assert found.rows == 6
    assert found.tokens == 20
    assert found.nats == pytest.approx(math.log(V - 1), rel=1e-6)
    assert found.bytes_per_token is None
    assert found.evaluations == 12


@pytest.mark.parametrize("draws", [2, 5, 8, 64])
def test_the_curve_is_the_bound_by_mask_rate(draws):
    backbone = ToyBackbone()
    found = measure(
        backbone, Source(12), draws=draws, noise=Noise(0), schedule=SCHEDULE
    )
    curve = found.curve()
    assert len(curve) == min(draws, 8)
    rates = [float(name.removeprefix("loss_at_")) for name in curve]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] < 1
    weights = [b * draws // 8 - a * draws // 8 for a, b in pairwise(range(9))]
    mean = sum(
        w * v for w, v in zip([w for w in weights if w], curve.values(), strict=True)
    )
    assert mean / draws == pytest.approx(found.bound.nats, rel=1e-9)


def test_other_estimators_have_the_same_expectation():
    backbone = ToyBackbone()
    settings = {"noise": Noise(0), "schedule": SCHEDULE}
    found = {
        name: measure(
            backbone, Source(45), draws=24, estimator=name, **settings
        ).estimate
        for name in ("exact-counts", "continuous-time", "any-order")
    }
    goal = sum(enumerated(backbone, rows(), row) for row in range(3)) * 15
    for estimate in found.values():
        error = float(estimate.se.square().sum().sqrt())
        assert abs(float(estimate.nats.sum()) - goal) < 5 * error


def test_the_bound_of_a_model_that_sees_blocks_is_a_sum_over_its_blocks():
    """Each block by itself, given the clean ones before it, mask by mask."""
    settings = LLaDAConfig(
        family="llada2", blocks=1, width=8, heads=2, mlp_width=8, block_size=3
    )
    with global_seed(Noise(0)):
        backbone = build_backbone(settings, vocab_size=V, mask_id=MASK, length=6)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(8)  # laws that depend on what is visible
    row = rows().select(slice(0, 1))  # a prompt of one token, five to restore
    goal = 0.0
    for block in ([1, 2], [3, 4, 5]):
        for k in range(1, len(block) + 1):
            for chosen in combinations(block, k):
                hidden = torch.tensor(chosen)
                canvas = row.tokens.clone()
                canvas[0, hidden] = canvas[0, block[-1] + 1 :] = MASK
                with torch.no_grad():
                    states = backbone.hidden(row.with_tokens(canvas))
                    logits = backbone.logits(states[0, hidden])
                logits[:, MASK] = -torch.inf
                logp = logits.log_softmax(-1)[range(k), row.tokens[0, hidden]]
                n = len(block)
                goal -= float(logp.sum()) / math.comb(n, k) / k
    batch = replace(
        row.select(torch.zeros(3000, dtype=torch.int64)), sample_id=torch.arange(3000)
    )
    nats = mirrored_counts(
        backbone, with_clean(batch, backbone), draws=4, noise=Noise(0)
    ).nats
    error = float(nats.std()) / len(nats) ** 0.5
    assert error < 0.02 * goal
    assert abs(float(nats.mean()) - goal) < 4 * error
    without = mirrored_counts(backbone, batch, draws=4, noise=Noise(0)).nats
    assert abs(float(without.mean()) - goal) > 8 * error


def test_padding_beside_a_row_changes_nothing():
    backbone = ToyBackbone()
    batch = rows()
    narrow = batch.select(slice(2, 3))
    narrow = replace(
        narrow,
        tokens=narrow.tokens[:, :2],
        frozen=narrow.frozen[:, :2],
        pad=narrow.pad[:, :2],
    )
    joined = stack([batch.select(slice(0, 1)), narrow], pad_id=0)
    assert joined.tokens.shape == (2, 6)
    assert joined.pad[1].tolist() == [False, False, True, True, True, True]
    alone = mirrored_counts(backbone, narrow, draws=4, noise=Noise(0))
    beside = mirrored_counts(backbone, joined, draws=4, noise=Noise(0))
    assert float(beside.nats[1]) == pytest.approx(float(alone.nats[0]), rel=1e-12)


def test_what_cannot_be_measured_is_refused():
    settings = {"draws": 2, "noise": Noise(0), "schedule": SCHEDULE}
    with pytest.raises(ConfigError, match="the estimator is 'guess'"):
        measure(ToyBackbone(), Source(), estimator="guess", **settings)
    with pytest.raises(DataError, match="no rows to score"):
        measure(ToyBackbone(), Source(0), **settings)
    with pytest.raises(DataError, match="known size"):
        measure(ToyBackbone(), Source(None), **settings)
    with pytest.raises(DataError, match="rows of text"):
        stack([replace(rows(), condition={"trait": torch.zeros(3)})], 0)
