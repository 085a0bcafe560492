"""Coupled draws: their law, their stability, and abduction."""

from __future__ import annotations

import pytest
import torch

from mdlm_core.kernels import gumbel as module
from mdlm_core.kernels.categorical import categorical
from mdlm_core.kernels.gumbel import gumbel, gumbel_max, posterior_gumbel
from mdlm_core.kernels.noise import Noise

P = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
Q = torch.tensor([0.4, 0.3, 0.15, 0.15, 0.0])
N = 40_000


def numbers(name: str = "u") -> torch.Tensor:
    return Noise(3).child(name).uniform(torch.arange(N), 1)[:, 0]


def law(p: torch.Tensor) -> torch.Tensor:
    return p.log().expand(N, -1)


def shares(tokens: torch.Tensor) -> torch.Tensor:
    return torch.bincount(tokens, minlength=len(P)) / len(tokens)


def test_draws_have_the_law() -> None:
    found = shares(gumbel_max(law(P), numbers()))
    se = (P * (1 - P) / N).sqrt()
    assert ((found - P).abs() <= 4 * se).all()


def test_the_numbers_are_standard_gumbel() -> None:
    g = gumbel(numbers()[:5000], 4).flatten()
    for x in (-1.0, 0.0, 1.0, 3.0):
        expected = torch.exp(-torch.exp(torch.tensor(-x)))
        assert float((g < x).double().mean()) == pytest.approx(
            float(expected), abs=0.01
        )


def test_a_token_gives_way_only_to_one_that_gains_more() -> None:
    first, second = gumbel_max(law(P), numbers()), gumbel_max(law(Q), numbers())
    ratio = torch.where(P > 0, Q / P, 0)
    moved = first != second
    assert moved.any()
    assert (ratio[second[moved]] > ratio[first[moved]]).all()
    # An inverse CDF moves tokens that neither gained nor lost.
    first, second = categorical(law(P), numbers()), categorical(law(Q), numbers())
    moved = first != second
    assert not (ratio[second[moved]] > ratio[first[moved]]).all()


def test_abduction_gives_back_the_token_and_the_prior() -> None:
    drawn = categorical(law(P), numbers("drawn"))
    g = posterior_gumbel(law(P), drawn, numbers())
    assert (law(P) + g).argmax(-1).equal(drawn)
    # Over tokens that have the law, the numbers are standard Gumbel, each of them, and
    # independent: then a draw of any other law has that law.
    for x in (-0.5, 0.5, 2.0):
        expected = float(torch.exp(-torch.exp(torch.tensor(-x))))
        below = (g < x).double().mean(0)
        assert below == pytest.approx(torch.full((5,), expected).double(), abs=0.012)
    found = shares((law(Q).double() + g).argmax(-1))
    assert found == pytest.approx(Q, abs=0.012)


def test_draws_depend_on_their_number_alone() -> None:
    u = numbers()[:10]
    whole = gumbel_max(law(P)[:10], u)
    assert whole.tolist() == [
        int(gumbel_max(law(P)[:1], u[i : i + 1])) for i in range(10)
    ]


def test_numbers_do_not_depend_on_how_many_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    u = numbers()[:7]
    whole = gumbel(u, 50)
    for chunk in (1, 16, 50, 120):
        monkeypatch.setitem(module._CHUNK, "cpu", chunk)
        assert gumbel(u, 50).equal(whole)
        assert gumbel(u[2:3], 20).equal(whole[2:3, :20])
