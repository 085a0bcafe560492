"""Functions that are zero on graphs without cycles, and their gradients."""

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import torch

from mdlm_core.errors import UsageError
from mdlm_personality.causal.acyclicity import (
    between_cycles,
    dagma_h,
    notears_h,
    on_cycles,
    polynomial_h,
    project,
    spectral_radius,
)

D = 6
FUNCTIONS = {
    "notears": notears_h,
    "polynomial": lambda w: polynomial_h(w, 0.7),
    "dagma": lambda w: dagma_h(w, 0.8),
}
functions = pytest.mark.parametrize("name", FUNCTIONS)
seeds = pytest.mark.parametrize("seed", range(5))


def weights(seed, *, dag=False, scale=1.0, share=1.0):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(D, D)) * (rng.random((D, D)) < share) * scale
    np.fill_diagonal(w, 0)
    if dag:
        order = rng.permutation(D)
        w = np.triu(w)[order][:, order]
    return torch.tensor(w)


@functions
@seeds
def test_zero_on_graphs_without_cycles_exactly(name, seed):
    w = weights(seed, dag=True, scale=3.0).requires_grad_()
    h = FUNCTIONS[name](w)
    assert h.item() == 0.0
    [slope] = torch.autograd.grad(h, w)
    assert (slope == 0).all()


@functions
def test_positive_on_two_nodes_that_cause_each_other(name):
    w = torch.zeros(D, D)
    w[0, 3], w[3, 0], w[1, 2] = 0.3, -0.2, 5.0
    assert FUNCTIONS[name](w) > 1e-4
    w[3, 0] = 0
    assert FUNCTIONS[name](w) == 0


@functions
@seeds
def test_gradients_are_finite_differences(name, seed):
    w = weights(seed, scale=0.3, share=0.6).requires_grad_()
    [slope] = torch.autograd.grad(FUNCTIONS[name](w), w)
    for i in range(D):
        for j in range(D):
            step = torch.zeros(D, D, dtype=torch.float64)
            step[i, j] = 1e-5
            up, down = (FUNCTIONS[name](w.detach() + s * step) for s in (1, -1))
            rate = ((up - down) / 2e-5).item()
            assert slope[i, j].item() == pytest.approx(rate, rel=1e-5, abs=1e-8)


@seeds
def test_values_are_those_of_the_whole_matrix(seed):
    w = weights(seed, scale=0.3, share=0.5)
    m = (w * w).numpy()
    whole = np.eye(D)
    assert notears_h(w).item() == pytest.approx(
        np.trace(scipy.linalg.expm(m)) - D, abs=1e-12
    )
    power = np.linalg.matrix_power(whole + 0.7 / D * m, D)
    assert polynomial_h(w, 0.7).item() == pytest.approx(np.trace(power) - D, abs=1e-12)
    log = np.linalg.slogdet(0.8 * whole - m)[1]
    assert dagma_h(w, 0.8).item() == pytest.approx(D * np.log(0.8) - log, abs=1e-12)


@seeds
def test_gradients_are_the_closed_forms(seed):
    w = weights(seed, scale=0.3, share=0.7).requires_grad_()
    m = (w * w).detach().numpy()
    [slope] = torch.autograd.grad(notears_h(w), w)
    closed = scipy.linalg.expm(m).T * 2 * w.detach().numpy()
    kept = between_cycles(w.detach() != 0).numpy()
    np.testing.assert_allclose(slope.numpy()[kept], closed[kept], atol=1e-12)
    [slope] = torch.autograd.grad(dagma_h(w, 0.8), w)
    closed = 2 * w.detach().numpy() * np.linalg.inv(0.8 * np.eye(D) - m).T
    np.testing.assert_allclose(slope.numpy(), closed, atol=1e-12)


@seeds
def test_which_edges_are_on_cycles(seed):
    mask = weights(seed, share=0.25) != 0
    graph = nx.from_numpy_array(mask.numpy(), create_using=nx.DiGraph)
    part = {}
    for number, nodes in enumerate(nx.strongly_connected_components(graph)):
        part |= dict.fromkeys(nodes, number)
    expected = torch.tensor(
        [[bool(mask[i, j]) and part[i] == part[j] for j in range(D)] for i in range(D)]
    )
    assert torch.equal(on_cycles(mask), expected)
    assert (between_cycles(mask) | ~expected).all()


def test_on_cycles_of_a_long_ring():
    ring = torch.eye(40, dtype=torch.bool).roll(1, dims=1)
    assert torch.equal(on_cycles(ring), ring)
    ring[39, 0] = False
    assert not on_cycles(ring).any()


@seeds
def test_projection_reaches_the_domain_and_leaves_other_edges(seed):
    w = weights(seed, scale=3.0)
    w[:, 0] = 0  # a node without parents is on no cycle
    assert spectral_radius(w) > 1
    inside = project(w, 0.7)
    assert spectral_radius(inside) == pytest.approx(0.95 * 0.7)
    assert torch.equal(inside[0], w[0])
    assert dagma_h(inside, 0.7) > 0
    torch.testing.assert_close(project(inside, 0.7), inside)
    assert project(0.9 * inside, 0.7).equal(0.9 * inside)
    dag = weights(seed, dag=True, scale=9.0)
    assert project(dag, 0.7) is dag


def test_spectral_radius_is_that_of_the_whole_matrix():
    w = weights(0, share=0.4)
    values = np.linalg.eigvals((w * w).numpy())
    assert spectral_radius(w) == pytest.approx(np.abs(values).max())


def test_bad_input():
    w = torch.zeros(2, 2)
    w[0, 1] = w[1, 0] = 1.0
    with pytest.raises(UsageError, match="spectral radius of W o W is 1"):
        dagma_h(w, 1.0)
    with pytest.raises(UsageError, match="square"):
        notears_h(torch.zeros(2, 3))
