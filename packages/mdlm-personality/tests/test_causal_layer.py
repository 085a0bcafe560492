"""The causal layer and the three questions, against dense inverses and networkx."""

import networkx as nx
import pytest
import torch

from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_personality.causal.interventions import (
    counterfactual,
    descendants,
    intervene,
    shift,
)
from mdlm_personality.causal.layer import CausalLayer
from mdlm_personality.causal.tiers import tiered_mask

N, B = 9, 5


def some(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_dag(seed, nodes=N, share=0.45):
    """Edges of a random graph without cycles whose nodes are in no special order."""
    generator = torch.Generator().manual_seed(seed)
    edges = (torch.rand(nodes, nodes, generator=generator) < share).triu(1)
    order = torch.randperm(nodes, generator=generator)
    return edges[order][:, order]


def layer_on(mask, mechanism="linear", seed=0):
    with global_seed(Noise(seed)):
        layer = CausalLayer(mask, mechanism=mechanism).double()
        with torch.no_grad():
            layer.weight.copy_(torch.randn(mask.shape) * mask)
            if mechanism == "mask":
                layer.function.constant.normal_()
    return layer


def one(node, nodes=N):
    return torch.arange(nodes) == node


both = pytest.mark.parametrize("mechanism", ["linear", "mask"])
seeds = pytest.mark.parametrize("seed", range(4))


def children_of(layer, node):
    graph = nx.from_numpy_array(layer.support.numpy(), create_using=nx.DiGraph)
    found = torch.zeros(layer.nodes, dtype=torch.bool)
    found[list(nx.descendants(graph, node))] = True
    return found


# ---- solving ------------------------------------------------------------------------


@seeds
def test_rows_are_noise_times_the_inverse(seed):
    layer = layer_on(random_dag(seed))
    eps = some(B, N)
    inverse = torch.linalg.inv(torch.eye(N) - layer.adjacency())
    torch.testing.assert_close(layer.solve(eps), eps @ inverse)
    torch.testing.assert_close(layer.total_effects(), inverse)


def test_parents_are_rows_and_children_columns():
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[2, 0] = True
    layer = layer_on(mask)
    with torch.no_grad():
        layer.weight[2, 0] = 0.5
    z = layer.solve(torch.tensor([[1.0, 1.0, 4.0]]))
    assert z.tolist() == [[3.0, 1.0, 4.0]]


@both
@seeds
def test_noise_and_solve_undo_each_other(mechanism, seed):
    layer = layer_on(random_dag(seed), mechanism)
    eps = some(B, N)
    torch.testing.assert_close(layer.noise(layer.solve(eps)), eps)
    torch.testing.assert_close(layer.solve(layer.noise(eps)), eps)


@seeds
def test_held_nodes_lose_what_comes_in_and_keep_what_goes_out(seed):
    layer = layer_on(random_dag(seed))
    eps, held = some(B, N), some(B, N, seed=2)
    where = some(B, N, seed=3) > 0.3
    z = layer.solve(eps, held=held, where=where)
    for row in range(B):
        a = layer.adjacency().clone()
        a[:, where[row]] = 0
        new = torch.where(where[row], held[row], eps[row])
        torch.testing.assert_close(z[row], new @ torch.linalg.inv(torch.eye(N) - a))
    assert torch.equal(z[where], held[where])


@both
def test_each_equation_holds_when_others_are_held(mechanism):
    layer = layer_on(random_dag(2), mechanism)
    eps, held, where = some(B, N), some(B, N, seed=2), some(B, N, seed=3) > 0.3
    z = layer.solve(eps, held=held, where=where)
    torch.testing.assert_close(layer.noise(z)[~where], eps[~where])
    assert torch.equal(z[where], held[where])


@both
def test_rows_of_a_batch_do_not_see_each_other(mechanism):
    layer = layer_on(random_dag(1), mechanism)
    eps, where = some(B, N), some(B, N, seed=3) > 0
    z = layer.solve(eps, held=eps, where=where)
    for row in range(B):
        alone = layer.solve(eps[[row]], held=eps[[row]], where=where[[row]])
        torch.testing.assert_close(z[[row]], alone)


def test_cycles_have_an_equilibrium_while_edges_are_searched_for():
    mask = ~torch.eye(N, dtype=torch.bool)
    layer = layer_on(mask)
    with torch.no_grad():
        layer.weight.mul_(0.1)
    eps, held, where = some(B, N), some(B, N, seed=2), some(B, N, seed=3) > 0
    assert not layer.acyclic
    z = layer.solve(eps, held=held, where=where)
    torch.testing.assert_close(layer.noise(z)[~where], eps[~where])
    assert torch.equal(z[where], held[where])
    torch.testing.assert_close(layer.solve(layer.noise(z)), z)
    with pytest.raises(UsageError, match=r"cycle node \d -> node \d"):
        counterfactual(layer, z, one(0), z)


def test_small_cyclic_networks_are_iterated_to_a_fixed_point():
    layer = layer_on(~torch.eye(4, dtype=torch.bool), "mask")
    with torch.no_grad():
        layer.weight.mul_(0.02)
    eps = some(B, 4)
    torch.testing.assert_close(layer.noise(layer.solve(eps)), eps, atol=1e-6, rtol=1e-5)


# ---- do -----------------------------------------------------------------------------


@both
@seeds
def test_do_sets_the_value_and_moves_descendants_alone(mechanism, seed):
    layer = layer_on(random_dag(seed), mechanism)
    eps = some(B, N)
    z = layer.solve(eps)
    for node in range(N):
        after = intervene(layer, one(node), torch.full((N,), 5.0), eps)
        assert (after[:, node] == 5.0).all()
        moved = ((after - z).abs() > 1e-12).any(0) & ~one(node)
        assert torch.equal(moved, children_of(layer, node))
        assert torch.equal(descendants(layer, one(node)), children_of(layer, node))


@both
@seeds
def test_what_is_no_descendant_stays_to_the_bit(mechanism, seed):
    layer = layer_on(random_dag(seed), mechanism)
    z = some(B, N)
    for node in range(N):
        after = counterfactual(layer, z, one(node), torch.full((N,), 5.0))
        changed = (after != z).any(0)
        assert torch.equal(changed & ~one(node), children_of(layer, node))
        assert (after[:, node] == 5.0).all()


@both
@seeds
def test_the_factual_value_changes_nothing_to_the_bit(mechanism, seed):
    layer = layer_on(random_dag(seed), mechanism).float()
    z = some(B, N).float()
    for where in (one(3), one(0) | one(7), torch.ones(N, dtype=torch.bool)):
        assert torch.equal(counterfactual(layer, z, where, z), z)


@seeds
def test_one_node_has_a_closed_form(seed):
    layer = layer_on(random_dag(seed))
    z, effects = some(B, N), layer.total_effects()
    for node in range(N):
        after = counterfactual(layer, z, one(node), torch.full((N,), 5.0))
        closed = z + (5.0 - z[:, [node]]) * effects[node]
        torch.testing.assert_close(after, closed)


@both
@seeds
def test_abduction_action_prediction(mechanism, seed):
    layer = layer_on(random_dag(seed), mechanism)
    z, value = some(B, N), some(B, N, seed=2)
    where = one(1) | one(4)
    eps = layer.noise(z)
    predicted = layer.solve(eps, held=value, where=where)
    torch.testing.assert_close(counterfactual(layer, z, where, value), predicted)


@both
def test_a_counterfactual_is_undone_by_the_way_back(mechanism):
    layer = layer_on(random_dag(3), mechanism)
    z = some(B, N)
    there = counterfactual(layer, z, one(2), some(B, N, seed=2))
    torch.testing.assert_close(counterfactual(layer, there, one(2), z), z)


@both
def test_new_noise_makes_other_persons_with_the_same_value(mechanism):
    layer = layer_on(random_dag(0), mechanism)
    value = torch.full((N,), 2.0)
    first = intervene(layer, one(4), value, some(B, N))
    second = intervene(layer, one(4), value, some(B, N, seed=9))
    assert (first[:, 4] == second[:, 4]).all()
    assert not torch.allclose(first, second)


@seeds
def test_a_shift_moves_by_the_total_effects(seed):
    layer = layer_on(random_dag(seed))
    z, delta = some(B, N), some(N, seed=5)
    moved = shift(layer, z, delta)
    torch.testing.assert_close(moved, z + delta @ layer.total_effects())
    assert torch.equal(shift(layer, z, torch.zeros(N)), z)


@both
def test_a_shift_keeps_the_causes_at_work(mechanism):
    layer = layer_on(random_dag(1), mechanism)
    z, delta = some(B, N), some(B, N, seed=5)
    after = shift(layer, z, delta)
    torch.testing.assert_close(layer.noise(after), layer.noise(z) + delta)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(bad):
    layer = layer_on(random_dag(0))
    z, value = some(B, N), torch.zeros(N)
    value[1] = bad
    with pytest.raises(UsageError, match="finite number"):
        counterfactual(layer, z, one(1), value)
    with pytest.raises(UsageError, match="finite number"):
        intervene(layer, one(1), value, z)
    with pytest.raises(UsageError, match="finite number"):
        shift(layer, z, value)
    assert counterfactual(layer, z, one(0), value).isfinite().all()  # not read


def test_shapes_that_do_not_fit_are_refused():
    layer = layer_on(random_dag(0))
    z = some(B, N)
    with pytest.raises(UsageError, match=r"takes \(B, 9\)"):
        layer.solve(some(B, N + 1))
    with pytest.raises(UsageError, match="each of 9 nodes"):
        layer.solve(z, held=torch.zeros(3), where=torch.ones(3, dtype=torch.bool))
    with pytest.raises(UsageError, match="3 rows for 5"):
        counterfactual(layer, z, one(0), torch.zeros(3, N))
    with pytest.raises(UsageError, match="both held and where"):
        layer.solve(z, held=z)
    with pytest.raises(UsageError, match="both held and where"):
        layer.respond(z, where=one(0))


# ---- mechanisms ---------------------------------------------------------------------


@both
def test_nothing_but_parents_passes(mechanism):
    layer = layer_on(random_dag(2), mechanism)
    z = some(1, N).requires_grad_()
    rates = torch.stack(
        [torch.autograd.grad(layer.means(z)[0, j], z)[0][0] for j in range(N)], dim=1
    )
    assert torch.equal(rates != 0, layer.support)


def test_an_edge_of_the_mask_layer_bounds_the_change():
    layer = layer_on(random_dag(1), "mask")
    z = 3 * some(200, N)
    before = layer.means(z)
    for parent in range(N):
        step = torch.zeros(N, dtype=torch.float64)
        step[parent] = 0.7
        change = (layer.means(z + step) - before).abs().amax(0)
        assert (change <= 0.7 * layer.adjacency()[parent].abs() + 1e-12).all()


def test_networks_of_the_mask_layer_are_what_the_equation_says():
    layer = layer_on(random_dag(1), "mask")
    z, g, a = some(B, N), layer.function, layer.adjacency()
    for j in range(N):
        parents = layer.support[:, j].nonzero()[:, 0]
        made = torch.zeros(B, dtype=torch.float64)
        if len(parents):
            into = g.into[j, parents] / g.into[j, parents].norm(dim=1, keepdim=True)
            elu = torch.nn.functional.elu
            seen = (z[:, parents] * a[parents, j]) @ into + g.bias[j]
            made = (elu(seen) - elu(g.bias[j])) @ (g.out[j] / g.out[j].norm())
            made = made + g.constant[j]
        torch.testing.assert_close(layer.means(z)[:, j], made)


def test_total_effects_of_networks_are_derivatives():
    layer = layer_on(random_dag(3), "mask")
    z = some(N)
    effects = layer.total_effects(z)
    eps, h = layer.noise(z[None]), 1e-5
    for i in range(N):
        step = torch.zeros(N, dtype=torch.float64)
        step[i] = h
        rate = (layer.solve(eps + step) - layer.solve(eps - step))[0] / (2 * h)
        torch.testing.assert_close(effects[i], rate, atol=1e-8, rtol=1e-6)
    at_rest = layer.solve(torch.zeros(1, N))[0]
    torch.testing.assert_close(layer.total_effects(), layer.total_effects(at_rest))


@both
def test_gradients_of_solving_reach_every_edge(mechanism):
    layer = layer_on(random_dag(2), mechanism)
    eps, held, where = some(B, N), some(B, N, seed=2), one(3)

    def total(weight):
        with torch.no_grad():
            layer.weight.copy_(weight)
        return (layer.solve(eps, held=held, where=where) * some(B, N, seed=7)).sum()

    start = layer.weight.detach().clone()
    [slope] = torch.autograd.grad(total(start), layer.weight)
    for i, j in layer.support.nonzero().tolist():
        step = torch.zeros(N, N, dtype=torch.float64)
        step[i, j] = 1e-5
        rate = (total(start + step) - total(start - step)).item() / 2e-5
        assert slope[i, j].item() == pytest.approx(rate, rel=1e-5, abs=1e-7)
    assert (slope[~layer.support] == 0).all()


# ---- the graph of a layer -----------------------------------------------------------


def test_losing_edges():
    layer = layer_on(random_dag(0))
    fewer = layer.support.clone()
    i, j = fewer.nonzero()[0].tolist()
    fewer[i, j] = False
    layer.set_support(fewer)
    assert layer.adjacency()[i, j] == 0
    z = some(B, N)
    torch.testing.assert_close(
        layer.solve(z), z @ torch.linalg.inv(torch.eye(N) - layer.adjacency())
    )
    with pytest.raises(UsageError, match=f"from node {i} to node {j} was not allowed"):
        layer.set_support(random_dag(0))


def test_a_graph_that_is_set_has_no_cycle():
    layer = layer_on(~torch.eye(3, dtype=torch.bool))
    with pytest.raises(UsageError, match="cycle node"):
        layer.set_support(layer.support)
    layer.set_support(torch.ones(3, 3, dtype=torch.bool).triu(1))
    assert layer.acyclic


@both
def test_the_state_says_everything(mechanism):
    full = ~torch.eye(N, dtype=torch.bool)
    layer, other = layer_on(full, mechanism), layer_on(full, mechanism, seed=5)
    layer.set_support(random_dag(2))
    other.load_state_dict(layer.state_dict())
    z = some(B, N)
    assert other.acyclic
    assert torch.equal(other.solve(z), layer.solve(z))


def test_allowed_edges_are_checked():
    with pytest.raises(UsageError, match="its own parent"):
        CausalLayer(torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(UsageError, match="square of bools"):
        CausalLayer(torch.ones(3, 3))
    with pytest.raises(UsageError, match="square of bools"):
        CausalLayer(torch.ones(3, 4, dtype=torch.bool))


@both
def test_autocast_does_not_make_it_coarse(mechanism):
    layer = layer_on(tiered_mask(20), mechanism).float()
    eps = some(B, 20).float()
    plain = layer.solve(eps)
    other = counterfactual(layer, plain, one(2, 20), torch.ones(20))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.solve(eps), plain)
        again = counterfactual(layer, plain, one(2, 20), torch.ones(20))
        assert torch.equal(again, other)
        assert layer.means(eps).dtype == torch.float32
