"""What is reported about the variance of the loss. Plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Number:
    """An estimate and its standard error, by leaving out one row at a time."""

    value: float
    se: float


@dataclass(frozen=True, slots=True)
class Method:
    """A way of drawing times and masks."""

    name: str
    forwards: int
    """Forward passes of a row in a step."""
    masks: Number
    """A: variance from the masks."""
    rate: Number
    """B: variance from the times, as far as it is left by strata."""
    variance: Number
    """Of a row's loss: A + B + C, as far as it is left."""
    gain: Number
    """How often its variance is in that of Normal, at equal forward passes."""
    gain_per_row: Number
    """The same at equal numbers of rows."""


@dataclass(frozen=True, slots=True)
class At:
    """One time."""

    t: float
    share: float
    """Width of the cell that it stands for."""
    mean: float
    """g."""
    variance: float
    """v: over masks, in the mean over rows."""
    context: float
    """The part of v from what else is hidden (Theorem 1); nan if not known, or if a
    token is hidden too rarely to tell."""
    hidden: float
    """The part from whether a token itself is hidden; likewise."""
    together: float
    """The part from tokens together: the covariances."""
    correlation: float
    """rho of mirrored masks; nan where nothing varies."""
    density: Mapping[str, float]
    """The fitted densities at this time."""


@dataclass(frozen=True, slots=True)
class Report:
    """The measured decomposition, and what follows from it."""

    rows: int
    times: int
    masks: int
    batch: int
    """Rows of a global batch, which decides the strata."""
    strata: int
    loss: Number
    """The mean loss."""
    a: Number
    """From the masks."""
    b: Number
    """From the times."""
    c: Number
    """From the rows."""
    total: Number
    """A + B + C."""
    alone: Number
    """The part of A from each token alone (Theorem 1's first two terms); nan if it is
    not known."""
    together: Number
    """The part from tokens together: the covariances."""
    methods: tuple[Method, ...]
    curve: tuple[At, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, None for what is not known."""
        values: dict[str, Any] = _plain(asdict(self))
        return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
