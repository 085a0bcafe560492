"""A persona: scales and names, completion, interventions, counterfactuals."""

from __future__ import annotations

import pytest
import torch

from mdlm_core.errors import UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_personality.persona import Persona

from .persona_toys import toy_config

VALUES = torch.tensor([[0.8, 0.6, 0.7, 0.9, 0.3, 1.5, -2.0]])
TRAITS_ONLY = torch.tensor([[True] * 5 + [False] * 2])


def persona(**settings: object) -> Persona:
    with global_seed(Noise(0)):
        made = Persona(toy_config(**settings))
    with torch.no_grad():
        made.layer.weight.add_(0.3 * made.layer.support)
    made.set_scale(
        torch.tensor([0.5, 0.4, 0.5, 0.6, 0.5, 1.0, -1.0]),
        torch.tensor([0.2, 0.25, 0.3, 0.1, 0.2, 2.0, 0.5]),
    )
    return made.requires_grad_(False)


def test_known_columns_are_their_standardised_values() -> None:
    made = persona()
    z = made.complete(VALUES, torch.ones_like(VALUES, dtype=torch.bool))
    expected = [1.5, 0.8, 0.2 / 0.3, 3.0, -1.0, 0.25, -2.0]
    assert z[0, made.column_nodes].tolist() == pytest.approx(expected, abs=1e-5)
    assert made.values(z)[0].tolist() == pytest.approx(VALUES[0].tolist(), abs=1e-5)


def test_unknown_nodes_are_what_their_parents_make_of_them() -> None:
    made = persona()
    z = made.complete(VALUES, TRAITS_ONLY)
    a = made.layer.adjacency()
    known = made.by_node(TRAITS_ONLY)[0]
    assert (z @ a)[0, ~known].tolist() == pytest.approx(z[0, ~known].tolist(), abs=1e-4)
    assert made.node("exercise") == 15  # the first node of the last tier
    assert float(z[0, 15]) != 0


def test_values_that_are_not_known_are_not_read() -> None:
    made = persona()
    other = VALUES.clone()
    other[0, 5:] = torch.tensor([torch.nan, 1e9])
    assert made.complete(other, TRAITS_ONLY).equal(made.complete(VALUES, TRAITS_ONLY))
    with pytest.raises(UsageError, match="no finite number"):
        made.complete(other, torch.ones_like(VALUES, dtype=torch.bool))


def test_doing_sets_the_value_and_moves_descendants_alone() -> None:
    made = persona()
    z = made.complete(VALUES, TRAITS_ONLY)
    after = made.counterfactual(z, {"extraversion": 0.2})
    assert float(after[0, 2]) == pytest.approx((0.2 - 0.5) / 0.3, abs=1e-6)
    moved = (after != z)[0].nonzero()[:, 0].tolist()
    assert moved == [2, *range(5, 20)]  # later tiers, and no other trait
    assert after[0, [0, 1, 3, 4]].equal(z[0, [0, 1, 3, 4]])
    effect = (float(after[0, 2]) - float(z[0, 2])) * made.layer.total_effects()[2]
    assert (z[0] + effect).tolist() == pytest.approx(after[0].tolist(), abs=1e-4)


def test_doing_what_is_so_changes_nothing_to_the_bit() -> None:
    made = persona()
    z = made.complete(VALUES, torch.ones_like(VALUES, dtype=torch.bool))
    for column, name in ((2, "extraversion"), (5, "optimism"), (6, "exercise")):
        same = float(VALUES[0, column])
        assert made.counterfactual(z, {name: same}).equal(z)
    assert made.counterfactual(z, {}).equal(z)


def test_a_counterfactual_keeps_what_was_observed_of_the_noise() -> None:
    """A person who exercises more than expected does so after do() too."""
    made = persona()
    everything = torch.ones_like(VALUES, dtype=torch.bool)
    z = made.complete(VALUES, everything)
    after = made.counterfactual(z, {"e": 0.1})
    assert made.abduct(after)[0, 15] == pytest.approx(
        float(made.abduct(z)[0, 15]), abs=1e-4
    )


