"""Settings of the samplers. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from mdlm_core.config.components import SamplerConfig
from mdlm_core.config.schema import share


@dataclass(frozen=True, kw_only=True, slots=True)
class RemaskConfig(SamplerConfig):
    """Reverse steps that may also hide tokens again."""

    eta: float = 1.0
    """How much is hidden again: 0 nothing, as ancestral; 1 so much that a step forgets
    which tokens were visible."""

    def __post_init__(self) -> None:
        SamplerConfig.__post_init__(self)
        share("sampler", self, "eta")
