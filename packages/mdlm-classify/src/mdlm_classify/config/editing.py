"""How far an edit of a text may go. Light: imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mdlm_core.config.schema import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class EditSettings:
    """How far an edit may go, and how hard it tries."""

    threshold: float = 0.9
    """The posterior of the class at which the text is done."""
    budget: float = 0.3
    """The share of the words that may be changed, at most; one is always allowed."""
    step: float = 0.1
    """The share of the words that is hidden in one round."""
    candidates: int = 8
    """Texts that are written in one round; the best goes on."""
    guidance: float = 2.0
    """Towards the class and away from the other; 1 is none. See `ClassGuidance`."""
    draws: int = 16
    """Masks with which words and candidates are compared."""
    seed: int = 0
    """Decides what is written."""

    def __post_init__(self) -> None:
        for name in ("threshold", "budget", "step"):
            value = getattr(self, name)
            require(0 < value <= 1, f"edit.{name} is {value}; it must be in (0, 1]")
        at_least(1, "edit", self, "candidates")
        at_least(2, "edit", self, "draws")
        require(
            math.isfinite(self.guidance),
            f"edit.guidance is {self.guidance}; it must be a finite number",
        )
