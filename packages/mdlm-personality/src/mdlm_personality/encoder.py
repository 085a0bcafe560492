"""A beta-VAE over the traits: where the noise of unobserved nodes may come from.

Higgins et al., 2017: with a Gaussian decoder of fixed standard deviation sigma,

    L = E_q[-log N(x; decode(z), sigma^2)] + beta KL(q(z | x) || N(0, I)).

The squared error so has the factor 1 / (2 sigma^2), and that decides what is learned:
with a linear decoder a latent is used only for an eigenvalue of the covariance of x
above beta sigma^2 (Lucas et al., 2019, arXiv 1911.02469). If none is above it, nothing
is encoded. The inputs are therefore standardised, and `collapse_warning` tells before
training what that theory expects.

Instead of towards 0 the KL term may be drawn to a capacity C that grows in training
(Burgess et al., 2018, arXiv 1804.03599): gamma |KL - C| in place of beta KL.

Five numbers have at most five degrees of freedom, however many latents there are: the
others stay at their prior. Letters: B batch, K inputs, Z latents.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

ACTIVE = 0.01
"""A latent is used if the variance of its posterior mean over the rows is above it."""


class VaeLoss(NamedTuple):
    """One draw of the loss of each row, in nats; each ``(B,)``."""

    total: Tensor
    """What is minimised."""
    reconstruction: Tensor
    """-log p of the known inputs given the latents."""
    kl: Tensor
    """KL(q(z | x) || N(0, I)), summed over the latents."""


class BetaVAE(nn.Module):
    """Encode standardised inputs, of which some may be missing.

    Missing inputs are shown to the encoder as 0 with a flag, and not scored.

    Args:
        inputs: K.
        latents: Z.
        beta: weight of the KL term.
        sigma: standard deviation of the decoder, on standardised inputs.
        capacity: C in nats, of a row of which all inputs are known; 0 goes by beta.
        width: of the one hidden layer of encoder and decoder; 0 has none, so that
            both are linear.
        gamma: weight of |KL - C|. It is exact above the largest eigenvalue of the
            covariance over sigma^2, what a first nat is worth.
    """

    def __init__(
        self,
        inputs: int,
        latents: int,
        *,
        beta: float = 4.0,
        sigma: float = 0.3,
        capacity: float = 0.0,
        width: int = 64,
        gamma: float = 100.0,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.latents = latents
        self.beta = beta
        self.sigma = sigma
        self.capacity = capacity
        self.gamma = gamma
        self.encoder = _network(2 * inputs, width, 2 * latents)
        self.decoder = _network(latents, width, inputs)

    def posterior(
        self, x: Tensor, known: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x), each ``(B, Z)``.

        Args:
            x: ``(B, K)`` standardised inputs.
            known: ``(B, K)`` bool; all, if not given. The other inputs are not read.
        """
        if known is None:
            known = torch.ones_like(x, dtype=torch.bool)
        seen = torch.where(known, x, torch.zeros_like(x))
        mean, log_variance = self.encoder(
            torch.cat([seen, known.to(seen.dtype)], dim=-1)
        ).chunk(2, dim=-1)
        return mean, log_variance

    def mean(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the posterior mean ``(B, Z)``; see `posterior`."""
        return self.posterior(x, known)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Return the expected inputs ``(B, K)`` of latents ``(B, Z)``."""
        decoded: Tensor = self.decoder(z)
        return decoded

    def loss(
        self,
        x: Tensor,
        known: Tensor | None = None,
        u: Tensor | None = None,
        *,
        progress: float = 1.0,
    ) -> VaeLoss:
        """Return one draw of the loss of each row.

        Args:
            x: ``(B, K)`` standardised inputs.
            known: ``(B, K)`` bool; all, if not given.
            u: ``(B, Z)`` uniform numbers in (0, 1) that make the draw of z; without
                them z is the posterior mean, which leaves out what the noise costs.
            progress: the share of training that is done; the capacity grows with it
                and is reached at one half.
        """
        mean, log_variance = self.posterior(x, known)
        z = mean
        if u is not None:
            normal = torch.special.ndtri(u.double()).to(mean.dtype)
            z = mean + (0.5 * log_variance).exp() * normal
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        share: Tensor | float = 1.0
        if known is not None:
            x = torch.where(known, x, torch.zeros_like(x))
        error = (x - self.decode(z)).square() / (2 * self.sigma**2)
        cost = error + math.log(self.sigma * math.sqrt(2 * math.pi))
        if known is not None:
            cost = torch.where(known, cost, torch.zeros_like(cost))
            share = known.to(mean.dtype).mean(-1)
        reconstruction = cost.sum(-1)
        if self.capacity:
            aim = share * self.capacity * min(2 * progress, 1.0)
            total = reconstruction + self.gamma * (kl - aim).abs()
            return VaeLoss(total, reconstruction, kl)
        return VaeLoss(reconstruction + self.beta * kl, reconstruction, kl)

    @torch.no_grad()
    def active_units(self, x: Tensor, known: Tensor | None = None) -> int:
        """Return how many latents say something about the rows `x` ``(B, K)``.

        A latent does if the variance of E[z | x] over the rows is above `ACTIVE`
        (Burda et al., 2016, arXiv 1509.00519).
        """
        means = self.mean(x, known).double()
        return int((means.var(0, correction=0) > ACTIVE).sum())

    @torch.no_grad()
    def r2(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """Return ``(K,)`` float64: the share of each input's variance that comes back.

        1 is a perfect reconstruction, 0 that of the mean; over the rows where the
        input is known, and NaN where it never varies.
        """
        if known is None:
            known = torch.ones_like(x, dtype=torch.bool)
        weight = known.double()
        count = weight.sum(0).clamp(min=1)
        values = torch.where(known, x, torch.zeros_like(x)).double()
        centre = values.sum(0) / count
        spread = (weight * (values - centre).square()).sum(0)
        error = values - self.decode(self.mean(x, known)).double()
        left = (weight * error.square()).sum(0)
        ratio = 1 - left / spread
        return torch.where(spread > 0, ratio, torch.full_like(ratio, torch.nan))

    def threshold(self) -> float:
        """Return beta sigma^2, the variance that a direction must exceed to be used.

        It holds for the form with beta; with a capacity there is no threshold, and the
        answer is 0.
        """
        return 0.0 if self.capacity else self.beta * self.sigma**2

    def collapse_warning(self, covariance: Tensor) -> str | None:
        """Return what to expect if directions of the inputs will not be encoded.

        Args:
            covariance: ``(K, K)`` of the inputs as they are encoded.

        Returns:
            A sentence or two, or None if every direction that varies is above the
            threshold.
        """
        values = torch.linalg.eigvalsh(covariance.double()).flip(0)
        varying = int((values > 1e-6).sum())
        used = active_directions(covariance, self.threshold())
        if used >= min(varying, self.latents):
            return None
        top = float(values[0])
        remedy = (
            f"Lower model.beta below {top / self.sigma**2:.3g}, lower model.sigma "
            f"below {math.sqrt(top / max(self.beta, 1e-12)):.3g}, or set "
            f"model.capacity"
        )
        if used == 0:
            return (
                f"beta-vae will encode nothing: the greatest eigenvalue of the inputs' "
                f"covariance is {top:.3g}, and a latent is used only above "
                f"beta sigma^2 = {self.threshold():.3g}. {remedy}."
            )
        return (
            f"beta-vae will encode {used} of {varying} directions of the inputs: the "
            f"eigenvalues of their covariance are "
            f"{', '.join(f'{float(value):.3g}' for value in values)}, and a latent is "
            f"used only above beta sigma^2 = {self.threshold():.3g}."
        )


def active_directions(covariance: Tensor, threshold: float) -> int:
    """Return how many eigenvalues of `covariance` ``(K, K)`` exceed `threshold`.

    For a loss ``c ||x - decode(z)||^2 + beta KL`` with a linear decoder the threshold
    is ``beta / (2 c)`` (Lucas et al., 2019).
    """
    values = torch.linalg.eigvalsh(covariance.double())
    return int((values > max(threshold, 1e-6)).sum())


def _network(inputs: int, width: int, outputs: int) -> nn.Module:
    if not width:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, outputs),
    )
