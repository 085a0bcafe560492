"""Noise schedules: how fast tokens vanish as t goes from 0 to 1.

A schedule is alpha(t), the chance that a token is still visible at time t, and it is
alpha(0) = 1 (or almost), falling. With sigma = -log alpha, the weight of the
continuous-time bound is

    weight(t) = -alpha'(t) / (1 - alpha(t)) = sigma'(t) / expm1(sigma(t)),

which is the derivative of log(1 - alpha): times and weights only matter through the
mask rate 1 - alpha (Sahoo et al., 2024, arXiv 2406.07524, eq. 10). All methods work
elementwise, in the precision of their argument, and are accurate at both ends: small
mask rates are never computed as 1 - alpha, nor small alphas as 1 - mask rate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.config.components import EpsConfig, SigmaConfig

HALF_PI = math.pi / 2


class NoiseSchedule(ABC):
    """What the built-in schedules share; times are in [0, 1], any shape."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Return the chance that a token is visible at t."""

    @abstractmethod
    def mask_rate(self, t: Tensor) -> Tensor:
        """Return the chance that a token is hidden at t: 1 - alpha."""

    @abstractmethod
    def dalpha(self, t: Tensor) -> Tensor:
        """Return the derivative alpha'(t), which is not positive."""

    @abstractmethod
    def weight(self, t: Tensor) -> Tensor:
        """Return -alpha'(t) / (1 - alpha(t)), infinite where nothing is hidden."""

    @abstractmethod
    def time_of(self, mask_rate: Tensor) -> Tensor:
        """Return the t with this mask rate; beyond the schedule's range, the end."""

    def sigma(self, t: Tensor) -> Tensor:
        """Return -log alpha(t), the total noise."""
        alpha = self.alpha(t)
        near_one = -torch.log1p(-self.mask_rate(t).clamp(max=0.5))
        return torch.where(alpha < 0.5, -alpha.log(), near_one)


@dataclass(frozen=True, slots=True)
class LogLinear(NoiseSchedule):
    """The reference's schedule: mask rate ``(1 - eps) t``, weight exactly ``1 / t``.

    ``eps = 0`` gives alpha = 1 - t.
    """

    eps: float = 1e-3
    """alpha(1), in [0, 1)."""

    def __post_init__(self) -> None:
        EpsConfig(eps=self.eps)

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``1 - (1 - eps) t``."""
        return (1 - t) + self.eps * t

    def mask_rate(self, t: Tensor) -> Tensor:
        """Return ``(1 - eps) t``."""
        return (1 - self.eps) * t

    def dalpha(self, t: Tensor) -> Tensor:
        """Return ``-(1 - eps)``."""
        return torch.full_like(t, -(1 - self.eps))

    def weight(self, t: Tensor) -> Tensor:
        """Return ``1 / t``: eps cancels."""
        return 1 / t

    def time_of(self, mask_rate: Tensor) -> Tensor:
        """Return ``mask_rate / (1 - eps)``, at most 1."""
        return (mask_rate / (1 - self.eps)).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Cosine(NoiseSchedule):
    """``alpha(t) = eps + (1 - eps) cos(pi t / 2)``."""

    eps: float = 1e-3
    """alpha(1), in [0, 1)."""

    def __post_init__(self) -> None:
        EpsConfig(eps=self.eps)

    def alpha(self, t: Tensor) -> Tensor:
        """Return the cosine, as a sine of 1 - t: exact where it vanishes."""
        return self.eps + (1 - self.eps) * torch.sin(HALF_PI * (1 - t))

    def mask_rate(self, t: Tensor) -> Tensor:
        """Return ``2 (1 - eps) sin^2(pi t / 4)``."""
        return 2 * (1 - self.eps) * torch.sin(HALF_PI / 2 * t).square()

    def dalpha(self, t: Tensor) -> Tensor:
        """Return ``-(1 - eps) (pi / 2) sin(pi t / 2)``."""
        return -(1 - self.eps) * HALF_PI * torch.sin(HALF_PI * t)

    def weight(self, t: Tensor) -> Tensor:
        """Return ``(pi / 2) cot(pi t / 4)``: eps cancels."""
        return HALF_PI / torch.tan(HALF_PI / 2 * t)

    def time_of(self, mask_rate: Tensor) -> Tensor:
        """Return ``(4 / pi) asin(sqrt(mask_rate / (2 (1 - eps))))``."""
        share = (mask_rate / (1 - self.eps)).clamp(0, 1)
        return (torch.asin((share / 2).sqrt()) * (2 / HALF_PI)).clamp(max=1)


@dataclass(frozen=True, slots=True)
class CosineSquared(NoiseSchedule):
    """``alpha(t) = eps + (1 - eps) cos^2(pi t / 2)``."""

    eps: float = 1e-3
    """alpha(1), in [0, 1)."""

    def __post_init__(self) -> None:
        EpsConfig(eps=self.eps)

    def alpha(self, t: Tensor) -> Tensor:
        """Return the squared cosine, as a sine of 1 - t: exact where it vanishes."""
        return self.eps + (1 - self.eps) * torch.sin(HALF_PI * (1 - t)).square()

    def mask_rate(self, t: Tensor) -> Tensor:
        """Return ``(1 - eps) sin^2(pi t / 2)``."""
        return (1 - self.eps) * torch.sin(HALF_PI * t).square()

    def dalpha(self, t: Tensor) -> Tensor:
        """Return ``-(1 - eps) (pi / 2) sin(pi t)``."""
        sin_cos = torch.sin(HALF_PI * t) * torch.sin(HALF_PI * (1 - t))
        return -(1 - self.eps) * 2 * HALF_PI * sin_cos

    def weight(self, t: Tensor) -> Tensor:
        """Return ``pi cot(pi t / 2)``: eps cancels."""
        return 2 * HALF_PI * torch.sin(HALF_PI * (1 - t)) / torch.sin(HALF_PI * t)

    def time_of(self, mask_rate: Tensor) -> Tensor:
        """Return ``(2 / pi) asin(sqrt(mask_rate / (1 - eps)))``."""
        share = (mask_rate / (1 - self.eps)).clamp(0, 1)
        return (torch.asin(share.sqrt()) / HALF_PI).clamp(max=1)


class _SigmaSchedule(NoiseSchedule):
    """A schedule given by sigma(t) = -log alpha(t) and its derivative."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Return the total noise, from sigma_min to sigma_max."""

    @abstractmethod
    def dsigma(self, t: Tensor) -> Tensor:
        """Return the derivative sigma'(t), which is positive."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``exp(-sigma)``."""
        return torch.exp(-self.sigma(t))

    def mask_rate(self, t: Tensor) -> Tensor:
        """Return ``1 - exp(-sigma)``."""
        return -torch.expm1(-self.sigma(t))

    def dalpha(self, t: Tensor) -> Tensor:
        """Return ``-sigma' exp(-sigma)``."""
        return -self.dsigma(t) * self.alpha(t)

    def weight(self, t: Tensor) -> Tensor:
        """Return ``sigma' / expm1(sigma)``."""
        return self.dsigma(t) / torch.expm1(self.sigma(t))


