"""Columns that are not known: expected, drawn and scored given all that are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_personality import stages
from mdlm_personality.causal import posterior
from mdlm_personality.persona import Persona

from .persona_toys import toy_config

K = 7
PATTERNS = torch.tensor(
    [
        [0, 0, 0, 0, 0, 1, 0],  # an effect alone
        [0, 0, 0, 0, 0, 0, 1],
        [1, 0, 1, 1, 0, 0, 1],
        [1, 1, 1, 1, 1, 0, 0],
        [0, 1, 0, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    dtype=torch.bool,
)


def persona(**settings: object) -> Persona:
    with global_seed(Noise(3)):
        made = Persona(toy_config(**settings))
        with torch.no_grad():
            made.layer.weight.add_(0.7 * torch.randn(20, 20))
            made.layer.log_scale.add_(0.4 * torch.randn(20))
    return made.requires_grad_(False)


def values(rows: int) -> Tensor:
    """Return ``(rows, K)``, standardised by the mean 1/2 and the deviation 1."""
    u = Noise(4).uniform(torch.arange(rows), K).clamp(0.01, 0.99)
    return (torch.special.ndtri(u) + 0.5).float()


def law(made: Persona) -> MultivariateNormal:
    """Return the law of the columns: covariance T^T D T, by an explicit inverse."""
    total = torch.linalg.inv(torch.eye(20).double() - made.layer.adjacency().double())
    scale = torch.zeros(20).double()
    scale[made.column_nodes] = made.layer.scale().double()[made.column_nodes]
    covariance = total.T @ scale.square().diag() @ total
    nodes = made.column_nodes
    eps = made.exogenous(torch.zeros(1, 20), torch.zeros(1, 20, dtype=torch.bool))
    mean = (eps.double() @ total)[0]
    return MultivariateNormal(mean[nodes], covariance[nodes][:, nodes])


CHAIN = ("extraversion -> beliefs.3", "beliefs.3 -> exercise", "openness -> exercise")


@pytest.mark.parametrize(
    "settings", [{}, {"structure": "fixed", "edges": CHAIN, "encoder": "beta-vae"}]
)
def test_what_is_not_known_is_expected_given_causes_and_effects(
    settings: dict[str, object],
) -> None:
    made = persona(**settings)
    x = values(len(PATTERNS))
    z = made.complete(x, PATTERNS)
    if made.encoder is not None:  # one that says the same of everybody
        made.encoder.encoder[0].weight.zero_()
        made.encoder.encoder[-1].bias.fill_(5.0)
        z = made.complete(x, PATTERNS)
        assert law(made).mean.abs().max() > 0.1
    whole = law(made)
    for row, known in enumerate(PATTERNS):
        seen = x[row].double() - 0.5
        inside = whole.covariance_matrix[known][:, known]
        across = whole.covariance_matrix[:, known]
        gap = seen[known] - whole.mean[known]
        expected = whole.mean + across @ torch.linalg.solve(inside, gap)
        expected[known] = seen[known]
        found = z[row, made.column_nodes]
        assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-4)
        assert found[known].equal((x[row] - 0.5)[known])  # to the bit
    # The nodes that nobody observes are what their parents make of them.
    held, where = made.held(x, PATTERNS)
    latent = made.latent_nodes
    eps = made.exogenous(held, where)[:, latent]
    assert made.abduct(z)[:, latent] == pytest.approx(eps, abs=1e-4)


def test_what_is_not_known_is_integrated_out_of_the_loss() -> None:
    made = persona()
    x = values(len(PATTERNS))
    found = stages.causal_loss(
        made, x, PATTERNS, structure="tiered", sparsity=0.0, progress=0.0
    )
    whole = law(made)
    for row, known in enumerate(PATTERNS):
        if not known.any():
            assert float(found[row]) == pytest.approx(0.0, abs=1e-5)
            continue
        part = MultivariateNormal(
            whole.mean[known], whole.covariance_matrix[known][:, known]
        )
        expected = -part.log_prob(x[row].double()[known] - 0.5)
        assert float(found[row]) == pytest.approx(float(expected), rel=1e-5, abs=1e-5)


def test_missing_traits_do_not_bend_the_effects_that_are_learned() -> None:
    """A belief must not be taken for the trait that causes it, where that is hidden."""
    rows = 4000
    u = torch.special.ndtri(Noise(5).uniform(torch.arange(rows), K + 1))
    z = u[:, :K].clone()
    z[:, 5] = 0.9 * z[:, 2] + 0.4 * u[:, 5]
    z[:, 6] = 0.8 * z[:, 2] + 0.5 * u[:, 6]
    known = torch.ones(rows, K, dtype=torch.bool)
    known[:, 2] = Noise(6).uniform(torch.arange(rows), 1)[:, 0] > 0.5
    made = persona().requires_grad_(True)
    optimizer = torch.optim.LBFGS(made.layer.parameters(), max_iter=60)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = stages.causal_loss(
            made,
            (z + 0.5).float(),
            known,
            structure="tiered",
            sparsity=0.0,
            progress=0.0,
        ).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    a, nodes = made.layer.adjacency(), made.column_nodes
    assert float(a[nodes[5], nodes[6]].detach()) == pytest.approx(0.0, abs=0.06)
    assert float(a[nodes[2], nodes[6]].detach()) == pytest.approx(0.8, abs=0.06)


def test_an_intervention_draws_given_what_is_known() -> None:
    made = persona()
    rows = 20000
    x = values(1).expand(rows, -1)
    known = PATTERNS[:1].expand(rows, -1)  # optimism, and exercise is set
    z = made.intervene(x, known, {"exercise": 0.3}, noise=Noise(7))
    whole = law(made)
    free = [0, 1, 2, 3, 4]
    across = whole.covariance_matrix[:5, 5] / whole.covariance_matrix[5, 5]
    expected = across * float(x[0, 5] - 0.5)
    spread = whole.covariance_matrix[:5, :5] - torch.outer(
        across, whole.covariance_matrix[5, :5]
    )
    drawn = z[:, made.column_nodes[free]].double()
    assert drawn.mean(0).tolist() == pytest.approx(expected.tolist(), abs=0.05)
    assert drawn.T.cov() == pytest.approx(spread, abs=0.06)
    assert made.values(z)[:, 6] == pytest.approx(torch.full((rows,), 0.3), abs=1e-5)
    still = made.intervene(x[:1], known[:1], {"exercise": 0.3})
    found = still[0, made.column_nodes[free]]
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_what_is_set_tells_nothing_of_its_causes() -> None:
    made = persona()
    nobody = torch.zeros(1, K, dtype=torch.bool)
    z = made.intervene(values(1), nobody, {"optimism": 2.5, "beliefs.3": 1.0})
    assert z[0, :5].abs().max() < 1e-6
    assert made.complete(values(1), PATTERNS[:1])[0, :5].abs().max() > 0.1


def test_a_counterfactual_of_what_was_inferred_is_consistent() -> None:
    made = persona()
    x = values(len(PATTERNS))
    z = made.complete(x, PATTERNS)
    for row, known in enumerate(PATTERNS):
        for column in known.nonzero()[:, 0].tolist():
            where = torch.zeros(20, dtype=torch.bool)
            where[made.column_nodes[column]] = True
            same = made.layer.respond(z[row : row + 1], held=z[row], where=where)
            assert same.equal(z[row : row + 1])
    after = made.counterfactual(z, {"extraversion": 0.1})
    effects = made.layer.total_effects()[2]
    assert after == pytest.approx(z + (after - z)[:, 2:3] * effects, abs=1e-4)


def test_the_encoder_says_nothing_about_labels() -> None:
    """What the traits say about a label is what stage 2 learned, and nothing else."""
    made = persona(encoder="beta-vae")
    x, known = values(1), PATTERNS[3:4]
    z = made.complete(x, known)
    labels = made.column_nodes[5:]
    assert made.abduct(z)[0, labels].abs().max() < 1e-5
    assert made.abduct(z)[0, made.latent_nodes].abs().max() > 0.01
    assert made.encoder is not None
    assert made.encoder.latents == len(made.latent_nodes) == 20 - K
    with torch.autocast("cpu", torch.bfloat16):
        assert made.complete(x, known).equal(z)


def test_networks_go_by_causes_alone() -> None:
    made = persona(mechanism="mask")
    assert not posterior.exact(made.layer)
    z = made.complete(values(1), PATTERNS[:1])
    assert z[0, :5].abs().max() == 0


def test_a_model_of_labels_alone_is_refused() -> None:
    tiers = [(f"b{i}", "beliefs") for i in range(5)]
    tiers += [(f"i{i}", "intentions") for i in range(5)]
    tiers += [(f"a{i}", "actions") for i in range(5)]
    with pytest.raises(ConfigError, match=r"raise model\.latent_dim"):
        Persona(toy_config(labels=dict(tiers)))
