"""Graphs from data, against planted graphs, enumeration and closed forms."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels import Noise
from mdlm_personality.causal.compare import (
    edge_scores,
    expected,
    intervention_error,
    shd,
    total_effects,
    varsortability,
)
from mdlm_personality.causal.discovery import (
    acyclic_part,
    dagma_linear,
    notears_linear,
)
from mdlm_personality.causal.simulate import linear_data, random_dag

CHAIN = np.array([[0, 1.5, 0], [0, 0, -0.8], [0, 0, 0]])


@pytest.mark.parametrize("method", [dagma_linear, notears_linear])
def test_planted_graphs_are_found(method: object) -> None:
    truth = random_dag(8, 1.5, Noise(4))
    data = linear_data(truth, 2000, Noise(4))
    found = method(data)  # type: ignore[operator]
    assert shd(found, truth) == 0
    assert np.abs(found - truth).max() < 0.3  # the weights are shrunk
    assert intervention_error(found, truth).mean() < 0.6
    assert shd(np.zeros_like(truth), truth) == (truth != 0).sum() >= 8


@pytest.mark.parametrize("method", [dagma_linear, notears_linear])
def test_the_graph_is_the_best_of_all_graphs(method: object) -> None:
    """Least squares over all 25 graphs of three nodes, by enumeration."""
    data = linear_data(CHAIN, 1500, Noise(0))
    covariance = np.cov(data.T, bias=True)

    def loss(mask: np.ndarray) -> float:
        total = 0.0
        for j in range(3):
            pa = np.flatnonzero(mask[:, j])
            cross = covariance[np.ix_(pa, [j])]
            inside = covariance[np.ix_(pa, pa)]
            total += covariance[j, j]
            total -= (cross.T @ np.linalg.solve(inside, cross)).item() if len(pa) else 0
        return total + 0.06 * mask.sum()  # as a weight of 1 costs with lambda1 = 0.03

    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    graphs = []
    for chosen in itertools.product((0, 1), repeat=6):
        mask = np.zeros((3, 3), dtype=int)
        for (i, j), there in zip(pairs, chosen, strict=True):
            mask[i, j] = there
        if nx.is_directed_acyclic_graph(
            nx.from_numpy_array(mask, create_using=nx.DiGraph)
        ):
            graphs.append(mask)
    assert len(graphs) == 25
    best = min(graphs, key=loss)
    found = method(data, lambda1=0.03)  # type: ignore[operator]
    assert ((found != 0) == best).all()


@pytest.mark.parametrize("method", [dagma_linear, notears_linear])
def test_edges_that_are_not_allowed_are_not_found(method: object) -> None:
    data = linear_data(CHAIN, 500, Noise(1))
    allowed = np.ones((3, 3), dtype=bool)
    allowed[0, 1] = False
    before = data.copy()
    found = method(data, allowed=allowed)  # type: ignore[operator]
    assert found[0, 1] == 0
    assert (data == before).all()
    with pytest.raises(UsageError, match="3 columns"):
        method(data, allowed=np.ones((2, 2), dtype=bool))  # type: ignore[operator]


def test_the_objective_of_dagma_is_that_of_the_layer() -> None:
    """The written-out gradient has the fixed point that automatic gradients see."""
    import torch

    from mdlm_personality.causal.acyclicity import dagma_h
    from mdlm_personality.causal.discovery import _covariance, _dagma_round

    data = linear_data(CHAIN, 400, Noise(2))
    covariance = _covariance(data)
    mask = ~np.eye(3, dtype=bool)
    options = {"mu": 0.5, "s": 1.0, "lambda1": 0.0, "lr": 1e-3, "tolerance": 1e-12}
    found = _dagma_round(covariance, np.zeros((3, 3)), mask, steps=9000, **options)  # type: ignore[arg-type]
    weight = torch.tensor(found, requires_grad=True)
    residual = torch.eye(3).double() - weight
    score = 0.5 * torch.trace(residual.T @ torch.tensor(covariance) @ residual)
    (0.5 * score + dagma_h(weight, 1.0)).backward()
    assert weight.grad is not None
    assert float(weight.grad[torch.tensor(mask)].abs().max()) < 2e-3


def test_data_that_no_graph_is_found_in() -> None:
    data = linear_data(CHAIN, 10, Noise(0))
    data[4, 1] = np.nan
    with pytest.raises(DataError, match="row 4, column 1"):
        dagma_linear(data)
    with pytest.raises(DataError, match="at least two rows"):
        notears_linear(data[:1])


def test_cycles_are_broken_at_the_weakest_edge() -> None:
    weight = np.array([[0, 2.0, 0], [0, 0, -0.5], [1.0, 0, 0]])
    kept, dropped = acyclic_part(weight)
    assert dropped == [(1, 2)]
    assert kept[0, 1] == 2
    assert kept[2, 0] == 1
    assert kept[1, 2] == 0
    assert weight[1, 2] == -0.5


def test_random_graphs_have_the_edges_and_weights_asked_for() -> None:
    graphs = [random_dag(10, 2, Noise(seed)) for seed in range(200)]
    edges = np.array([(graph != 0).sum() for graph in graphs])
    assert abs(edges.mean() - 20) < 4 * np.sqrt(20 * (1 - 20 / 45) / 200)
    size = np.abs(np.concatenate([graph[graph != 0] for graph in graphs]))
    assert 0.5 <= size.min() < 0.52 < 1.98 < size.max() <= 2
    for graph in graphs[:20]:
        made = nx.from_numpy_array((graph != 0).astype(int), create_using=nx.DiGraph)
        assert nx.is_directed_acyclic_graph(made)
    assert (random_dag(10, 2, Noise(7)) == graphs[7]).all()
    with pytest.raises(UsageError, match="between 0 and"):
        random_dag(5, 3, Noise(0))


@pytest.mark.parametrize("law", ["gaussian", "uniform", "exponential"])
def test_simulated_rows_have_the_covariance_of_the_model(law: str) -> None:
    scales = (0.5, 1.0, 2.0)
    data = linear_data(CHAIN, 40_000, Noise(0), scales=scales, law=law)  # type: ignore[arg-type]
    mixing = total_effects(CHAIN)
    truth = mixing.T @ np.diag(np.square(scales)) @ mixing
    assert np.abs(np.cov(data.T) - truth).max() < 0.2
    assert np.abs(data.mean(axis=0)).max() < 0.05


def test_interventions_set_the_value_and_move_descendants_alone() -> None:
    before = linear_data(CHAIN, 2000, Noise(5))
    after = linear_data(CHAIN, 2000, Noise(5), do={1: 3.0})
    assert (after[:, 1] == 3).all()
    assert np.allclose(after[:, 0], before[:, 0])
    assert after[:, 2].mean() == pytest.approx(-2.4, abs=0.1)
    assert expected(CHAIN, {1: 3.0}).tolist() == pytest.approx([0, 3, -2.4])
    moved = expected(CHAIN, {1: 3.0}, np.array([1.0, 0, 0]))
    assert moved.tolist() == [1.0, 3.0, 3.0 * CHAIN[1, 2]]  # its cause is no more


def test_total_effects_are_sums_over_paths() -> None:
    weight = random_dag(7, 2, Noise(6))
    graph = nx.from_numpy_array(weight, create_using=nx.DiGraph)
    total = total_effects(weight)
    for i, j in itertools.permutations(range(7), 2):
        paths = nx.all_simple_edge_paths(graph, i, j)
        by_hand = sum(float(np.prod([weight[edge] for edge in p])) for p in paths)
        assert total[i, j] == pytest.approx(by_hand, abs=1e-9)
        if not nx.has_path(graph, i, j):
            assert total[i, j] == 0
    assert (np.diag(total) == 1).all()


def test_distances_between_graphs() -> None:
    truth = CHAIN != 0
    turned = truth.copy()
    turned[0, 1], turned[1, 0] = False, True
    more = truth.copy()
    more[0, 2] = True
    assert [shd(each, truth) for each in (truth, turned, more)] == [0, 1, 1]
    assert shd(np.zeros((3, 3)), truth) == 2
    scores = edge_scores(turned, truth)
    assert (scores.right, scores.reversed, scores.found, scores.true) == (1, 1, 2, 2)
    assert (scores.precision, scores.recall) == (0.5, 0.5)
    assert edge_scores(more, truth).precision == pytest.approx(2 / 3)
    assert np.isnan(edge_scores(np.zeros((3, 3)), truth).precision)


def test_the_error_of_interventions() -> None:
    assert intervention_error(CHAIN, CHAIN).tolist() == [0, 0, 0]
    empty = np.zeros((3, 3))
    by_hand = [np.hypot(1.5, 1.2), 0.8, 0]
    assert intervention_error(empty, CHAIN).tolist() == pytest.approx(by_hand)


def test_varsortability_counts_paths_along_which_variance_grows() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 3))
    rows /= rows.std(axis=0)
    assert varsortability(rows * [1, 2, 3], CHAIN) == 1
    assert varsortability(rows * [3, 2, 1], CHAIN) == 0
    assert varsortability(rows, CHAIN) == 0.5
    assert varsortability(rows * [1, 3, 2], CHAIN) == pytest.approx(2 / 3)
    assert np.isnan(varsortability(rows, np.zeros((3, 3))))


def test_standardised_data_is_harder() -> None:
    """What the papers' recovery owes to the units of simulated data."""
    truth = random_dag(8, 1.5, Noise(3))
    data = linear_data(truth, 2000, Noise(3))
    assert varsortability(data, truth) > 0.9
    std = data.std(axis=0)
    real = truth * std[:, None] / std[None, :]
    assert shd(notears_linear(data / std), real) >= 5
