"""When a text is decided, and which classes stay in the race, by hand."""

import math

import pytest
import torch

from mdlm_classify.config import ScoringConfig
from mdlm_classify.scoring.rules import (
    Round,
    Standing,
    rounds,
    rule_of,
    standing,
    still_kept,
)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, (4, 4, 8, 16, 32)),
        ({"rule": "fixed"}, (64,)),
        ({"max_draws": 20}, (4, 4, 8, 4)),
        ({"max_draws": 9}, (4, 5)),
        ({"start_draws": 2, "max_draws": 3}, (3,)),
        ({"start_draws": 7, "max_draws": 7}, (7,)),
    ],
)
def test_rounds(known, expected):
    assert rounds(ScoringConfig(**known)) == expected


def test_the_rule_goes_by_the_number_of_classes():
    assert rule_of(ScoringConfig(), 4) == "sequential"
    assert rule_of(ScoringConfig(), 5) == "halving"
    assert rule_of(ScoringConfig(rule="fixed"), 9) == "fixed"


def test_standing_by_hand():
    first = torch.tensor([[[1.0, 4.0, 0.0], [3.0, 2.0, 2.0]]]).double()
    second = torch.tensor([[[2.0, 0.0, 9.0], [6.0, 4.0, 9.0]]]).double()
    everyone = torch.ones(1, 3, dtype=torch.bool)
    two = torch.tensor([[True, True, False]])
    prior = torch.zeros(3).double()
    now = standing([Round(first, everyone), Round(second, two)], two, prior)
    assert now.best.tolist() == [0]
    assert now.draws.tolist() == [[4, 4, 2]]
    # means 3 and 2.5; the third is behind the first by 1 on its own two draws
    torch.testing.assert_close(
        now.log_likelihood, torch.tensor([[3.0, 2.5, 2.0]]).double()
    )
    # gaps of the second -3, 1, 2, 2 and of the third 1, 1
    spread = torch.tensor([-3.0, 1.0, 2.0, 2.0]).double().std() / 2
    torch.testing.assert_close(
        now.se, torch.tensor([[0.0, float(spread), 0.0]]).double()
    )
    shifted = standing(
        [Round(first, everyone), Round(second, two)],
        two,
        torch.tensor([0.0, 0.6, 0.0]).double(),
    )
    assert shifted.best.tolist() == [1]
    torch.testing.assert_close(
        shifted.log_likelihood[:, :2], torch.tensor([[3.0, 2.5]]).double()
    )


def at(log_likelihood, se):
    values = torch.tensor([log_likelihood]).double()
    return Standing(
        best=values.argmax(1),
        log_likelihood=values,
        se=torch.tensor([se]).double(),
        draws=torch.full_like(values, 4, dtype=torch.int64),
    )


def test_a_class_is_out_when_the_best_leads_by_z_errors():
    kept, prior = torch.ones(1, 3, dtype=torch.bool), torch.zeros(3).double()
    now = at([5.0, 3.0, 2.9], [0.0, 1.0, 1.0])
    known = {"rule": "sequential", "z": 2.0}
    assert still_kept(now, kept, prior, **known).tolist() == [[True, True, False]]
    tilted = torch.tensor([0.0, -0.2, 0.2]).double()
    assert still_kept(now, kept, tilted, **known).tolist() == [[True, False, True]]
    fixed = still_kept(now, kept, prior, rule="fixed", z=2.0)
    assert fixed.all()
    gone = torch.tensor([[True, True, False]])
    close = at([5.0, 4.9, 4.8], [0.0, 1.0, 1.0])
    assert still_kept(close, gone, prior, **known).tolist() == gone.tolist()


def test_halving_keeps_the_better_half_down_to_two():
    values = [9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0]
    kept, prior = torch.ones(1, 9, dtype=torch.bool), torch.zeros(9).double()
    now = at(values, [math.inf] * 9)
    sizes = []
    for _ in range(4):
        kept = still_kept(now, kept, prior, rule="halving", z=2.0)
        sizes.append(int(kept.sum()))
    assert sizes == [5, 3, 2, 2]
    assert kept.nonzero()[:, 1].tolist() == [0, 2]
