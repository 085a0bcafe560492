"""The n-gram judge against the formula, written out with dictionaries."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from mdlm_atat.judge import NGramJudge
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise

V, MASK, START = 6, 2, -1
WORDS = [token for token in range(V) if token != MASK]


def corpus(rows=20, length=9, seed=0):
    """Rows in which the next token leans on the two before it."""
    u = Noise(seed).child("corpus").uniform(torch.arange(rows), length).tolist()
    found = []
    for numbers in u:
        row = []
        for number in numbers:
            lean = sum(row[-2:]) % len(WORDS)
            row.append((lean + int(len(WORDS) * number**3)) % len(WORDS))
        found.append([WORDS[i] for i in row])
    return np.array(found)


class ByHand:
    """Interpolated Kneser-Ney by recursion over tuples."""

    def __init__(self, rows, order):
        plain = Counter()
        for row in rows.tolist():
            padded = [START] * (order - 1) + row
            for end in range(order - 1, len(padded)):
                for n in range(1, order + 1):
                    plain[tuple(padded[end - n + 1 : end + 1])] += 1
        wake = defaultdict(set)
        for gram in plain:
            wake[gram[1:]].add(gram[0])
        self.count = {
            gram: count if len(gram) == order or gram[0] == START else len(wake[gram])
            for gram, count in plain.items()
        }
        self.discount = {}
        for n in range(1, order + 1):
            values = [c for gram, c in self.count.items() if len(gram) == n]
            once, twice = values.count(1), values.count(2)
            share = once / (once + 2 * twice) if once else 0.0
            self.discount[n] = min(max(share, 0.1), 0.9)
        self.order = order

    def p(self, word, context):
        shorter = self.p(word, context[1:]) if context else 1 / len(WORDS)
        n = len(context) + 1
        follow = {
            g: c for g, c in self.count.items() if len(g) == n and g[:-1] == context
        }
        if not follow:
            return shorter
        d = self.discount[n]
        seen = max(follow.get((*context, word), 0) - d, 0)
        return (seen + d * len(follow) * shorter) / sum(follow.values())

    def row(self, row):
        padded = [START] * (self.order - 1) + row
        return [
            -math.log(self.p(word, tuple(padded[i : i + self.order - 1])))
            for i, word in enumerate(row)
        ]


def judge(rows, order=5, **settings):
    return NGramJudge.train(rows, vocab_size=V, mask_id=MASK, order=order, **settings)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_is_the_formula(order):
    rows, unseen = corpus(), corpus(rows=6, seed=1)
    found, by_hand = judge(rows, order), ByHand(rows, order)
    assert found.order == order
    for asked in (rows[:4], unseen, np.array([[5] * 9, [0] * 9])):
        expected = [by_hand.row(row) for row in asked.tolist()]
        np.testing.assert_allclose(found.nll(asked), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_it_is_normalised(order):
    """Over the last token, for contexts that were met and contexts that were not."""
    found = judge(corpus(), order)
    contexts = np.concatenate([corpus(rows=5)[:, :4], corpus(rows=5, seed=9)[:, :4]])
    for context in [*contexts, np.array([5, 5, 0, 5]), np.array([], dtype=np.int64)]:
        rows = np.array([[*context, word] for word in WORDS])
        assert np.exp(-found.nll(rows)[:, -1]).sum() == pytest.approx(1)


def test_two_discounts_known_from_counting():
    """aab and aba: bigrams (start a) 2, aa, ab 2, ba; after "a" once a and twice b."""
    a, b = 0, 1
    found = judge(np.array([[a, a, b], [a, b, a]]), 2)
    # Unigrams count what they follow: a after start, a and b; b after a. D = 1 -> 0.9,
    # as one of them is counted once and none twice.
    p1 = {a: (3 - 0.9 + 0.9 * 2 / 5) / 4, b: (1 - 0.9 + 0.9 * 2 / 5) / 4}
    # Bigrams: two are counted once and two twice. D = 2 / (2 + 4).
    d = 1 / 3
    expected = [
        (2 - d + d * p1[a]) / 2,
        (1 - d + d * 2 * p1[a]) / 3,
        (2 - d + d * 2 * p1[b]) / 3,
    ]
    nll = found.nll(np.array([[a, a, b]]))
    np.testing.assert_allclose(np.exp(-nll[0]), expected)


def test_only_what_is_kept_is_counted():
    """Tokens that are not kept are still what the next ones follow."""
    rows = corpus()
    keep = np.ones(rows.shape, dtype=bool)
    keep[:, 6:] = False
    cut = judge(rows[:, :6])
    asked = corpus(rows=5, seed=3)
    np.testing.assert_allclose(judge(rows, keep=keep).nll(asked), cut.nll(asked))


def test_longer_contexts_judge_better_where_they_tell():
    train, held_out = corpus(rows=3000), corpus(rows=300, seed=5)
    nll = [judge(train, order).nll(held_out).mean() for order in (1, 2, 3)]
    assert nll[0] > nll[1] + 0.02
    assert nll[1] > nll[2] + 0.02
    shuffled = held_out.ravel()[np.argsort(np.sin(np.arange(held_out.size)))]
    assert judge(train, 3).nll(shuffled.reshape(held_out.shape)).mean() > nll[2] + 0.1


def test_a_large_vocabulary_does_not_overflow():
    """The codes of five ids of 20 bits would not fit into 64 bits."""
    size = 2**20
    rows = (size - 1) - corpus()
    found = NGramJudge.train(rows, vocab_size=size, mask_id=0)
    small = judge(corpus())
    gap = found.nll(rows) - small.nll(corpus())
    assert np.abs(gap).max() < 1  # only the floor of 1 / V' differs


@pytest.mark.parametrize("wrong", [MASK, V, -1])
def test_what_cannot_be_judged_is_refused(wrong):
    rows = corpus()
    bad = rows.copy()
    bad[3, 3] = wrong
    with pytest.raises(DataError, match=f"token {wrong} cannot be judged"):
        judge(bad)
    with pytest.raises(DataError, match=f"token {wrong} cannot be judged"):
        judge(rows).nll(bad)
    with pytest.raises(DataError, match="no token"):
        judge(rows, keep=np.zeros(rows.shape, dtype=bool))
    with pytest.raises(UsageError, match="order is 0"):
        judge(rows, 0)
