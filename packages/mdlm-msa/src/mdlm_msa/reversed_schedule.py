"""A reader of settings whose time runs the other way: t = 1 clean, t = 0 masked.

Some settings and checkpoints say ``sigma(t) = 1 - (1 - eps) t`` and mean the chance
that a token is hidden, with t = 1 the clean end. Here t = 0 is clean, so they are
turned round at the border by ``tau = 1 - t``:

    m(tau) = eps + (1 - eps) tau,   weight (1 - eps) / m(tau),

and nothing inside knows of it; the settings of a run say it (`converted_from`). It
differs from `loglinear` in where eps is: there the share eps of the tokens stays
visible at the masked end, here it is hidden at the clean end. So the mask rates run
over [eps, 1], and a bound on log p needs the reconstruction term of the rates below
eps as well, ``-E log p(x_0 | x_tau)`` at tau = 0. The estimators of
`mdlm_core.diffusion.likelihood` put such missing pieces back for every schedule; the
training loss leaves it out, which moves no minimum. Samplers end at mask rate 0, so
that what they draw is what they draw with `loglinear`, up to eps.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mdlm_core.config.components import EpsConfig
from mdlm_core.diffusion.schedule import NoiseSchedule
from mdlm_msa.config.schedule import CONVENTION, ReversedConfig


@dataclass(frozen=True, slots=True)
class ReversedLogLinear(NoiseSchedule):
    """``m(tau) = eps + (1 - eps) tau``, with tau = 0 clean as everywhere else."""

    eps: float = 1e-3
    """The mask rate at tau = 0, in [0, 1)."""

    def __post_init__(self) -> None:
        EpsConfig(eps=self.eps)

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``(1 - eps) (1 - tau)``."""
        return (1 - self.eps) * (1 - t)

    def mask_rate(self, t: Tensor) -> Tensor:
        """Return ``eps + (1 - eps) tau``."""
        return self.eps + (1 - self.eps) * t

    def dalpha(self, t: Tensor) -> Tensor:
        """Return ``-(1 - eps)``."""
        return torch.full_like(t, -(1 - self.eps))

    def weight(self, t: Tensor) -> Tensor:
        """Return ``(1 - eps) / m(tau)``."""
        return (1 - self.eps) / self.mask_rate(t)

    def time_of(self, mask_rate: Tensor) -> Tensor:
        """Return ``(mask_rate - eps) / (1 - eps)``, in [0, 1]."""
        return ((mask_rate - self.eps) / (1 - self.eps)).clamp(0, 1)


def from_original(t: Tensor) -> Tensor:
    """Return tau, the time here, for times of the original convention, or back."""
    return 1 - t


@cache
def _notice() -> None:
    """Say once in a process that settings were turned round."""
    print(  # noqa: T201
        f"note: schedule 'loglinear-reversed' reads {CONVENTION} and turns it round: "
        "here t = 0 is clean; new settings say schedule.name=loglinear",
        file=sys.stderr,
    )


def build(config: ReversedConfig) -> ReversedLogLinear:
    """Return the schedule, and say that its settings were turned round."""
    _notice()
    return ReversedLogLinear(config.eps)
