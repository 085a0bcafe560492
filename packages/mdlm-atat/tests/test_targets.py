"""Targets of the importance network, each against a second way to compute it."""

import math
from collections import defaultdict

import pytest
import torch
from scipy.stats import norm

from mdlm_atat.config import ImportanceConfig
from mdlm_atat.targets import SLOW, Moments, Targets, TypeMeans
from mdlm_core.kernels.noise import Noise

V, BINS, DECAY = 6, 4, 0.9
KINDS = ("loss_rank", "loss_ema", "excess")


def new(kind, **changes):
    config = ImportanceConfig(target=kind, **{"bins": BINS, "decay": DECAY} | changes)
    return Targets(config, vocab_size=V)


def step(index, n=60, bins=BINS):
    """Return losses that grow with t and with the token, in most bins."""
    rows = torch.arange(n)
    u = [Noise(index).child(name).uniform(rows, 1)[:, 0] for name in "abc"]
    t, tokens = u[0] * (bins - (index % 2)) / bins, (u[1] ** 2 * (V - 1)).long()
    return (t * 3 + 0.2 * tokens + u[2]).float(), tokens, t


class Plain:
    """The same targets with loops and no tensors."""

    def __init__(self, kind):
        self.kind = kind
        self.loss = [[0.0, 0.0, 0.0] for _ in range(BINS)]
        self.excess = [[0.0, 0.0, 0.0] for _ in range(BINS)]
        self.types = defaultdict(lambda: [0.0, 0.0])
        self.seen = defaultdict(int)

    @staticmethod
    def standard(sums, x, smallest):
        mean = sums[1] / sums[0]
        sd = math.sqrt(max(sums[2] / sums[0] - mean**2, 0))
        return (x - mean) / max(sd, smallest)

    def scores(self, moments, x, bins, smallest):
        here = [[0.0, 0.0, 0.0] for _ in range(BINS)]
        for value, b in zip(x, bins, strict=True):
            for power in range(3):
                here[b][power] += value**power
        use = [m if m[0] else h for m, h in zip(moments, here, strict=True)]
        return [
            self.standard(use[b], v, smallest) for v, b in zip(x, bins, strict=True)
        ]

    def fold(self, moments, x, bins, counts):
        for b in range(BINS):
            mine = [v for v, k, c in zip(x, bins, counts, strict=True) if c and k == b]
            if mine:
                sums = [len(mine), sum(mine), sum(v * v for v in mine)]
                moments[b] = [
                    DECAY * old + (1 - DECAY) * add
                    for old, add in zip(moments[b], sums, strict=True)
                ]

    def ranked(self, v):
        mean = {u: s[1] / s[0] for u, s in self.types.items()}
        below = sum(self.seen[u] for u in mean if mean[u] < mean[v])
        level = sum(self.seen[u] for u in mean if mean[u] == mean[v])
        return (below + level / 2) / sum(self.seen.values())

    def __call__(self, nll, tokens, t):
        x, tokens = nll.double().tolist(), tokens.tolist()
        bins = [min(int(v * BINS), BINS - 1) for v in t.tolist()]
        known = [self.loss[b][0] > 0 for b in bins]
        z = self.scores(self.loss, x, bins, 1e-3)
        y = [norm.cdf(v) for v in z]
        if self.kind == "loss_ema":
            y = [
                self.ranked(v) if v in self.types else old
                for v, old in zip(tokens, y, strict=True)
            ]
        excess = []
        for value, v in zip(z, tokens, strict=True):
            slow = self.types[v][1] / self.types[v][0] if self.types.get(v) else 0.0
            excess.append(value - slow)
        if self.kind == "excess":
            y = [norm.cdf(v) for v in self.scores(self.excess, excess, bins, 0.1)]
            self.fold(self.excess, excess, bins, known)
        self.fold(self.loss, x, bins, [True] * len(x))
        decay = SLOW if self.kind == "excess" else DECAY
        for v in set(tokens):
            mine = [s for s, u, k in zip(z, tokens, known, strict=True) if k and u == v]
            if mine:
                old = self.types[v]
                self.types[v] = [
                    decay * old[0] + (1 - decay) * len(mine),
                    decay * old[1] + (1 - decay) * sum(mine),
                ]
                self.seen[v] += len(mine)
        return y


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_those_of_plain_loops(kind):
    targets, plain = new(kind), Plain(kind)
    for index in range(6):
        nll, tokens, t = step(index)
        found = targets(nll, tokens, t, learn=True)
        assert found.dtype == torch.float32
        assert found.tolist() == pytest.approx(plain(nll, tokens, t), abs=1e-6)
        targets.fold()
    assert found.std() > 0.1


def test_running_means_are_the_bias_corrected_ones_of_adam():
    moments = Moments(1, DECAY, smallest=1e-3)
    values = [torch.tensor([1.0, 3.0]).double() * (index + 1) for index in range(5)]
    for x in values:
        moments(x, torch.zeros(2), learn=True)
        moments.fold()
    mean = square = 0.0
    for x in values:
        mean = DECAY * mean + (1 - DECAY) * x.mean().item()
        square = DECAY * square + (1 - DECAY) * x.square().mean().item()
    corrected = 1 - DECAY**5
    mean, square = mean / corrected, square / corrected
    found, _ = moments(torch.tensor([7.0]).double(), torch.zeros(1), learn=False)
    expected = (7 - mean) / math.sqrt(square - mean**2)
    assert found.item() == pytest.approx(expected)


