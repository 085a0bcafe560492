"""Settings of what is trained. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mdlm_core.config.schema import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class MSAConfig:
    """Learn to restore the rows of alignments."""

    loss: Literal["nelbo", "nelbo-l", "masked-mean", "doc-mean"] = "nelbo-l"
    """nelbo: times over the batch are stratified; nelbo-l: exact numbers of hidden
    tokens; both are bounds. masked-mean: the mean over hidden tokens of each canvas, as
    BERT. doc-mean: over all free tokens, visible ones too: not a bound, for comparison
    with runs that were trained so."""
    t_min: float = 1e-3
    """Times are drawn in [t_min, 1)."""
    warm_start: str = ""
    """A run whose weights to begin with."""
    eval_draws: int = 4
    """Draws per canvas of the exact-count estimator on held-out data."""
    eval_rows: int = 64
    """Held-out canvases measured during training; 0 means all."""
    sample_count: int = 2
    """Rows sampled to look at."""

    def __post_init__(self) -> None:
        require(0 < self.t_min < 1, f"task.t_min is {self.t_min}; it must be in (0, 1)")
        at_least(2, "task", self, "eval_draws")
        at_least(0, "task", self, "eval_rows", "sample_count")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignConfig:
    """Prefer the winners of pairs of alignments: direct preference optimisation."""

    reference: str = ""
    """The run to begin with, and to compare with; empty begins with new weights, to
    try things out."""
    objective: Literal["dpo", "ipo", "d2dpo"] = "dpo"
    """dpo: the logistic loss of the difference of bounds; ipo: its squared form; d2dpo
    (D3PO in its first version): the loss of each draw by itself, then their mean."""
    beta: float = 0.1
    """How sharply differences count."""
    beta_sum: bool = False
    """Whether bounds are sums over rows, instead of means."""
    draws: int = 8
    """Masks of each alignment, stratified, and the same for policy and reference."""
    smoothing: float = 0.0
    """Share of pairs that are taken to be the wrong way round (cDPO)."""
    sft: float = 0.1
    """Weight of the winner's own bound in the loss."""
    drift: float = 0.0
    """Stop when the winner's own bound on held-out pairs has risen by this share above
    its value at the start; 0 never stops."""
    eval_draws: int = 8
    """Draws of held-out pairs."""
    eval_rows: int = 64
    """Held-out pairs measured during training; 0 means all."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"task.beta is {self.beta}; it must be positive")
        require(
            0 <= self.smoothing < 0.5,
            f"task.smoothing is {self.smoothing}; it must be in [0, 0.5)",
        )
        require(self.sft >= 0, f"task.sft is {self.sft}; it must not be negative")
        require(self.drift >= 0, f"task.drift is {self.drift}; it must not be negative")
        at_least(1, "task", self, "draws", "eval_draws")
        at_least(0, "task", self, "eval_rows")
