"""Ranks by frequency, against an enumeration of the corpus."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdlm_atat.frequency import HIDDEN, FrequencyPrior, mid_rank
from mdlm_core.data.batch import Batch
from mdlm_core.errors import DataError
from mdlm_core.testing import tiny_source, tiny_vocab


class Rows:
    """A source of given rows; it notes what it was asked for."""

    def __init__(self, tokens, *, known=True, frozen=None):
        self.tokenizer = tiny_vocab()
        self.tokens = torch.tensor(tokens)
        self.length = self.tokens.shape[1]
        self.frozen = frozen
        self.known = known
        self.asked, self.read = [], 0

    def size(self, split):
        return len(self.tokens) if self.known else None

    def batches(self, split, **how):
        self.asked.append((split, how))
        size, epoch = how["size"], 0
        while True:
            for first in range(0, len(self.tokens) // size * size, size):
                cut = slice(first, first + size)
                self.read += size
                frozen = None if self.frozen is None else self.frozen[cut]
                yield Batch.of(self.tokens[cut], frozen=frozen, epoch=epoch)
            epoch += 1


class Unreadable(Rows):
    def batches(self, split, **how):
        raise AssertionError("the data was read")


TEXT = [[0, 0, 0, 1], [1, 2, 3, 0]]
EVERYTHING = torch.arange(12)


def enumerated(tokens, v):
    """Count by position what is more frequent than v, and half of what is as much."""
    counts = {u: tokens.count(u) for u in set(tokens)}
    mine = counts.get(v, 0)
    above = [counts[u] > mine for u in tokens]
    level = [counts[u] == mine for u in tokens]
    return (sum(above) + sum(level) / 2) / len(tokens)


def test_ranks_of_a_corpus_that_one_can_count():
    found = FrequencyPrior(Rows(TEXT), tokens=100)(EVERYTHING)
    # 0 four times, 1 twice, 2 and 3 once, of eight; the mask is 11
    expected = [0.25, 0.625, 0.875, 0.875] + [1.0] * 7 + [HIDDEN]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_ranks_of_a_source_are_those_of_an_enumeration():
    source = tiny_source()
    prior = FrequencyPrior(source, tokens=10**6)
    rows = source.size("train")
    first = next(iter(source.batches("train", size=rows, seed=3)))
    tokens = first.tokens.flatten().tolist()
    for v in range(11):
        assert prior(torch.tensor([v])).item() == pytest.approx(enumerated(tokens, v))
    assert prior(first.tokens).mean().item() == pytest.approx(0.5)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(0.01, 5)), min_size=1, max_size=12)
)
def test_mid_rank_is_half_of_the_level_and_all_below(items):
    values = torch.tensor([value for value, _ in items])
    weights = torch.tensor([weight for _, weight in items]).double()
    found = mid_rank(values, weights)
    for index, (value, _) in enumerate(items):
        below = sum(w for v, w in items if v < value)
        level = sum(w for v, w in items if v == value)
        total = sum(w for _, w in items)
        assert found[index].item() == pytest.approx((below + level / 2) / total)
    assert (found * weights).sum() / weights.sum() == pytest.approx(0.5)


def test_frozen_tokens_do_not_count():
    frozen = torch.zeros(2, 4, dtype=torch.bool)
    frozen[0, :3] = True
    prior = FrequencyPrior(Rows(TEXT, frozen=frozen), tokens=100)
    # left are 1 1 2 3 0
    assert prior(torch.tensor([1, 0])).tolist() == pytest.approx([0.2, 0.7])


@pytest.mark.parametrize("known", [True, False])
def test_counting_ends_with_the_epoch(known):
    source = Rows(TEXT, known=known)
    prior = FrequencyPrior(source, tokens=8 if not known else 10**9)
    assert prior(torch.tensor([0])).item() == pytest.approx(0.25)
    [(split, how)] = source.asked
    assert split == "train"
    assert how.get("rank", 0) == 0
    assert how.get("world", 1) == 1
    endless = Rows(TEXT * 4, known=False)
    FrequencyPrior(endless, tokens=10)(EVERYTHING)
    assert endless.read <= 16


def test_counting_ends_with_the_tokens_asked_for():
    source = Rows(TEXT * 50)
    prior = FrequencyPrior(source, tokens=5)
    found = prior(EVERYTHING)  # 0 0 0 1 1
    assert found[:3].tolist() == pytest.approx([0.3, 0.8, 1.0])
    assert source.read < 10


def test_a_whole_epoch_leaves_few_rows_out():
    source = Rows([[i % 7] * 4 for i in range(1000)])
    FrequencyPrior(source, tokens=10**6)(EVERYTHING)
    assert 1000 - source.asked[0][1]["size"] * 4 < 4


def test_nothing_is_read_before_it_is_needed_nor_twice():
    source = Rows(TEXT)
    prior = FrequencyPrior(source, tokens=100)
    assert not source.asked
    prior(EVERYTHING)
    prior(EVERYTHING)
    assert len(source.asked) == 1


@pytest.mark.parametrize("how", ["load", "copy"])
def test_a_checkpoint_holds_the_ranks(how):
    prior = FrequencyPrior(Rows(TEXT), tokens=100)
    expected = prior(EVERYTHING)
    other = FrequencyPrior(Unreadable(TEXT), tokens=100)
    if how == "load":
        other.load_state_dict(prior.state_dict())
    else:  # as core restores a run
        for name, value in other.state_dict().items():
            value.copy_(prior.state_dict()[name])
    assert torch.equal(other(EVERYTHING), expected)


def test_a_split_without_free_tokens_is_refused():
    source = Rows(TEXT, frozen=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(DataError, match=r"no free token.*frequency=0"):
        FrequencyPrior(source, tokens=100)(EVERYTHING)
