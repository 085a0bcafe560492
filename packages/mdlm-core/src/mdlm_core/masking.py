"""Masking policies: which tokens are hidden at time t."""

from __future__ import annotations

from torch import Tensor

from .config.components import UniformMaskingConfig
from .data.batch import Batch
from .protocols import DataSource, Rates, Schedule


class UniformMasking:
    """Hide every free token with the schedule's mask rate: the plain MDLM forward."""

    def rates(self, batch: Batch, t: Tensor, schedule: Schedule) -> Rates:
        """Return ``(B, 1)`` mask rates and the schedule's weights for `t` ``(B,)``."""
        del batch
        return Rates(schedule.mask_rate(t)[:, None], schedule.weight(t)[:, None])


def build_uniform(
    config: UniformMaskingConfig, *, source: DataSource | None
) -> UniformMasking:
    """Build the policy; it needs neither settings nor data."""
    del config, source
    return UniformMasking()
