"""Adaptive masking: chances and weights from importance, time and the schedule.

With R the schedule's mask rate and u = R(t) / R(1), a token's chance to be hidden is

    m_i(t) = R(1) sigma_i(u, o_i),    o_i = kappa (1 - t)^a s_i + b pos_i,

where s is the standardised importance, pos runs from -1 to 1 over the free positions
and sigma is one of the shapes of `shift`. So m_i(0) = 0 and m_i(1) = R(1), as for
uniform masks, and kappa = b = 0 is uniform masking. Two objectives weight the
cross-entropy of a hidden token:

    ht     weight(t) (R / m_i)^rho, at most clip * weight(t) (Horvitz, Thompson, 1952)
    nelbo  A_i = m_i' / m_i, the weight of the bound of this very process

With rho = 1 and unclipped, a token's expected weight is that of uniform masks.
Letters: B batch, L length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.errors import ConfigError
from mdlm_core.protocols import Rates, Schedule

from .config import AtatConfig
from .monotone import check_monotone
from .shift import (
    places,
    power,
    power_velocity,
    rescale,
    solve_shift,
    standardise,
    velocity,
)


@dataclass(frozen=True, slots=True)
class _Clock:
    """The schedule at the times of a batch; each ``(B,)`` float64."""

    t: Tensor
    rate: Tensor
    """R(t)."""
    weight: Tensor
    """The schedule's weight R' / R."""
    last: Tensor
    """R(1), a scalar."""

    @classmethod
    def at(cls, t: Tensor, schedule: Schedule) -> _Clock:
        t = t.double()
        last = schedule.mask_rate(torch.ones((), dtype=t.dtype, device=t.device))
        return cls(t, schedule.mask_rate(t), schedule.weight(t), last)

    @property
    def share(self) -> Tensor:
        """U in [0, 1]."""
        return (self.rate / self.last).clamp(0, 1)


class AdaptiveMaskingScheduler:
    """Turn importance into mask chances and loss weights; see the module's docstring.

    The strength and direction of the bias, kappa, come from the curriculum.
    """

    def __init__(self, config: AtatConfig) -> None:
        """Keep the settings.

        Raises:
            ConfigError: if settings contradict each other, or the chances could fall
                in t under every schedule of core (`check_monotone`).
        """
        _check(config)
        check_monotone(config)
        self.config = config
        self._passed: Schedule | None = None

    @torch.no_grad()
    def rates(
        self,
        importance: Tensor | None,
        free: Tensor,
        t: Tensor,
        schedule: Schedule,
        kappa: float,
        focus: Tensor | None = None,
    ) -> Rates:
        """Return the chance to be hidden and the loss weight of each token.

        Without a bias (kappa = 0 or no importance, no position bias) and without focus
        they are exactly those of uniform masking, ``(B, 1)``.

        Args:
            importance: ``(B, L)``; only its order and ratios of differences in a row
                matter. None means that there is no importance.
            free: ``(B, L)`` bool.
            t: ``(B,)`` times in [0, 1].
            schedule: gives R(t) and the weight.
            kappa: the logit shift of one standard deviation of importance.
            focus: ``(B, L)`` factors of the weights. They are scaled in each row such
                that the expected sum of its weights stays what it is.

        Returns:
            Both ``(B, L)`` float64; what stands at frozen positions means nothing.

        Raises:
            ConfigError: if a chance could fall in t under this schedule, or is not
                small at t = 0.
        """
        biased = self._biased(importance, kappa)
        if not biased and focus is None:
            return Rates(schedule.mask_rate(t)[:, None], schedule.weight(t)[:, None])
        clock = _Clock.at(t, schedule)
        self.check(schedule)
        if not biased:
            shape = free.shape
            chance = clock.rate[:, None].expand(shape)
            weight = clock.weight[:, None].expand(shape)
        else:
            offset = self.offsets(importance, free, clock.t, kappa)
            sigma = self.shares(offset, free, clock.share)
            chance = clock.last * sigma
            if self.config.objective == "nelbo":
                weight = self.velocity(importance, free, t, schedule, kappa)
            else:
                weight = clock.weight[:, None] * self.correction(sigma, clock.share)
        if focus is not None:
            weight = weight * _balanced(focus.double(), chance * weight * free)
        return Rates(chance, weight)

    @torch.no_grad()
    def velocity(
        self,
        importance: Tensor | None,
        free: Tensor,
        t: Tensor,
        schedule: Schedule,
        kappa: float,
    ) -> Tensor:
        """Return A = m' / m, the rate at which the time reversal reveals a token.

        Exact for the shapes logit-shift and power, with and without sharpness_power.

        Returns:
            ``(B, L)`` float64. Without a bias it is the schedule's weight.

        Raises:
            ConfigError: if the shape is rescale, whose chances have a kink in t, or a
                chance could fall in t under this schedule.
        """
        config = self.config
        if config.shape == "rescale":
            raise ConfigError(
                "masking.shape is rescale, whose rate has a kink in t and no velocity "
                "there; set masking.shape=logit-shift or masking.shape=power"
            )
        clock = _Clock.at(t, schedule)
        if not self._biased(importance, kappa):
            return clock.weight[:, None].expand(free.shape)
        self.check(schedule)
        offset = self.offsets(importance, free, clock.t, kappa)
        drift = self.drift(importance, free, clock.t, kappa)
        rising = -schedule.dalpha(clock.t) / clock.last
        if config.shape == "power":
            return power_velocity(offset, clock.share, rising, drift)
        return velocity(offset, free, clock.share, rising, drift)

    def offsets(
        self, importance: Tensor | None, free: Tensor, t: Tensor, kappa: float
    ) -> Tensor:
        """Return o ``(B, L)`` float64: the bias of each token at its row's time."""
        config = self.config
        offset = torch.zeros(free.shape, dtype=torch.float64, device=free.device)
        if importance is not None and kappa:
            sharpness = kappa * (1 - t.double()).clamp(min=0) ** config.sharpness_power
            offset = sharpness[:, None] * standardise(importance, free)
        if config.position_bias:
            offset = offset + config.position_bias * places(free)
        return offset

    def shares(self, offsets: Tensor, free: Tensor, share: Tensor) -> Tensor:
        """Return sigma ``(B, L)`` float64, the chances at a share ``(B,)`` of masks.

        Nothing is hidden at share 0 and everything at 1. The mean over `free` is
        `share`, except for the shape power.
        """
        if self.config.shape == "power":
            return power(offsets, share)
        if self.config.shape == "rescale":
            return rescale(offsets, free, share)
        return solve_shift(offsets, free, share)

    def correction(self, sigma: Tensor, share: Tensor) -> Tensor:
        """Return ``(share / sigma)^rho``, at most `clip`: weights over uniform ones.

        Args:
            sigma: ``(B, L)`` chances to be hidden.
            share: ``(B,)`` what they would be without a bias.
        """
        some = sigma > 0
        ratio = share[:, None].double() / torch.where(some, sigma, 1.0)
        ratio = torch.where(some, ratio, 1.0) ** self.config.ht_power
        return ratio.clamp(max=self.config.clip)

    def _biased(self, importance: Tensor | None, kappa: float) -> bool:
        tilted = importance is not None and kappa != 0
        return tilted or self.config.position_bias != 0

    def drift(
        self, importance: Tensor | None, free: Tensor, t: Tensor, kappa: float
    ) -> Tensor | None:
        """Return do / dt, or None where offsets are constant in t."""
        a = self.config.sharpness_power
        if importance is None or not kappa or not a:
            return None
        # at t = 1 the chance to be visible vanishes faster than this grows
        rest = (1 - t).clamp(min=1e-12)
        return (-a * kappa * rest ** (a - 1))[:, None] * standardise(importance, free)

    def check(self, schedule: Schedule) -> None:
        """Refuse a schedule under which a chance could fall; checked once for each.

        Raises:
            ConfigError: at which t, why, and what to set.
        """
        if self._passed is not schedule:
            check_monotone(self.config, schedule)
            _check_start(self.config, schedule)
            self._passed = schedule


