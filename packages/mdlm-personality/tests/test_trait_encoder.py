"""The beta-VAE over traits, against the theory of linear ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_personality.encoder import BetaVAE, active_directions

EIGENVALUES = (1.8, 1.1, 0.9, 0.7, 0.5)
"""As of the correlations of five traits."""


def rows_with(eigenvalues: tuple[float, ...], rows: int = 120) -> Tensor:
    """Return ``(N, K)`` whose covariance has these eigenvalues, to rounding."""
    size = len(eigenvalues)
    u = Noise(3).child("rows").uniform(torch.arange(rows), 2 * size)
    white = torch.special.ndtri(u[:, :size])
    white = white - white.mean(0)
    u_, _, _ = torch.linalg.svd(white, full_matrices=False)
    basis, _ = torch.linalg.qr(torch.special.ndtri(u[:size, size:]))
    scale = torch.tensor(eigenvalues).double().mul(rows).sqrt()
    return ((u_ * scale) @ basis.T).float()


def trained(vae: BetaVAE, x: Tensor, steps: int, lr: float = 0.03) -> BetaVAE:
    """Return the encoder after some steps of Adam on all rows."""
    optimizer = torch.optim.Adam(vae.parameters(), lr=lr)
    for step in range(steps):
        u = Noise(0).child(step).uniform(torch.arange(len(x)), vae.latents)
        optimizer.zero_grad()
        vae.loss(x, None, u, progress=step / steps).total.mean().backward()
        optimizer.step()
    return vae


def new(inputs: int = 5, latents: int = 8, **settings: float) -> BetaVAE:
    with global_seed(Noise(0)):
        return BetaVAE(inputs, latents, **settings)  # type: ignore[arg-type]


def test_kl_is_that_of_torch() -> None:
    vae = new(width=16)
    x = rows_with(EIGENVALUES, 20)
    mean, log_variance = vae.posterior(x)
    wanted = kl_divergence(
        Normal(mean, (0.5 * log_variance).exp()),
        Normal(torch.zeros_like(mean), torch.ones_like(mean)),
    ).sum(-1)
    assert torch.allclose(vae.loss(x).kl, wanted, atol=1e-5)


def test_reconstruction_is_a_gaussian_density() -> None:
    vae = new(width=16, sigma=0.7)
    x = rows_with(EIGENVALUES, 20)
    u = Noise(1).uniform(torch.arange(20), 8)
    mean, log_variance = vae.posterior(x)
    z = mean + (0.5 * log_variance).exp() * torch.special.ndtri(u).float()
    density = Normal(vae.decode(z), 0.7).log_prob(x)
    loss = vae.loss(x, None, u)
    assert torch.allclose(loss.reconstruction, -density.sum(-1), atol=1e-4)
    assert torch.allclose(loss.total, loss.reconstruction + 4 * loss.kl)


def test_a_missing_input_is_neither_read_nor_scored() -> None:
    vae = new(width=16)
    x = rows_with(EIGENVALUES, 6)
    known = torch.ones(6, 5, dtype=torch.bool)
    known[:, 2] = False
    other = x.clone()
    other[:, 2] = torch.nan
    one, two = vae.loss(x, known), vae.loss(other, known)
    assert torch.equal(one.total, two.total)
    two.total.sum().backward()
    gradients = [p.grad for p in vae.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
    none = vae.loss(x, torch.zeros_like(known))
    assert torch.equal(none.reconstruction, torch.zeros(6))


def solved(vae: BetaVAE, x: Tensor, steps: int = 300) -> BetaVAE:
    """Return a linear one at the optimum of its expected loss, without draws."""
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = vae.loss(x)
        spread = vae.posterior(x)[1].exp()  # (B, Z)
        weight = vae.decoder.weight  # (K, Z)
        noise = (spread @ weight.square().T).sum(-1) / (2 * vae.sigma**2)  # type: ignore[operator]
        (loss.total + noise).mean().backward()
        optimizer.step()
        schedule.step()
    return vae


@pytest.mark.parametrize(("beta", "used"), [(4.0, 5), (8.0, 3), (14.0, 1), (24.0, 0)])
def test_a_linear_one_uses_the_eigenvalues_above_beta_sigma_squared(
    beta: float, used: int
) -> None:
    x = rows_with(EIGENVALUES)
    vae = new(beta=beta, sigma=0.3, width=0)
    assert vae.threshold() == pytest.approx(beta * 0.09)
    assert active_directions(torch.cov(x.T), vae.threshold()) == used
    assert solved(vae, x).active_units(x) == used


def test_the_best_linear_one_is_probabilistic_pca() -> None:
    """At the optimum W W^T has eigenvalues lambda - beta sigma^2 (Lucas et al.)."""
    x = rows_with((2.0, 0.2))
    vae = solved(new(2, 2, beta=4.0, sigma=0.5, width=0), x)
    weight = vae.decoder.weight.detach()  # type: ignore[union-attr]
    found = torch.linalg.eigvalsh((weight @ weight.T).double())
    assert float(found[1]) == pytest.approx(2.0 - 4.0 * 0.25, abs=0.01)
    assert abs(float(found[0])) < 1e-3


def test_the_scale_of_the_original_collapses_and_is_told() -> None:
    """The original description: mean squared error of traits in [0, 1], beta 4.

    Its c is 1/5, so that its threshold beta / (2 c) is 10, and the variance of a trait
    is below 1/4: all latents go, on standardised traits too.
    """
    sigma = math.sqrt(5 / 2)  # 1 / (2 sigma^2) = 1 / 5
    original = new(beta=4.0, sigma=sigma, width=0)
    assert original.threshold() == pytest.approx(10.0)
    x = rows_with(EIGENVALUES)
    covariance = torch.cov((0.2 * x).T)
    warning = original.collapse_warning(covariance)
    assert warning is not None
    assert "will encode nothing" in warning
    assert "beta sigma^2 = 10" in warning
    assert solved(original, 0.2 * x, 200).active_units(0.2 * x) == 0
    ours = new(width=0)
    assert ours.collapse_warning(torch.cov(x.T)) is None
    assert ours.collapse_warning(torch.eye(5)) is None


def test_a_partial_collapse_is_told_with_its_number() -> None:
    warning = new(beta=8.0).collapse_warning(torch.diag(torch.tensor(EIGENVALUES)))
    assert warning is not None
    assert "3 of 5 directions" in warning


def test_the_remedies_of_the_warning_are_remedies() -> None:
    covariance = torch.diag(torch.tensor([0.05, 0.02, 0.01, 0.01, 0.01]))
    vae = new(beta=4.0, sigma=0.3)
    assert active_directions(covariance, vae.threshold()) == 0
    top = 0.05
    assert active_directions(covariance, 0.99 * top / 0.09 * 0.09) > 0
    text = vae.collapse_warning(covariance)
    assert text is not None
    assert f"model.beta below {top / 0.09:.3g}" in text
    assert f"model.sigma below {math.sqrt(top / 4):.3g}" in text


def test_the_deep_one_keeps_the_traits_and_a_great_beta_drops_them() -> None:
    x = rows_with(EIGENVALUES, 200)
    kept = trained(new(latents=12, width=32), x, 300)
    assert kept.active_units(x) >= 3
    assert float(kept.r2(x).mean()) > 0.5
    dropped = trained(new(latents=12, width=32, beta=40.0), x, 150)
    assert dropped.active_units(x) == 0
    assert float(dropped.r2(x).abs().max()) < 0.05


def test_a_capacity_is_reached() -> None:
    x = rows_with(EIGENVALUES, 200)
    vae = trained(new(latents=6, width=32, capacity=5.0), x, 300, lr=0.01)
    kl = vae.loss(x).kl.detach()
    assert float(kl.mean()) == pytest.approx(5.0, abs=0.3)
    assert vae.threshold() == 0
    early = vae.loss(x, None, progress=0.0)
    wanted = early.reconstruction + vae.gamma * early.kl
    assert torch.allclose(early.total, wanted)


def test_r2_of_the_mean_is_zero_and_of_a_constant_unknown() -> None:
    vae = new(width=0)
    x = rows_with(EIGENVALUES, 50)
    x[:, 4] = 1.0
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
    found = vae.r2(x)
    assert torch.allclose(found[:4], torch.zeros(4).double(), atol=1e-5)
    assert bool(found[4].isnan())


def test_a_part_of_the_inputs_has_a_part_of_the_capacity() -> None:
    vae = BetaVAE(4, 3, capacity=2.0, gamma=10.0)
    x = torch.zeros(1, 4)
    known = torch.tensor([[True, False, False, False]])
    loss = vae.loss(x, known)
    distance = (loss.total - loss.reconstruction) / 10.0
    assert distance.item() == pytest.approx(abs(loss.kl.item() - 0.5), abs=1e-5)
