"""What the causal layer learns from, and the end of a search."""

import networkx as nx
import pytest
import scipy.special
import scipy.stats
import torch

from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_personality.causal.acyclicity import dagma_h, notears_h
from mdlm_personality.causal.layer import CausalLayer
from mdlm_personality.causal.losses import (
    label_loss,
    mask_loss,
    penalty,
    settle,
    sparsity,
    structural_nll,
)
from mdlm_personality.causal.tiers import mask_for, node_names, observed_nodes

N, B = 6, 7


def some(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def layer_on(mask, mechanism="linear", seed=0):
    with global_seed(Noise(seed)):
        return CausalLayer(mask, mechanism=mechanism).double()


def full(nodes=N):
    return ~torch.eye(nodes, dtype=torch.bool)


both = pytest.mark.parametrize("mechanism", ["linear", "mask"])
searched = pytest.mark.parametrize("structure", ["dagma", "notears"])


def test_nll_is_scipys_density_of_known_nodes_given_their_parents():
    layer = layer_on(full().triu())
    with torch.no_grad():
        layer.weight.copy_(some(N, N))
        layer.log_scale.copy_(some(N, seed=4))
    z, known = some(B, N), some(B, N, seed=2) > 0
    law = scipy.stats.norm(
        (z @ layer.adjacency()).detach().numpy(), layer.log_scale.exp().detach().numpy()
    )
    expected = -(torch.tensor(law.logpdf(z.numpy())) * known).sum(1)
    torch.testing.assert_close(structural_nll(layer, z, known), expected)


def test_nll_of_all_nodes_is_the_joint_density():
    layer = layer_on(full().triu())
    with torch.no_grad():
        layer.weight.copy_(some(N, N))
        layer.log_scale.copy_(some(N, seed=4) / 3)
    effects, scale = layer.total_effects().detach(), layer.scale().detach()
    covariance = effects.T @ torch.diag(scale**2) @ effects
    z = some(B, N)
    joint = scipy.stats.multivariate_normal(cov=covariance.numpy()).logpdf(z.numpy())
    found = structural_nll(layer, z, torch.ones(B, N, dtype=torch.bool))
    torch.testing.assert_close(found, -torch.tensor(joint))


def test_nothing_known_costs_nothing_and_teaches_nothing():
    layer = layer_on(full().triu())
    loss = structural_nll(layer, some(B, N), torch.zeros(B, N, dtype=torch.bool))
    assert (loss == 0).all()
    loss.sum().backward()
    assert (layer.weight.grad == 0).all()


def test_a_search_scores_by_least_squares():
    layer = layer_on(full())
    with torch.no_grad():
        layer.log_scale.fill_(3.0)
    z = some(B, N)
    found = structural_nll(layer, z, torch.ones(B, N, dtype=torch.bool))
    residual = z - z @ layer.adjacency()
    constant = 0.5 * N * torch.log(torch.tensor(2 * torch.pi)).double()
    torch.testing.assert_close(found, 0.5 * residual.square().sum(1) + constant)


@both
def test_edges_have_a_slope_from_data_before_any_penalty(mechanism):
    layer = layer_on(full(4).triu(), mechanism)
    z = some(64, 4)
    z[:, 3] += z[:, 0]
    known = torch.ones(64, 4, dtype=torch.bool)
    structural_nll(layer, z, known).mean().backward()
    assert (layer.weight.grad[layer.support].abs() > 1e-6).all()
    assert layer.weight.grad[0, 3] < 0  # upwards, to the effect that there is
    assert (layer.weight.grad[~layer.support] == 0).all()


def test_least_squares_are_found():
    mask = full().triu()
    layer = layer_on(mask)
    z = some(400, N) @ torch.linalg.inv(torch.eye(N) - some(N, N, seed=3) * mask)
    known = torch.ones(400, N, dtype=torch.bool)
    descent = torch.optim.LBFGS(
        layer.parameters(), max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure():
        descent.zero_grad()
        loss = structural_nll(layer, z, known).mean()
        loss.backward()
        return loss

    descent.step(closure)
    for j in range(1, N):
        solved = torch.linalg.lstsq(z[:, :j], z[:, [j]]).solution[:, 0]
        torch.testing.assert_close(layer.adjacency()[:j, j], solved, atol=1e-3, rtol=0)
        residual = z[:, j] - z[:, :j] @ solved
        deviation = residual.square().mean().sqrt()
        torch.testing.assert_close(layer.scale()[j], deviation, atol=1e-3, rtol=0)


def test_losses_of_the_causal_autoencoder():
    layer = layer_on(full().triu())
    u = some(B, N).sigmoid()
    a = layer.adjacency().detach().numpy()
    guesses = [scipy.special.expit(a.T @ row) for row in u.numpy()]
    by_hand = ((u.numpy() - guesses) ** 2).sum() / B
    assert label_loss(layer, u).item() == pytest.approx(by_hand)
    z = some(B, N)
    by_hand = ((z.numpy() - [a.T @ row for row in z.numpy()]) ** 2).sum() / B
    assert mask_loss(layer, z).item() == pytest.approx(by_hand)


def test_sparsity_counts_edges_into_the_nodes_that_are_told():
    layer = layer_on(full().triu())
    nodes = torch.tensor([False, False, True, False, True, False])
    total = layer.adjacency()[:, [2, 4]].abs().sum()
    torch.testing.assert_close(sparsity(layer, nodes), total)
    torch.testing.assert_close(sparsity(layer), layer.adjacency().abs().sum())
    sparsity(layer, nodes).backward()
    assert (layer.weight.grad[:, ~nodes] == 0).all()


# ---- cycles -------------------------------------------------------------------------


@searched
def test_the_price_of_cycles_rises_and_has_a_slope(structure):
    layer = layer_on(full())
    h = {"dagma": dagma_h, "notears": notears_h}[structure](layer.adjacency()).item()
    first = penalty(layer, structure, 0.0)
    assert first.item() == pytest.approx(h if structure == "dagma" else h + h * h / 2)
    last = penalty(layer, structure, 1.0)
    assert last.item() == pytest.approx(1000 * first.item())
    [slope] = torch.autograd.grad(first, layer.weight)
    assert (slope[layer.support] != 0).all()


@searched
def test_no_cycle_costs_nothing(structure):
    layer = layer_on(full())
    layer.set_support(full().triu())
    assert penalty(layer, structure, 0.9) == 0


def test_the_path_stays_in_its_domain():
    layer = layer_on(full())
    with torch.no_grad():
        layer.weight.mul_(40)
    for progress in (0.0, 0.3, 0.7, 1.0):
        loss = penalty(layer, "dagma", progress)
        [slope] = torch.autograd.grad(loss, layer.weight)
        assert loss > 0
        assert slope.isfinite().all()
        downhill = (slope * layer.weight).sum()
        assert downhill > 0  # against the cycles


def test_other_structures_have_no_penalty():
    layer = layer_on(full().triu())
    assert penalty(layer, "tiered", 0.5) == penalty(layer, "fixed", 0.5) == 0
    with pytest.raises(UsageError, match="a share"):
        penalty(layer, "dagma", 1.2)


@pytest.mark.parametrize(
    ("structure", "mechanism"),
    [("dagma", "linear"), ("notears", "linear"), ("dagma", "mask")],
)
def test_a_planted_graph_is_found(structure, mechanism):
    true = torch.zeros(N, N, dtype=torch.float64)
    for i, j, effect in ((4, 1, 1.2), (1, 0, -1.4), (4, 3, 0.9), (3, 5, 1.1)):
        true[i, j] = effect
    x = some(400, N) @ torch.linalg.inv(torch.eye(N) - true)
    known = torch.ones(400, N, dtype=torch.bool)
    layer = layer_on(full(), mechanism)
    steps, descent = 300, torch.optim.Adam(layer.parameters(), lr=0.02)
    for step in range(steps):
        loss = structural_nll(layer, x, known).mean() + 0.003 * sparsity(layer)
        loss = loss + penalty(layer, structure, step / steps)
        descent.zero_grad()
        loss.backward()
        descent.step()
    found = settle(layer)
    assert layer.support[true != 0].all()
    assert found.broken == ()
    if mechanism == "linear":
        assert found.kept == 4
        assert (layer.adjacency() - true).abs().max() < 0.1
    else:  # networks of so few steps may see an effect of an effect as one of its own
        assert found.kept <= 5


# ---- settling -----------------------------------------------------------------------


def test_settling_breaks_cycles_at_their_weakest_edge():
    mask = torch.zeros(N, N, dtype=torch.bool)
    edges = {(0, 1): 0.9, (1, 2): 0.5, (2, 0): -0.7, (2, 3): 0.1, (3, 2): 0.2}
    layer = layer_on(mask | full())
    with torch.no_grad():
        layer.weight.zero_()
        for (i, j), value in edges.items():
            layer.weight[i, j] = value
    found = settle(layer, 0.15)
    names = list("abcdef")
    assert found.broken == ((1, 2, 0.5),)
    assert found.kept == 3  # a -> b, c -> a, d -> c
    assert (2, 3, 0.1) in found.dropped
    assert "b -> c (0.50)" in found.describe(names)
    assert "3 of 30 edges" in found.describe(names)
    assert layer.acyclic
    assert layer.support.sum() == 3


def test_settling_leaves_what_was_not_searched_for():
    names = node_names(20, {"wellness": "beliefs"})
    observed = observed_nodes(names, {"wellness": "beliefs"})
    layer = layer_on(mask_for("dagma", names, observed=observed))
    tiered = mask_for("tiered", names, observed=observed)
    found = settle(layer)
    assert torch.equal(layer.support, tiered)  # weights begin small: all pairs go
    assert len(found.dropped) == 20
    assert found.kept == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_has_no_cycle_and_loses_no_more_than_it_must(seed):
    layer = layer_on(full())
    with torch.no_grad():
        layer.weight.copy_(some(N, N, seed=seed))
    settle(layer, 0.0)
    graph = nx.from_numpy_array(layer.support.numpy(), create_using=nx.DiGraph)
    assert nx.is_directed_acyclic_graph(graph)
    assert graph.number_of_edges() >= N - 1


def test_a_second_settling_changes_nothing():
    layer = layer_on(full())
    with torch.no_grad():
        layer.weight.copy_(some(N, N))
    settle(layer)
    kept = layer.support.clone()
    again = settle(layer, 0.9)
    assert torch.equal(layer.support, kept)
    assert again.dropped == again.broken == ()
    with pytest.raises(UsageError, match="negative"):
        settle(layer, -1.0)