@dataclass(frozen=True, slots=True)
class LinearSigma(_SigmaSchedule):
    """``sigma(t) = sigma_min + (sigma_max - sigma_min) t``."""

    sigma_min: float = 1e-3
    """sigma(0), positive."""
    sigma_max: float = 7.0
    """sigma(1)."""

    def __post_init__(self) -> None:
        SigmaConfig(sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the straight line from sigma_min to sigma_max."""
        return self.sigma_min + (self.sigma_max - self.sigma_min) * t

    def dsigma(self, t: Tensor) -> Tensor:
        """Return ``sigma_max - sigma_min``."""
        return torch.full_like(t, self.sigma_max - self.sigma_min)

    def time_of(self, mask_rate: Tensor) -> Tensor:
        """Return ``(sigma - sigma_min) / (sigma_max - sigma_min)``."""
        sigma = -torch.log1p(-mask_rate)
        return ((sigma - self.sigma_min) / (self.sigma_max - self.sigma_min)).clamp(
            0, 1
        )


@dataclass(frozen=True, slots=True)
class Geometric(_SigmaSchedule):
    """``sigma(t) = sigma_min^(1 - t) sigma_max^t``."""

    sigma_min: float = 1e-3
    """sigma(0), positive."""
    sigma_max: float = 7.0
    """sigma(1)."""

    def __post_init__(self) -> None:
        SigmaConfig(sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the geometric path from sigma_min to sigma_max."""
        return self.sigma_min * torch.exp(self._log_ratio * t)

    def dsigma(self, t: Tensor) -> Tensor:
        """Return ``log(sigma_max / sigma_min) sigma(t)``."""
        return self._log_ratio * self.sigma(t)

    def time_of(self, mask_rate: Tensor) -> Tensor:
        """Return ``log(sigma / sigma_min) / log(sigma_max / sigma_min)``."""
        sigma = -torch.log1p(-mask_rate)
        return ((sigma / self.sigma_min).log() / self._log_ratio).clamp(0, 1)


def loglinear(config: EpsConfig) -> LogLinear:
    """Build the default schedule from its settings."""
    return LogLinear(config.eps)


def cosine(config: EpsConfig) -> Cosine:
    """Build the cosine schedule from its settings."""
    return Cosine(config.eps)


def cosine_squared(config: EpsConfig) -> CosineSquared:
    """Build the squared cosine schedule from its settings."""
    return CosineSquared(config.eps)


def linear_sigma(config: SigmaConfig) -> LinearSigma:
    """Build the schedule that is linear in sigma from its settings."""
    return LinearSigma(config.sigma_min, config.sigma_max)


def geometric(config: SigmaConfig) -> Geometric:
    """Build the schedule that is geometric in sigma from its settings."""
    return Geometric(config.sigma_min, config.sigma_max)
