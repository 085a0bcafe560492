"""Counter-based noise: the published vectors, uniformity, independence."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_core.kernels.noise import Noise, global_seed, philox

# Known-answer tests of philox4x32-10, from Random123 (Salmon et al., 2011): counter,
# key, result.
KNOWN = (
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
)


def words(text):
    return [int(word, 16) for word in text.split()]


def test_known_answers():
    for counter, key, result in KNOWN:
        out = philox(
            tuple(torch.tensor([word]) for word in words(counter)), tuple(words(key))
        )
        assert [int(word) for word in out] == words(result)


def python_philox(counter, key):
    """The definition in Python integers, which never overflow."""
    for i in range(10):
        k = [(key[j] + i * (0x9E3779B9, 0xBB67AE85)[j]) % 2**32 for j in (0, 1)]
        p0, p1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = (
            p1 // 2**32 ^ counter[1] ^ k[0],
            p1 % 2**32,
            p0 // 2**32 ^ counter[3] ^ k[1],
            p0 % 2**32,
        )
    return counter


word = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=200)
@given(st.tuples(word, word, word, word), st.tuples(word, word))
def test_any_counter_and_key(counter, key):
    out = philox(tuple(torch.tensor(w) for w in counter), key)
    assert tuple(int(w) for w in out) == python_philox(counter, key)


def test_uniform_is_uniform():
    n = 2**18
    u = Noise(3).child("test").uniform(torch.arange(n // 64), 64)
    assert u.dtype == torch.float64
    assert u.min() > 0
    assert u.max() < 1
    sorted_u = u.flatten().sort().values
    grid = (torch.arange(n) + 0.5) / n
    distance = (sorted_u - grid).abs().max().item()  # Kolmogorov-Smirnov
    assert distance < 1.95 / math.sqrt(n)  # one in a thousand
    counts = torch.bincount((u.flatten() * 256).long(), minlength=256).double()
    chi = ((counts - n / 256) ** 2 / (n / 256)).sum().item()
    assert abs(chi - 255) < 4 * math.sqrt(2 * 255)
    low = u.flatten() * 2**40 % 1  # the low bits are as good as the high ones
    assert abs(low.mean().item() - 0.5) < 4 / math.sqrt(12 * n)


def test_neighbours_are_not_correlated():
    u = Noise(4).uniform(torch.arange(512), 512) - 0.5
    for a, b in (
        (u[:, 1:], u[:, :-1]),
        (u[1:], u[:-1]),
        (u, Noise(5).uniform(torch.arange(512), 512) - 0.5),
        (u, Noise(4).child("x").uniform(torch.arange(512), 512) - 0.5),
    ):
        correlation = 12 * (a * b).mean().item() * math.sqrt(a.numel())
        assert abs(correlation) < 4


def test_a_row_does_not_depend_on_the_others():
    noise = Noise(7).child("mask", 2)
    rows = torch.tensor([5, 2**40 + 1, 0, 17])
    together = noise.uniform(rows, 33)
    for row, drawn in zip(rows, together, strict=True):
        assert torch.equal(noise.uniform(row[None], 33)[0], drawn)
    assert torch.equal(noise.uniform(rows.flip(0), 33), together.flip(0))
    assert torch.equal(noise.uniform(rows, 20), together[:, :20])
    assert not torch.equal(together[0], together[1])


def test_columns_may_be_given():
    noise = Noise(8)
    rows = torch.tensor([3, 1])
    columns = torch.tensor([4, 9])
    table = noise.uniform(rows, 10)
    assert torch.equal(noise.uniform(rows, columns), table[[0, 1], columns])
    assert torch.equal(noise.uniform(rows[:, None], columns), table[:, columns])


def test_high_words_of_a_row_count():
    rows = torch.tensor([1, 2**32 + 1, -1])
    u = Noise(0).uniform(rows, 4)
    assert len(set(u.flatten().tolist())) == 12


def test_paths_and_seeds_separate():
    row = torch.tensor([0])
    noises = [
        Noise(0),
        Noise(1),
        Noise(0).child("mask"),
        Noise(0).child("mask", 0),
        Noise(0).child("mask", 1),
        Noise(0).child("mask", "1"),
        Noise(0).child("mask").child(0, 1),
    ]
    first = [noise.uniform(row, 1).item() for noise in noises]
    assert len(set(first)) == len(noises)
    assert len({noise.integer() for noise in noises}) == len(noises)
    assert all(0 <= noise.integer() < 2**63 for noise in noises)
    assert Noise(0).child("a", 1) == Noise(0).child("a").child(1)


def test_values_stay_the_same_for_ever():
    """A run of an older version resumes with the noise it had."""
    u = Noise(0).child("mask", 0).uniform(torch.tensor([0, 1]), 2)
    assert [x.hex() for x in u.flatten().tolist()] == [
        "0x1.e3e4c4dea9025p-1",
        "0x1.dec3d14a82aa0p-6",
        "0x1.43d21264f1895p-1",
        "0x1.71d661c40360ap-2",
    ]


def test_global_seed_restores_what_it_found():
    before = torch.get_rng_state()
    with global_seed(Noise(1)):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with global_seed(Noise(1)):
        assert torch.equal(torch.rand(3), first)
    with global_seed(Noise(2)):
        assert not torch.equal(torch.rand(3), first)
    try:
        with global_seed(Noise(1)):
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_an_integer_of_any_type_is_the_same_path():
    rows = torch.arange(3)
    expected = Noise(5).child("mask", 1).uniform(rows, 2)
    for one in (np.int64(1), np.uint8(1), torch.tensor(1)):
        other = Noise(5).child("mask", one)
        assert other == Noise(5).child("mask", 1)
        assert torch.equal(other.uniform(rows, 2), expected)
    assert not torch.equal(Noise(5).child("mask", "1").uniform(rows, 2), expected)
