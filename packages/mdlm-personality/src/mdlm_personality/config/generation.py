"""Settings of guidance. Light: imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config.schema import require

GuidanceSchedule = Literal["constant", "linear", "interval"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidanceConfig:
    """How strongly a text is drawn to its persona."""

    scale: float = 1.0
    """gamma: 1 is the model's law given the persona, 0 that without one."""
    schedule: GuidanceSchedule = "constant"
    """linear is 1 + (gamma - 1)(1 - t): none at first; interval is gamma for t in
    `interval` and 1 outside."""
    interval: tuple[float, float] = (0.0, 0.6)
    """Times at which interval guides."""
    per_trait: Mapping[str, float] = field(default_factory=dict)
    """gamma of single traits; instead of `scale`."""
    per_trait_form: Literal["without", "sum"] = "without"
    """without: each against the law without it, p(.|z) (p(.|z) / p(.|z without k))^
    (gamma - 1); sum: the laws of single traits, p(.) prod_k (p(.|k) / p(.))^gamma, with
    gamma 1 for what is known and not named, as if words told of each by itself."""
    negative: tuple[float | None, ...] = ()
    """Traits to move away from, instead of no persona."""

    def __post_init__(self) -> None:
        for name, value in {"scale": self.scale, **self.per_trait}.items():
            require(
                math.isfinite(value),
                f"guidance.{name} is {value}; it must be a finite number",
            )
        low, high = self.interval
        require(
            0 <= low < high <= 1,
            f"guidance.interval is {low:g} to {high:g}; give the earlier end second: "
            f"LOW < HIGH, both in [0, 1]",
        )
