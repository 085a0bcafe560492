"""Draws from categorical laws: exact by the boundaries of the inverse CDF."""

import math

import pytest
import torch

from mdlm_core.errors import MdlmError
from mdlm_core.kernels import categorical as module
from mdlm_core.kernels.categorical import categorical, truncate
from mdlm_core.kernels.noise import Noise

SIZES = [1, 2, 3, 255, 256, 257, 1000, 50257]


def random_law(rows: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, size, generator=generator)
    return logits.log_softmax(-1)


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return Noise(seed).child("test").uniform(torch.tensor([0]), count)[0]


def chi_square_p(counts: torch.Tensor, probs: torch.Tensor) -> float:
    expected = probs.double() * counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = torch.tensor(len(probs) - 1).double()
    return float(torch.special.gammaincc(freedom / 2, statistic / 2))


@pytest.mark.parametrize("size", SIZES)
def test_equals_one_long_cumulative_sum(size):
    law = random_law(32, size)
    u = numbers(32)
    edges = law.exp().double().cumsum(-1)
    expected = (edges <= (u * edges[:, -1]).unsqueeze(1)).sum(-1)
    assert torch.equal(categorical(law, u), expected)


@pytest.mark.parametrize("size", [3, 256, 700])
def test_each_token_owns_an_interval_as_long_as_its_probability(size):
    law = random_law(1, size, seed=1)
    edges = law.exp().double().cumsum(-1)[0]
    edges = torch.cat([torch.zeros(1).double(), edges / edges[-1]])
    margin = 1e-6 * edges.diff()
    rows = law.expand(size, size)
    tokens = torch.arange(size)
    assert torch.equal(categorical(rows, edges[:-1] + margin), tokens)
    assert torch.equal(categorical(rows, edges[1:] - margin), tokens)


def test_a_token_owns_the_lower_end_of_its_interval():
    law = torch.zeros(1024)  # four blocks of 256 tokens, edges exact
    u = torch.arange(1024, dtype=torch.float64) / 1024
    assert torch.equal(categorical(law.expand(1024, 1024), u), torch.arange(1024))


def test_a_token_far_rarer_than_float32_uniforms_is_reached():
    law = torch.full((1, 600), -torch.inf)
    law[0, 0], law[0, 599] = 0.0, math.log(1e-12)  # next to one of probability 1
    assert (
        categorical(law, torch.tensor([1 - 5e-13], dtype=torch.float64)).item() == 599
    )
    assert categorical(law, torch.tensor([1 - 2e-12], dtype=torch.float64)).item() == 0


@pytest.mark.parametrize("u", [2.0**-53, 0.5, 1 - 2.0**-53])
def test_impossible_tokens_are_never_drawn(u):
    law = torch.full((4, 1024), -torch.inf)
    law[0, 300] = 0.0  # whole blocks are impossible on both sides
    law[1, [0, 1023]] = math.log(0.5)
    law[2, 256:259] = torch.tensor([0.1, 0.2, 0.7]).log()
    law[3] = random_law(1, 1024)[0]
    law[3, ::2] = -torch.inf
    drawn = categorical(law, torch.full((4,), u, dtype=torch.float64))
    assert torch.isfinite(law[torch.arange(4), drawn]).all()


def test_rounding_does_not_reach_beyond_a_block():
    law = random_law(300, 2048, seed=2)
    law[:, ::256] = -torch.inf  # what follows a block at once is impossible
    sums = law.exp().double().view(300, 8, 256).sum(-1)
    edges = sums.cumsum(-1)
    for block in range(8):
        u = edges[:, block] / edges[:, -1]
        for _ in range(3):
            u = torch.nextafter(u, torch.zeros(1).double())
            drawn = categorical(law, u)
            assert (drawn < 2048).all()
            assert torch.isfinite(law[torch.arange(300), drawn]).all()


def test_zipf_law_over_a_real_vocabulary():
    size, draws = 50257, 4000
    ranks = torch.arange(1, size + 1)
    probs = (1.0 / ranks.double()) / (1.0 / ranks.double()).sum()
    drawn = categorical(probs.log().float().expand(draws, size), numbers(draws))
    group = torch.log2(ranks.double()).floor().long()
    mass = torch.zeros(16).double().index_add(0, group, probs)
    counts = torch.bincount(group[drawn], minlength=16)
    assert chi_square_p(counts, mass) > 1e-3


def test_a_constant_may_be_missing():
    law, u = random_law(64, 300), numbers(64)
    assert torch.equal(categorical(law + 7, u), categorical(law, u))


def test_pieces_and_other_rows_do_not_matter(monkeypatch):
    law, u = random_law(50, 500), numbers(50)
    whole = categorical(law, u)
    alone = torch.cat([categorical(law[i : i + 1], u[i : i + 1]) for i in range(50)])
    monkeypatch.setitem(module._CHUNK, "cpu", 1500)
    assert torch.equal(whole, alone)
    assert torch.equal(whole, categorical(law, u))


def test_no_rows():
    assert categorical(torch.zeros(0, 5), torch.zeros(0).double()).shape == (0,)


@pytest.mark.parametrize("value", [-torch.inf, torch.inf, torch.nan])
def test_a_broken_law_is_an_error(value):
    law = random_law(3, 10)
    law[1] = value
    with pytest.raises(MdlmError, match="not finite or allows no token"):
        categorical(law, numbers(3))


# ---- truncation -------------------------------------------------------------

LAW = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.15, 0.5, 0.05, 0.3]),
        ({"temperature": 0}, [0, 1, 0, 0]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 0.625, 0, 0.375]),
        ({"top_k": 9}, [0.15, 0.5, 0.05, 0.3]),
        ({"top_p": 0.01}, [0, 1, 0, 0]),
        ({"top_p": 0.49}, [0, 1, 0, 0]),
        ({"top_p": 0.51}, [0, 0.625, 0, 0.375]),  # 0.3 crosses 0.51 and stays
        ({"top_p": 0.79}, [0, 0.625, 0, 0.375]),
        ({"top_p": 0.81}, [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]),
        ({"top_p": 1.0}, [0.15, 0.5, 0.05, 0.3]),
        ({"top_k": 3, "top_p": 0.6}, [0, 0.625, 0, 0.375]),
        ({"top_k": 2, "top_p": 0.62}, [0, 1, 0, 0]),  # of the renormalised law
    ],
)
def test_truncated_laws_by_hand(settings, expected):
    law = truncate(LAW, **settings).exp()
    torch.testing.assert_close(law, torch.tensor([expected]).float())


def test_temperature_renormalises():
    law = truncate(LAW, temperature=0.5).exp()
    squared = LAW.exp() ** 2
    torch.testing.assert_close(law, squared / squared.sum())


def test_temperature_comes_before_top_p():
    flat = truncate(LAW, temperature=100.0, top_p=0.6)  # nearly uniform: three stay
    assert torch.isfinite(flat).sum() == 3


def test_top_p_keeps_the_smallest_sufficient_set():
    law = random_law(20, 400)
    for top_p in (0.1, 0.5, 0.9, 0.99):
        kept = torch.isfinite(truncate(law, top_p=top_p))
        probs = law.double().exp()
        mass = (probs * kept).sum(-1)
        least = torch.where(kept, probs, torch.inf).amin(-1)
        assert (mass >= top_p - 1e-6).all()
        assert (mass - least < top_p + 1e-6).all()  # without the last it falls short
        assert (torch.where(kept, 0, probs).amax(-1) <= least).all()


def test_ties_leave_exactly_k():
    assert (
        torch.isfinite(truncate(torch.full((2, 8), -math.log(8)), top_k=3)).sum() == 6
    )
