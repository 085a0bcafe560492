"""Faults of the original description's model, each as a law that it breaks.

What the original does is written here alone, in functions whose names begin with
`original_`; each breaks the law that what is built here keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn.dit import DiT
from mdlm_core.samplers.guidance import mixture
from mdlm_personality import stages
from mdlm_personality.causal.acyclicity import dagma_h, notears_h, polynomial_h
from mdlm_personality.causal.interventions import counterfactual, intervene
from mdlm_personality.causal.layer import CausalLayer
from mdlm_personality.causal.tiers import tiered_mask
from mdlm_personality.encoder import BetaVAE, active_directions
from mdlm_personality.generation.personas import Change, Given
from mdlm_personality.original_flags import translate
from mdlm_personality.persona import Persona

from .persona_toys import disturbed, null, toy_batch, toy_config, toy_model

N = 20
"""Nodes, five in each tier."""
ACTIONS = slice(15, 20)
SOMEBODY = (0.8, 0.6, 0.7, 0.9, 0.3)


def layer(seed: int = 0) -> CausalLayer:
    with global_seed(Noise(seed)):
        made = CausalLayer(tiered_mask(N))
        with torch.no_grad():
            made.weight.copy_(0.5 * torch.randn(N, N) * made.support)
    return made


def persona(encoder: str = "identity", seed: int = 0) -> Persona:
    """Return a persona with weights that matter, and a scale."""
    with global_seed(Noise(seed)), torch.no_grad():
        made = Persona(toy_config(encoder=encoder))
        made.layer.weight.copy_(0.5 * torch.randn(N, N) * made.layer.support)
        made.set_scale(torch.full((7,), 0.6), torch.full((7,), 0.25))
    return made


def rows(seed: int = 0, count: int = 4, width: int = N) -> Tensor:
    u = Noise(seed).child("rows").uniform(torch.arange(count), width)
    return torch.special.ndtri(u).float()


# ---- 1. the direction of the arrows ------------------------------------------------


def original_solve(a: Tensor, eps: Tensor) -> Tensor:
    """Stored as A[child, parent], and solved as if it were A[parent, child]."""
    stored = a.T
    return eps @ torch.linalg.inv(torch.eye(len(a)) - stored)


def causes_flow_down(solve: Callable[[Tensor], Tensor]) -> bool:
    """Return whether traits move actions, and actions leave traits alone."""
    still = solve(torch.zeros(1, N))
    trait, action = torch.zeros(1, N), torch.zeros(1, N)
    trait[0, 2], action[0, ACTIONS] = 1.0, 1.0
    moved = (solve(trait) - still)[0, ACTIONS].abs().max() > 1e-3
    left = (solve(action) - still)[0, :5].abs().max() == 0
    return bool(moved and left)


def test_traits_cause_actions_and_not_the_other_way_round() -> None:
    with torch.no_grad():
        made = layer()
        assert causes_flow_down(made.solve)
        assert not causes_flow_down(lambda eps: original_solve(made.adjacency(), eps))


# ---- 2. what do() does -------------------------------------------------------------


def original_do(a: Tensor, z: Tensor, node: int, value: float) -> Tensor:
    """Zero the row, the edges out of the node, and put the value into its noise."""
    eps = z @ (torch.eye(N) - a)
    eps[:, node] = value
    cut = a.clone()
    cut[node] = 0
    return eps @ torch.linalg.inv(torch.eye(N) - cut)


def is_an_intervention(
    do: Callable[[Tensor, int, float], Tensor], a: Tensor, z: Tensor
) -> bool:
    """Return whether the value is set, and descendants move, and nothing else."""
    node, value = 7, 5.0  # a belief: it has parents and children
    after = do(z, node, value)
    below = torch.linalg.matrix_exp((a != 0).double())[node] > 0
    below[node] = False
    moved = (after - z).abs().max(0).values > 1e-4
    expected = below.clone()
    expected[node] = True
    return bool(torch.equal(moved, expected) and (after[:, node] == value).all())


def test_do_sets_the_value_and_moves_descendants_alone() -> None:
    with torch.no_grad():
        made, z = layer(), layer().solve(rows())

        def ours(z: Tensor, node: int, value: float) -> Tensor:
            where = torch.arange(N) == node
            return counterfactual(made, z, where, torch.full((N,), value))

        def anew(z: Tensor, node: int, value: float) -> Tensor:
            where = torch.arange(N) == node
            eps = made.noise(z)
            return intervene(made, where, torch.full((N,), value), eps)

        a = made.adjacency()
        assert is_an_intervention(ours, a, z)
        assert is_an_intervention(anew, a, z)
        assert not is_an_intervention(
            lambda z, node, value: original_do(a, z, node, value), a, z
        )


# ---- 3. the penalty of cycles ------------------------------------------------------


def original_h(weights: Tensor) -> Tensor:
    """Of the part below the diagonal, which never has a cycle."""
    lower = weights.tril(-1)
    return torch.linalg.matrix_exp(lower.square()).trace() - len(lower)


def sees_cycles(h: Callable[[Tensor], Tensor]) -> bool:
    weights = torch.zeros(4, 4, dtype=torch.float64)
    weights[0, 1], weights[1, 0], weights[2, 3] = 0.5, 0.4, 1.0
    weights.requires_grad_()
    value = h(weights)
    (slope,) = torch.autograd.grad(value, weights)
    return bool(value > 0 and slope[0, 1] > 0 and slope[1, 0] > 0)


@pytest.mark.parametrize("h", [notears_h, polynomial_h, dagma_h])
def test_the_penalty_of_cycles_sees_a_cycle(h: Callable[[Tensor], Tensor]) -> None:
    assert sees_cycles(h)
    assert float(h(rows(2, 5, 5).triu(1))) == 0
    assert not sees_cycles(original_h)


# ---- 4. what stage 2 learns from ---------------------------------------------------


def original_stage_two(made: Persona, values: Tensor, known: Tensor) -> Tensor:
    """Reconstruction past the causal layer, and the absolute values of its edges."""
    held, _ = made.held(values, known)
    reconstruction = (held - held).square().mean()
    return reconstruction + 0.01 * made.layer.adjacency().abs().sum()


def our_stage_two(made: Persona, values: Tensor, known: Tensor) -> Tensor:
    return stages.causal_loss(
        made, values, known, structure="tiered", sparsity=0.0, progress=0.0
    ).mean()


def fitted_edge(loss: Callable[[Persona, Tensor, Tensor], Tensor]) -> float:
    """Return the learned edge extraversion -> exercise, of which the truth is 0.8."""
    made = persona()
    z = rows(3, count=200, width=7)
    z[:, 6] = 0.8 * z[:, 2] + 0.6 * z[:, 6]
    values, known = 0.6 + 0.25 * z, torch.ones(200, 7, dtype=torch.bool)
    optimizer = torch.optim.Adam(made.layer.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss(made, values, known).backward()
        optimizer.step()
    edge = made.layer.adjacency()[made.node("extraversion"), made.node("exercise")]
    return float(edge.detach())


def test_stage_two_learns_effects_from_data() -> None:
    assert fitted_edge(our_stage_two) == pytest.approx(0.8, abs=0.12)
    assert fitted_edge(original_stage_two) == pytest.approx(0.0, abs=0.05)


# ---- 5. the collapse of the encoder ------------------------------------------------


def original_vae_loss(vae: BetaVAE, x: Tensor, u: Tensor) -> Tensor:
    """The mean squared error of five numbers in [0, 1], and 4 KL over all latents."""
    mean, log_variance = vae.posterior(x)
    z = mean + (0.5 * log_variance).exp() * torch.special.ndtri(u).float()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return ((x - vae.decode(z)).square().mean(1) + 4 * kl).mean()


def trained_vae(loss: Callable[[BetaVAE, Tensor, Tensor], Tensor], x: Tensor) -> int:
    """Return how many latents say anything after training."""
    with global_seed(Noise(0)):
        vae = BetaVAE(5, 8, beta=4.0, sigma=0.3, width=0)
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.02)
    for step in range(300):
        u = Noise(1).child(step).uniform(torch.arange(len(x)), 8)
        optimizer.zero_grad()
        loss(vae, x, u).backward()
        optimizer.step()
    return vae.active_units(x)


def test_the_encoder_says_something_about_the_traits() -> None:
    u = Noise(2).uniform(torch.arange(256), 5).float()  # traits in [0, 1]
    standard = (u - u.mean(0)) / u.std(0)
    assert trained_vae(lambda v, x, u: v.loss(x, None, u).total.mean(), standard) == 5
    assert trained_vae(original_vae_loss, u) == 0
    raw, scaled = torch.cov(u.T), torch.cov(standard.T)
    assert active_directions(scaled, BetaVAE(5, 8).threshold()) == 5
    assert active_directions(raw, threshold=4 / (2 * (1 / 5))) == 0
    warned = BetaVAE(5, 8, beta=4.0, sigma=10**0.5 / 2)  # their threshold of 10
    assert warned.threshold() == pytest.approx(10)
    assert "will encode nothing" in str(warned.collapse_warning(raw))


# ---- 6. the sign of the total correlation ------------------------------------------


def original_total_correlation(log_odds_of_label_one: Tensor) -> Tensor:
    """Label 1 was for shuffled latents, and is read as if it were for joint ones."""
    return log_odds_of_label_one.mean()


def test_no_penalty_rewards_total_correlation() -> None:
    rho = 0.8
    z = rows(4, count=4000, width=2)
    z[:, 1] = rho * z[:, 0] + (1 - rho**2) ** 0.5 * z[:, 1]
    joint = torch.distributions.MultivariateNormal(
        torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]])
    )
    apart = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    truth = -0.5 * torch.log(torch.tensor(1 - rho**2))
    log_odds_shuffled = apart - joint.log_prob(z)  # of the best discriminator
    assert float(-log_odds_shuffled.mean()) == pytest.approx(float(truth), abs=0.05)
    assert original_total_correlation(log_odds_shuffled) < -0.4
    with pytest.raises(UsageError, match="it must be beta_vae"):
        translate("train_stage1", ["--encoder_type", "factor_vae"])


# ---- 7. one null -------------------------------------------------------------------


def test_the_null_of_training_is_the_null_of_sampling() -> None:
    model = disturbed(toy_model())
    batch = toy_batch()
    told = model.hidden(batch)
    hidden = {**batch.condition, "known": torch.zeros(3, 7, dtype=torch.bool)}
    dropped = replace(batch, condition=hidden)
    garbage = {**hidden, "traits": torch.full((3, 7), torch.nan)}
    states = model.hidden(dropped)
    assert torch.equal(model.hidden(null(batch)), states)  # what guidance asks
    assert torch.equal(model.hidden(replace(batch, condition=garbage)), states)
    nothing = model.hidden(replace(batch, condition={}))
    assert torch.allclose(nothing, states, atol=1e-4)
    assert not torch.allclose(told, states)

    # the original: the lowest scores in training, a latent of zeros in sampling
    nobody = torch.zeros(3, 7)
    in_training = model.persona.complete(nobody, torch.ones(3, 7, dtype=torch.bool))
    in_sampling = torch.zeros(3, N)
    assert not torch.allclose(in_training, in_sampling, atol=0.1)


# ---- 8. guidance -------------------------------------------------------------------


def original_guided(told: Tensor, untold: Tensor, gamma: float) -> Tensor:
    mixed = untold.exp() + gamma * (told.exp() - untold.exp())
    law = mixed.clamp(min=0)
    return (law / law.sum(-1, keepdim=True)).log()


def is_a_product_of_powers(
    guided: Callable[[Tensor, Tensor, float], Tensor], gamma: float
) -> bool:
    """Return whether log-odds are extrapolated, and nothing possible becomes 0."""
    told, untold = rows(5, width=6).log_softmax(-1), rows(6, width=6).log_softmax(-1)
    odds = [
        law[:, 1:] - law[:, :1] for law in (told, untold, guided(told, untold, gamma))
    ]
    expected = gamma * odds[0] + (1 - gamma) * odds[1]
    return bool(torch.allclose(odds[2], expected, atol=1e-4))


def our_guided(told: Tensor, untold: Tensor, gamma: float) -> Tensor:
    weights = torch.tensor([[gamma, 1 - gamma]]).expand(len(told), -1)
    return mixture([told, untold], weights)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 4.0])
def test_guidance_mixes_logarithms(gamma: float) -> None:
    assert is_a_product_of_powers(our_guided, gamma)
    assert not is_a_product_of_powers(original_guided, gamma)


def test_guidance_keeps_what_is_possible_possible() -> None:
    told, untold = torch.tensor([[0.1, 0.9]]).log(), torch.tensor([[0.6, 0.4]]).log()
    assert our_guided(told, untold, 2.0).isfinite().all()
    assert original_guided(told, untold, 2.0)[0, 0] == -torch.inf


# ---- 9. factual and counterfactual -------------------------------------------------


def test_setting_the_value_that_is_there_changes_nothing() -> None:
    made = persona("beta-vae")
    given = Given.of(made, SOMEBODY)
    factual = given.personas(made)
    again = Change(do=({"extraversion": SOMEBODY[2]},))(made, given)
    assert torch.allclose(again.z, factual.z, atol=1e-6)
    told = Given.of(made, {"extraversion": 0.7, "exercise": 1.2})  # and its noise stays
    same = Change(do=({"extraversion": 0.7},))(made, told)
    assert torch.allclose(same.z, told.personas(made).z, atol=1e-6)

    # the original: a sample for the factual persona, the mean for the other
    assert made.encoder is not None
    held, where = made.held(given.values, given.known)
    mean, log_variance = made.encoder.posterior(held[:, :5], where[:, :5])
    sample = mean + (0.5 * log_variance).exp() * rows(7, 1, mean.shape[1])
    assert not torch.allclose(sample, mean, atol=0.1)


# ---- 10. the scale of an intervention ----------------------------------------------


def test_the_value_of_an_intervention_is_the_users() -> None:
    made = persona()
    given = Given.of(made, SOMEBODY)
    z = Change(do=({"extraversion": 0.2},))(made, given).z
    assert float(made.values(z)[0, 2]) == pytest.approx(0.2, abs=1e-6)
    assert float(z[0, 2]) == pytest.approx((0.2 - 0.6) / 0.25, abs=1e-5)

    original = given.personas(made).z.clone()
    original[0, 2] = 0.2
    assert float(made.values(original)[0, 2]) == pytest.approx(0.65, abs=1e-6)


# ---- 11. what the blocks are told, and padding -------------------------------------


def test_the_persona_reaches_the_norms_and_every_block() -> None:
    model, batch = disturbed(toy_model()), toy_batch()
    other = replace(
        batch, condition={**batch.condition, "traits": batch.condition["traits"] + 0.3}
    )
    with torch.no_grad():
        told, changed = model.with_persona(batch), model.with_persona(other)
        assert not torch.allclose(
            model.conditioning(told, None), model.conditioning(changed, None)
        )
        # the original: the norms are told the time, and nothing else
        assert torch.equal(
            DiT.conditioning(model, told, None)[0],
            DiT.conditioning(model, changed, None)[0],
        )
        _silence(model)  # no block attends to the persona: the norms alone tell it
        assert not torch.allclose(model.hidden(batch), model.hidden(other), atol=1e-4)


def test_padding_is_seen_by_nobody() -> None:
    model, batch = disturbed(toy_model()), toy_batch()
    pad = torch.zeros_like(batch.pad)
    pad[:, 4:] = True
    other = batch.tokens.clone()
    other[:, 4:] = (other[:, 4:] + 3) % 10

    def real(tokens: Tensor, pad: Tensor) -> Tensor:
        told = Batch.of(tokens, pad=pad, condition=batch.condition)
        return model.hidden(told)[:, :4]

    with torch.no_grad():
        assert torch.allclose(real(batch.tokens, pad), real(other, pad), atol=1e-5)
        # the original: the attention mask is read, and not used
        unused = torch.zeros_like(pad)
        assert not torch.allclose(
            real(batch.tokens, unused), real(other, unused), atol=1e-2
        )


def _silence(model: nn.Module) -> None:
    for name, weight in model.named_parameters():
        if "persona_out" in name:
            weight.zero_()
