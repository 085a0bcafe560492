"""Bits per residue, against sums over all orders and laws without context."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_msa import layout
from mdlm_msa.alphabet import GAP, MASK, VOCAB_SIZE, WRITTEN, encode
from mdlm_msa.scoring.residues import LN2, row_bits

RESIDUES = torch.tensor(WRITTEN[:-1])


class Toy:
    """Logits at a place: a sum over visible tokens, each with a vector of its own."""

    vocab_size = VOCAB_SIZE
    mask_id = MASK
    time_conditioned = False

    def __init__(self, *, strength: float) -> None:
        generator = torch.Generator().manual_seed(3)
        self.own = torch.randn(64, VOCAB_SIZE, generator=generator)
        self.other = strength * torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=generator)

    def hidden(self, batch: Batch, t: torch.Tensor | None = None) -> torch.Tensor:
        seen = (batch.tokens != MASK)[..., None] & ~batch.pad[..., None]
        said = (self.other[batch.tokens] * seen).sum(1, keepdim=True)
        return self.own[: batch.length] + said - self.other[batch.tokens] * seen

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


def exact(toy: Toy, batch: Batch, *, residues: bool) -> float:
    """Return the any-order bound in nats by all orders of what is scored."""
    scored = batch.free & ((batch.tokens != GAP) | (not residues))
    places = scored[0].nonzero()[:, 0].tolist()
    allowed = RESIDUES if residues else torch.tensor(WRITTEN)
    total = 0.0
    orders = list(permutations(places))
    for order in orders:
        for done in range(len(order)):
            tokens = batch.tokens.clone()
            tokens[0, list(order[done:])] = MASK
            logits = toy.hidden(batch.with_tokens(tokens))[0, order[done]]
            law = logits[allowed].double().log_softmax(-1)
            which = (allowed == batch.tokens[0, order[done]]).nonzero()[0, 0]
            total -= float(law[which])
    return total / len(orders)


def one() -> Batch:
    rows = np.stack([encode("LAG"), encode("V-G")])
    return layout.batch([layout.Canvas(rows, 1)])


@pytest.mark.parametrize("gaps", ["given", "scored"])
def test_the_bound_is_the_mean_over_all_orders(gaps: str) -> None:
    toy, batch = Toy(strength=0.5), one()
    expected = exact(toy, batch, residues=gaps == "given")
    found = row_bits(toy, batch, draws=1000, noise=Noise(1), gaps=gaps)  # type: ignore[arg-type]
    assert found.count.tolist() == [2 if gaps == "given" else 3]
    assert abs(float(found.nats[0]) - expected) < 5 * float(found.se[0]) + 1e-9
    assert 0 < float(found.se[0]) < 0.15


def test_without_context_one_law_is_added_up() -> None:
    toy = Toy(strength=0.0)
    rows = np.stack([encode("LAGV"), encode("V-XE"), encode("----"), encode("WWGL")])
    batch = layout.batch([layout.Canvas(rows[[0, 1, 2]], 1), layout.Canvas(rows, 2)])
    # With an even spread of counts every place is hidden with weight 1 in the mean.
    found = row_bits(toy, batch, draws=512, noise=Noise(0))
    assert list(zip(found.canvas.tolist(), found.row.tolist(), strict=True)) == [
        (0, 1),
        (1, 3),
    ]
    assert found.count.tolist() == [2, 4]
    law = toy.own.double()[:, RESIDUES].log_softmax(-1)
    for k, (canvas, row, letters) in enumerate([(0, 1, "V-XE"), (1, 3, "WWGL")]):
        start = layout.place(row, 4)
        expected = -sum(
            float(law[start + i, int(encode(letter)[0]) - 1])
            for i, letter in enumerate(letters)
            if letter not in "-X"
        )
        error = float(found.se[k])
        assert float(found.nats[k]) == pytest.approx(expected, abs=5 * error)
        inside = found.per_position[canvas, start : start + 4]
        assert float(inside.sum()) == pytest.approx(float(found.nats[k]))
    assert float(found.per_position.sum()) == pytest.approx(float(found.nats.sum()))
    assert found.total() == pytest.approx(float(found.nats.sum()) / 6 / LN2)


def test_a_uniform_law_costs_log2_of_its_letters() -> None:
    toy = Toy(strength=0.0)
    toy.own.zero_()
    draws = {"draws": 4, "noise": Noise(0)}
    bits = row_bits(toy, one(), **draws).bits  # type: ignore[arg-type]
    assert float(bits[0]) == pytest.approx(math.log2(20))
    bits = row_bits(toy, one(), gaps="scored", **draws).bits  # type: ignore[arg-type]
    assert float(bits[0]) == pytest.approx(math.log2(21))


def test_a_row_costs_the_same_beside_any_other() -> None:
    toy, rows = Toy(strength=0.5), [encode("LAGV"), encode("V-GE"), encode("LLLL")]
    first = layout.Canvas(np.stack(rows[:2]), 1)
    second = layout.Canvas(np.stack([rows[2], rows[0], rows[1]]), 2)
    both = layout.batch([first, second], torch.tensor([7, 9]))
    alone = layout.batch([second], torch.tensor([9]))
    a = row_bits(toy, both, draws=4, noise=Noise(5))
    b = row_bits(toy, alone, draws=4, noise=Noise(5))
    assert float(a.nats[1]) == pytest.approx(float(b.nats[0]), rel=1e-6)
