"""Settings of a generation. Light: imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config.schema import at_least, require

from .data import Selection


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """What is generated, and how."""

    rows: int = 16
    """New rows."""
    together: int = 0
    """New rows that share a canvas and see each other; 0 means as many as fit, however
    many are asked for."""
    length: int = 0
    """Tokens of a canvas, at most; 0 takes the length that the model was trained
    with."""
    steps: int = 64
    """Reverse steps, T."""
    sampler: str = "ddpm"
    """ddpm, ddpm_cache, confidence, remask, one-shot, or another of the catalog."""
    temperature: float = 1.0
    """Divides the log-probabilities; 0 takes the most probable residue."""
    top_p: float = 1.0
    """Keep the smallest set of residues with at least this probability."""
    top_k: int = 0
    """Keep the k most probable residues; 0 means all."""
    seed: int = 0
    """Decides every draw."""
    batch: int = 4
    """Canvases that go through the model together; changes nothing else."""
    prompt: int = 16
    """Rows of the input that are shown to the model, at most."""
    select: Selection = "random"
    """Which of them; in training they are random unless `data.select` says else."""
    min_coverage: float = 0.5
    """Share of the columns in which a row that is shown has a residue, at least."""
    support: int = 0
    """Further rows of the input that the profile alone sees, at most."""
    gaps: Literal["free", "none", "template"] = "free"
    """free: as the model says; none: no gap in a new row; template: the gaps of a row
    that is shown, drawn for each new row."""
    allow_x: bool = False
    """Whether the unknown residue X may be written."""
    freeze: str = ""
    """Columns that every new row has from the query, such as 10-25,40."""
    allowed: Mapping[int, str] = field(default_factory=dict)
    """Residues allowed in a column, by its number from 1; - is the gap."""
    identity: tuple[float, float] = (0.0, 1.0)
    """Identity of a new row to the query that is accepted."""
    max_similar: float = 1.0
    """Identity of a new row to any row of the input that is accepted, at most."""
    tries: int = 8
    """Rows drawn for each one that is accepted, at most, if there is a band."""
    window: int = 0
    """Columns of a canvas if the query is too long for one: windows that overlap by a
    quarter, each shown the new row's residues in the overlap. 0 means no windows."""
    draws: int = 8
    """Masks by which the likelihood of a new row is estimated; 0 leaves it out."""

    def __post_init__(self) -> None:
        at_least(1, "generation", self, "rows", "steps", "batch", "tries")
        at_least(0, "generation", self, "support")
        at_least(0, "generation", self, "together", "length", "top_k", "prompt")
        at_least(0, "generation", self, "draws")
        require(
            self.window == 0 or self.window >= 8,
            f"generation.window is {self.window}; it must be 0, or at least 8 columns",
        )
        require(
            self.temperature >= 0,
            f"generation.temperature is {self.temperature}; it must not be negative",
        )
        require(
            0 < self.top_p <= 1,
            f"generation.top_p is {self.top_p}; it must be in (0, 1]",
        )
        require(
            0 <= self.min_coverage <= 1,
            f"generation.min_coverage is {self.min_coverage}; it must be in [0, 1]",
        )
        low, high = self.identity
        require(
            0 <= low < high <= 1,
            f"generation.identity is {low} to {high}; it must be a band in [0, 1]",
        )
