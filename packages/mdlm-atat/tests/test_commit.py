"""What is uncertain, and how much of it fits a bound on entropy."""

import math

import pytest
import torch

from mdlm_atat.commit import uncertainty, within_bound
from mdlm_core.kernels.noise import Noise

from .table import LENGTH, Table, blank, largest_prefix, sample

# ---- scores and bounds ------------------------------------------------------------


def test_scores_by_hand():
    law = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]).log()
    entropy = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    for score, expected in {
        "entropy": [entropy, 0.0, math.log(3)],
        "confidence": [0.3, 0.0, 2 / 3],
        "margin": [0.5, 0.0, 1.0],
    }.items():
        torch.testing.assert_close(uncertainty(law, score), torch.tensor(expected))
    assert uncertainty(law, "entropy")[1] == 0  # exactly, for a bound of 0


def test_the_entropy_bound_by_trying_every_number():
    noise = Noise(0)
    nats = -2 * noise.uniform(torch.arange(300), 9).log()
    nats[::3] = nats[::3].sort(dim=1).values
    nats[1::3] = nats[1::3].sort(dim=1, descending=True).values
    nats[::5, ::2] = 0
    for bound in (0.0, 0.1, 1.0, 4.0, 20.0, math.inf):
        found = within_bound(nats, bound).tolist()
        assert found == [largest_prefix(row, bound) for row in nats.tolist()]


def test_a_bound_of_zero_commits_one_and_all_that_are_certain():
    nats = torch.tensor([[0.0, 0.0, 0.3, 0.4], [0.3, 0.4, 0.0, 0.0], [0.2, 0, 0, 0.1]])
    assert within_bound(nats, 0.0).tolist() == [3, 1, 3]
    assert within_bound(nats, math.inf).tolist() == [4, 4, 4]


def test_the_bound_is_above_what_independent_draws_lose():
    """H_1 + ... + H_k - H(1, ..., k) <= the sum without its largest, for any joint."""
    u = Noise(1).uniform(torch.arange(400), 27)
    joint = (-u.log()) ** torch.tensor([0.3, 1.0, 3.0, 9.0]).repeat(100)[:, None]
    joint = (joint / joint.sum(1, keepdim=True)).view(-1, 3, 3, 3)
    joint[0] = 0
    joint[0, range(3), range(3), range(3)] = 1 / 3  # all equal: the bound is reached
    single = torch.stack([joint.sum(d) for d in ((2, 3), (1, 3), (1, 2))], 1)
    entropies = torch.special.entr(single).sum(-1)
    whole = torch.special.entr(joint).flatten(1).sum(1)
    lost = entropies.sum(1) - whole
    bound = entropies.sum(1) - entropies.amax(1)
    assert (lost <= bound + 1e-12).all()
    assert lost[0] == pytest.approx(float(bound[0]))
    product = torch.einsum("ra,rb,rc->rabc", *single.unbind(1))
    divergence = (joint * (joint / product).log().nan_to_num()).sum((1, 2, 3))
    torch.testing.assert_close(lost, divergence, atol=1e-9, rtol=0)
    assert (within_bound(entropies, 1.0) == 3).equal(bound <= 1.0)


def test_an_infinite_bound_is_one_step_and_zero_is_one_by_one():
    canvas = blank(50, known=[(0, 2)])
    table = Table(LENGTH)
    assert (sample(table, canvas, entropy_bound=math.inf).nfe == 1).all()
    assert (sample(table, canvas, entropy_bound=0.0).nfe == 3).all()
    nfe = [
        sample(table, canvas, entropy_bound=bound).nfe.sum() for bound in (0.3, 1, 2, 3)
    ]
    assert nfe == sorted(nfe, reverse=True)
    assert nfe[0] > nfe[-1]


def test_entropies_are_of_the_law_before_truncation():
    """Else a temperature of 0 would make everything certain, and one step of all."""
    canvas = blank(4)
    greedy = sample(Table(LENGTH), canvas, entropy_bound=0.0, temperature=0.0)
    assert (greedy.nfe == LENGTH).all()