def test_an_intervention_forgets_noise_and_refuses_what_may_change() -> None:
    made = persona()
    everything = torch.ones_like(VALUES, dtype=torch.bool)
    with pytest.raises(
        UsageError, match="optimism is given as observed, but it depends"
    ):
        made.intervene(VALUES, everything, {"extraversion": 0.2})
    z = made.intervene(VALUES, TRAITS_ONLY, {"extraversion": 0.2})
    expected = made.counterfactual(made.complete(VALUES, TRAITS_ONLY), {"e": 0.2})
    assert z == pytest.approx(expected, abs=1e-5)  # nothing but traits was known
    set_too = made.intervene(
        VALUES, everything, {"extraversion": 0.2, "optimism": 0.0, "exercise": 0.0}
    )
    assert float(made.values(set_too)[0, 5]) == pytest.approx(0.0, abs=1e-5)


def test_fresh_noise_has_the_scale_of_the_layer() -> None:
    made = persona()
    with torch.no_grad():
        made.layer.log_scale.fill_(torch.tensor(0.5).log())
    rows = 4000
    values, known = VALUES.expand(rows, -1), TRAITS_ONLY.expand(rows, -1)
    z = made.intervene(values, known, {"e": 0.2}, noise=Noise(1))
    eps = made.abduct(z)
    nodes = made.column_nodes[5:]
    assert eps[:, nodes].std(0).tolist() == pytest.approx([0.5] * 2, abs=0.03)
    latent = [i for i in range(5, 20) if i not in nodes.tolist()]
    assert eps[:, latent].abs().max() < 1e-5  # they learned without any
    assert z[:, :5].std(0).max() < 1e-6


def test_a_shift_moves_the_node_by_its_own_units() -> None:
    made = persona()
    z = made.complete(VALUES, TRAITS_ONLY)
    after = made.shift(z, {"extraversion": -0.3})
    assert float(after[0, 2] - z[0, 2]) == pytest.approx(-1.0, abs=1e-5)
    twice = made.shift(z, {"extraversion": -0.1, "e": -0.2})
    assert twice[0].tolist() == pytest.approx(after[0].tolist(), abs=1e-5)


def test_the_encoder_s_word_is_the_noise_and_is_kept() -> None:
    made = persona(encoder="beta-vae")
    z = made.complete(VALUES, TRAITS_ONLY)
    held, where = made.held(VALUES, TRAITS_ONLY)
    said = made.exogenous(held, where)
    assert said[0, 5:].abs().max() > 0
    assert (said[0, :5] == 0).all()
    free = ~made.by_node(TRAITS_ONLY)[0]
    assert made.abduct(z)[0, free].tolist() == pytest.approx(
        said[0, free].tolist(), abs=1e-4
    )
    after = made.counterfactual(z, {"e": 0.2})
    assert made.abduct(after)[0, free].tolist() == pytest.approx(
        said[0, free].tolist(), abs=1e-4
    )


def test_names_and_values_that_are_wrong_are_told() -> None:
    made = persona()
    z = made.complete(VALUES, TRAITS_ONLY)
    with pytest.raises(UnknownNameError, match=r"optimism.*Did you mean optimism"):
        made.counterfactual(z, {"optimizm": 0.2})
    for wrong in (1.2, -0.1, float("nan")):
        with pytest.raises(UsageError, match=r"extraversion is .*from 0"):
            made.counterfactual(z, {"extraversion": wrong})
    with pytest.raises(UsageError, match="set twice"):
        made.counterfactual(z, {"extraversion": 0.2, "e": 0.3})
    with pytest.raises(UsageError, match="finite"):
        made.counterfactual(z, {"beliefs.3": float("inf")})
    assert made.node("beliefs.3") == 8
