"""Settings of the schedule that turns time round. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from mdlm_core.config.components import EpsConfig
from mdlm_core.config.schema import require

CONVENTION = "sigma(t) = 1 - (1 - eps) t, clean at t = 1"
"""What settings with the time the other way mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReversedConfig(EpsConfig):
    """A schedule whose settings have t = 1 clean; turned round where they are read."""

    converted_from: str = CONVENTION
    """What was turned round, written down with the run; it cannot be changed."""

    def __post_init__(self) -> None:
        EpsConfig.__post_init__(self)
        require(
            self.converted_from == CONVENTION,
            f"schedule.converted_from is '{self.converted_from}'; it says what "
            f"'loglinear-reversed' reads, '{CONVENTION}', so leave it out",
        )