def test_a_normal_loss_has_uniform_ranks_at_every_time():
    targets = new("loss_rank")
    rows = torch.arange(4000)
    t = Noise(0).child("t").uniform(rows, 1)[:, 0]
    z = torch.special.ndtri(Noise(0).child("z").uniform(rows, 1)[:, 0])
    bins = (t * BINS).floor()
    nll = 1 + 2 * bins + (0.1 + bins) * z
    targets(nll, rows % V, t, learn=True)
    targets.fold()
    y = targets(nll, rows % V, t, learn=False).double()
    for b in range(BINS):
        inside = y[bins == b].sort().values
        grid = (torch.arange(len(inside)) + 0.5) / len(inside)
        assert (inside - grid).abs().max() < 0.06


def test_el2n_is_the_norm_over_its_largest_value():
    p = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]]).double()
    residual = (p - torch.eye(3)[[1, 0]]).norm(dim=1)
    nothing = torch.zeros(2)
    y = new("el2n")(nothing, nothing.long(), nothing, residual=residual, learn=True)
    first = math.sqrt(0.2**2 + 0.5**2 + 0.3**2) / math.sqrt(2)
    assert y.tolist() == pytest.approx([first, 1.0])
    assert not new("el2n").state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_losses_are_in_the_middle(kind):
    targets = new(kind)
    t = torch.linspace(0, 1, 9)  # the last bin holds its right end
    nll = torch.full((9,), math.log(V)) + 1e-6 * torch.arange(9)
    for _ in range(3):
        y = targets(nll, torch.zeros(9).long(), t, learn=True)
        targets.fold()
    assert y.tolist() == pytest.approx([0.5] * 9, abs=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_without_learning_nothing_changes(kind):
    targets = new(kind)
    targets(*step(0), learn=True)
    before = {name: value.clone() for name, value in targets.state_dict().items()}
    targets(*step(1), learn=False)
    after = targets.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", KINDS)
def test_how_a_step_is_cut_does_not_matter(kind):
    whole, cut = new(kind), new(kind)
    for index in range(5):
        data = step(index)
        found = whole(*data, learn=True)
        order = torch.arange(60).roll(7)
        pieces = [
            cut(*(x[order][part] for x in data), learn=True)
            for part in (slice(0, 11), slice(11, 12), slice(12, 12), slice(12, 60))
        ]
        if index > 2:  # by then every bin was seen
            torch.testing.assert_close(torch.cat(pieces), found[order])
        whole.fold()
        cut.fold()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], value, rtol=1e-9, atol=1e-9)


class Others:
    """All-reduce among processes that take turns: their sums are noted, then added."""

    def __init__(self, monkeypatch):
        self.notes, self.adding = defaultdict(list), False
        dist = "torch.distributed"
        monkeypatch.setattr(f"{dist}.is_initialized", lambda: True)
        monkeypatch.setattr(f"{dist}.all_reduce", self.all_reduce)

    def all_reduce(self, sums):
        call = next(self.calls)
        if self.adding:
            sums.copy_(sum(self.notes[call]))
        else:
            self.notes[call].append(sums.clone())

    def turn(self, function, *, adding):
        self.calls, self.adding = iter(range(100)), adding
        return function()


@pytest.mark.parametrize("kind", KINDS)
def test_how_many_processes_there_are_does_not_matter(kind, monkeypatch):
    alone = new(kind)
    both = [new(kind), new(kind)]
    for index in range(3):
        data = step(index)
        monkeypatch.undo()
        alone(*data, learn=True)
        alone.fold()
        others = Others(monkeypatch)
        halves = [tuple(x[half] for x in data) for half in (slice(25), slice(25, 60))]
        # A state is a function of the sums: the first turn only finds them out.
        kept = [{k: v.clone() for k, v in b.state_dict().items()} for b in both]
        for adding in (False, True):
            for process, half, state in zip(both, halves, kept, strict=True):
                process.load_state_dict(state)
                others.turn(lambda p=process, h=half: p(*h, learn=True), adding=adding)
        for process in both:
            process.fold()
    for name, value in alone.state_dict().items():
        for process in both:
            found = process.state_dict()[name]
            torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_that_was_saved_goes_on_exactly(kind):
    first = new(kind)
    for index in range(2):
        first(*step(index), learn=True)
        first.fold()
    first(*step(2), learn=True)  # saved between a step and the next
    second = new(kind)
    second.load_state_dict(
        {name: value.clone() for name, value in first.state_dict().items()}
    )
    for targets in (first, second):
        targets.fold()
    ours = first(*step(3), learn=True)
    assert torch.equal(ours, second(*step(3), learn=True))
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_what_is_pending_can_be_dropped():
    for kind in KINDS:
        targets = new(kind)
        before = {name: value.clone() for name, value in targets.state_dict().items()}
        targets(*step(0), learn=True)
        targets.forget_pending()
        targets.fold()
        for name, value in targets.state_dict().items():
            assert torch.equal(value, before[name])


def test_types_that_were_not_met_have_no_mean():
    types = TypeMeans(V, DECAY, ranked=True)
    types.add(
        torch.tensor([2.0, 4.0, -1.0]).double(),
        torch.tensor([1, 1, 3]),
        torch.tensor([True, True, True]),
    )
    types.fold()
    tokens = torch.tensor([0, 1, 3])
    assert types.met(tokens).tolist() == [False, True, True]
    assert types.mean(tokens).tolist() == pytest.approx([0.0, 3.0, -1.0])
    assert types.rank[tokens[1:]].tolist() == pytest.approx([2 / 3, 1 / 6])


def test_autocast_does_not_make_statistics_coarse():
    exact, coarse = new("excess"), new("excess")
    for index in range(3):
        exact(*step(index), learn=True)
        exact.fold()
        with torch.autocast("cpu", torch.bfloat16):
            coarse(*step(index), learn=True)
        coarse.fold()
    for name, value in exact.state_dict().items():
        assert torch.equal(coarse.state_dict()[name], value)
