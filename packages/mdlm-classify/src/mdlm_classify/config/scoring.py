"""How log p(text | class) is estimated. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mdlm_core.config.schema import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringConfig:
    """The estimator, and how many draws a text gets."""

    estimator: Literal["exact-counts", "continuous-time", "sizes", "any-order"] = (
        "exact-counts"
    )
    """Of the bound on -log p; `sizes` draws the number k of hidden tokens with a
    probability proportional to k^-size_power."""
    size_power: float = 0.5
    """See `estimator`."""
    control: float = 1.0
    """How much of a token's value in a text that is all hidden is a control variate,
    which leaves only what the context changes to the draws; 0 is none."""
    rule: Literal["auto", "fixed", "sequential", "halving"] = "auto"
    """When to stop: after `max_draws`; when the best class leads by `z` standard
    errors; or with the worse half of the classes left out each round. auto is halving
    for more than four classes, sequential otherwise."""
    start_draws: int = 4
    """Draws before the first decision; they double from round to round."""
    max_draws: int = 64
    """Draws of one text under one class, at most."""
    z: float = 2.0
    """Standard errors by which the best class must lead."""
    common: bool = True
    """Whether all classes see the same masks of a text; False is for comparison."""
    tokens_at_once: int = 16_384
    """Tokens that go through the model together."""
    seed: int = 0
    """Decides the masks, together with the text alone."""

    def __post_init__(self) -> None:
        at_least(2, "scoring", self, "start_draws", "max_draws")
        at_least(1, "scoring", self, "tokens_at_once")
        at_least(0, "scoring", self, "size_power", "control", "z")
        require(
            self.start_draws <= self.max_draws,
            f"scoring.start_draws is {self.start_draws}; it must be at most "
            f"scoring.max_draws ({self.max_draws})",
        )
