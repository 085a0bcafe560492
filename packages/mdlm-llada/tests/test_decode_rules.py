"""Which tokens are committed, against loops over single positions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_core.errors import ConfigError
from mdlm_llada.config import DecodeConfig
from mdlm_llada.decode.blocks import rows_of
from mdlm_llada.decode.rules import by_count, commit

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12)


def chosen(
    config: DecodeConfig, sure: list[float], count: int = 1, **more: bool
) -> set[int]:
    scores = torch.tensor([sure])
    entropy = 3 * (1 - scores)
    masked = torch.ones_like(scores, dtype=torch.bool)
    picked = commit(config, scores, masked, torch.tensor([count]), entropy, **more)
    return set(picked[0].nonzero().flatten().tolist())


def order_of(sure: list[float]) -> list[int]:
    return sorted(range(len(sure)), key=lambda i: -sure[i])


@given(st.integers(0, 300), st.integers(1, 64))
def test_counts_add_up_and_differ_by_one(masks: int, steps: int) -> None:
    counts = [by_count(masks, steps, step) for step in range(steps)]
    assert sum(counts) == masks
    assert counts == sorted(counts, reverse=True)
    assert max(counts) - min(counts) <= 1


@settings(deadline=None)
@given(SCORES, st.integers(1, 12))
def test_by_count_takes_the_surest(sure: list[float], count: int) -> None:
    assert chosen(DecodeConfig(), sure, count) == set(order_of(sure)[:count])


@settings(deadline=None)
@given(SCORES, st.floats(2**-6, 1, width=32))
def test_threshold_takes_all_that_reach_it(sure: list[float], bound: float) -> None:
    expected = {i for i, score in enumerate(sure) if score >= bound}
    found = chosen(DecodeConfig(threshold=bound), sure)
    assert found == (expected or {order_of(sure)[0]})


@settings(deadline=None)
@given(SCORES, st.sampled_from([0.25, 0.5, 1.0, 1.5]))
def test_factor_stops_at_the_first_that_is_too_unsure(
    sure: list[float], factor: float
) -> None:
    expected: list[int] = []
    for n, place in enumerate(order_of(sure), 1):
        score = torch.tensor(sure[place])
        if n > 1 and not bool((n + 1) * (1 - score) < factor):
            break
        if n == 1 and not bool(2 * (1 - score) < factor):
            expected = [place]
            break
        expected.append(place)
    assert chosen(DecodeConfig(factor=factor), sure) == set(expected)


@settings(deadline=None)
@given(SCORES, st.sampled_from([0.3, 1.0, 4.0]))
def test_entropy_bound_stops_when_the_joint_entropy_is_not_known(
    sure: list[float], bound: float
) -> None:
    expected, total, largest = [], 0.0, 0.0
    for place in order_of(sure):
        h = float(3 * (1 - torch.tensor(sure[place])))
        total, largest = total + h, max(largest, h)
        if total - largest > bound:
            break
        expected.append(place)
    found = chosen(DecodeConfig(entropy_bound=bound), sure)
    margin = abs(total - largest - bound) < 1e-5
    assert found == set(expected) or margin


@settings(deadline=None)
@given(
    SCORES,
    st.integers(1, 12),
    st.sampled_from([{"threshold": 0.5}, {"factor": 1.0}, {"entropy_bound": 1.0}]),
)
def test_a_count_may_be_the_least(
    sure: list[float], count: int, rule: dict[str, float]
) -> None:
    config = DecodeConfig(**rule)
    found = chosen(config, sure, count, at_least_counts=True)
    assert found == chosen(config, sure) | set(order_of(sure)[:count])


def test_only_masked_positions_are_committed() -> None:
    sure = torch.tensor([[0.9, 0.2, 0.8], [0.9, 0.8, 0.7]])
    masked = torch.tensor([[False, True, False], [False, False, False]])
    picked = commit(DecodeConfig(threshold=0.5), sure, masked, torch.tensor([3, 3]))
    assert picked.tolist() == [[False, True, False], [False, False, False]]


def test_blocks_begin_where_a_row_does_or_where_the_model_says() -> None:
    todo = torch.zeros(2, 12, dtype=torch.bool)
    todo[0, 3:11] = True
    pad = torch.zeros_like(todo)
    pad[0, 11:] = True
    (row,) = rows_of(todo, pad, 4, 8, aligned=False)
    assert row.spans == [(3, 7), (7, 11)]
    assert row.steps == [4, 4]
    assert row.length == 11
    (row,) = rows_of(todo, pad, 4, 8, aligned=True)
    assert row.spans == [(0, 4), (4, 8), (8, 11)]
    assert row.masks == [1, 4, 3]
    assert row.steps == [1, 4, 3]
    (row,) = rows_of(todo, pad, 4, 3, aligned=False)
    assert row.steps == [2, 1]
    todo[0, 5:9] = False  # filled already: its block has less to do
    (row,) = rows_of(todo, pad, 4, 8, aligned=False)
    assert row.masks == [2, 2]
    assert row.steps == [4, 4]


def test_one_rule_at_a_time() -> None:
    with pytest.raises(
        ConfigError, match=r"threshold and sampler\.factor are both set"
    ):
        DecodeConfig(threshold=0.5, factor=1.0)
    with pytest.raises(ConfigError, match="remasking=random commits in a random order"):
        DecodeConfig(threshold=0.5, remasking="random")