def _balanced(focus: Tensor, mass: Tensor) -> Tensor:
    """Return `focus` times a number for each row that keeps the sum of its `mass`."""
    before = mass.sum(1, keepdim=True)
    after = (mass * focus).sum(1, keepdim=True)
    return focus * torch.where(after > 0, before / torch.where(after > 0, after, 1), 1)


def _check_start(config: AtatConfig, schedule: Schedule) -> None:
    """Refuse the shape power where a schedule does not start at zero.

    It takes a root of u: exponents of 0.3 make 13 % of a mask rate of 0.1 %.
    """
    first, last = schedule.mask_rate(torch.tensor([0.0, 1.0], dtype=torch.float64))
    if config.shape == "power" and first > 1e-9 * last:
        raise ConfigError(
            f"masking.shape is power and the schedule {type(schedule).__name__} hides "
            f"{float(first):.2g} of the tokens at t = 0; their roots are no small "
            "chances: set masking.shape=logit-shift, or a schedule that starts at 0 "
            "(loglinear, cosine, cosine-squared)"
        )


def _check(config: AtatConfig) -> None:
    """Refuse what is not the bound that the objective nelbo stands for."""
    if config.objective == "nelbo" and config.curriculum.focus != 1:
        raise ConfigError(
            f"masking.objective is nelbo and masking.curriculum.focus is "
            f"{config.curriculum.focus}; other weights than those of the bound are no "
            "bound: set masking.curriculum.focus=1 or masking.objective=ht"
        )
