"""What held-out rows cost by law, and what it comes to over families.

Letters: F families, k prompt rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdlm_core.kernels.noise import Noise
from mdlm_msa.laws import Array

MODEL, PSSM, PSSM_QUERY = "model", "PSSM of k", "PSSM of k and query"
PSSM_ALL = "PSSM of all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one law needed for the held-out rows of one family."""

    family: str
    law: str
    k: int | None
    """Prompt rows it was given; None if it looks at none."""
    nats: Array
    """``(rows,)`` float64 of each row, given where its gaps are."""
    residues: Array
    """``(rows,)``."""

    @property
    def bits(self) -> float:
        """Bits per residue of the family: the ratio of the sums over rows."""
        return float(self.nats.sum() / self.residues.sum() / np.log(2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One law over all families that have k prompt rows."""

    law: str
    k: int
    families: int
    mean: float
    """Bits per residue, the mean over families."""
    median: float
    low: float | None
    high: float | None
    """The mean's 95 % interval over a resampling of families (percentile bootstrap);
    None for one family, which says nothing about others."""
    gain: float | None
    """Mean of (this law - the model), in bits; None if no model was measured."""
    gain_low: float | None
    gain_high: float | None
    """Its 95 % interval, None as `low` is: above 0, the model is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutTable:
    """Costs by family, law and k, and what they come to."""

    costs: tuple[Cost, ...]
    left_out: Mapping[str, str]
    """Families that were not measured (or not at some k), and why."""
    seed: int
    """Of the bootstrap."""

    def by_family(self, k: int) -> dict[str, dict[str, float]]:
        """Return law -> family -> bits per residue, for k prompt rows."""
        table: dict[str, dict[str, float]] = {}
        for cost in self.costs:
            if cost.k in (None, k):
                table.setdefault(cost.law, {})[cost.family] = cost.bits
        given = [set(found) for cost, found in table.items() if cost in (PSSM, MODEL)]
        common = set.intersection(*given) if given else set()
        return {
            law: {name: bits for name, bits in found.items() if name in common}
            for law, found in table.items()
        }

    def lines(self, resamples: int = 4000) -> list[Line]:
        """Return one line for each k and law, the families being those with k rows."""
        found = []
        for k in sorted({cost.k for cost in self.costs if cost.k is not None}):
            table = self.by_family(k)
            names = sorted(table[PSSM])
            if not names:
                continue
            noise = Noise(self.seed).child("bootstrap", k)
            generator = np.random.default_rng(noise.integer())
            draws = generator.integers(0, len(names), (resamples, len(names)))
            model = table.get(MODEL)
            for law, values in table.items():
                bits = np.array([values[name] for name in names])
                low, high = _interval(bits, draws)
                gain: tuple[float | None, ...] = (None, None, None)
                if model is not None and law != MODEL:
                    less = bits - np.array([model[name] for name in names])
                    gain = (float(less.mean()), *_interval(less, draws))
                found.append(
                    Line(
                        law=law,
                        k=k,
                        families=len(names),
                        mean=float(bits.mean()),
                        median=float(np.median(bits)),
                        low=low,
                        high=high,
                        gain=gain[0],
                        gain_low=gain[1],
                        gain_high=gain[2],
                    )
                )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: lines, bits by family, what was left out."""
        return {
            "lines": [asdict(line) for line in self.lines()],
            "families": [
                {
                    "family": cost.family,
                    "law": cost.law,
                    "k": cost.k,
                    "bits": cost.bits,
                    "rows": len(cost.nats),
                    "residues": int(cost.residues.sum()),
                }
                for cost in self.costs
            ],
            "left_out": dict(self.left_out),
        }

    def text(self) -> str:
        """Return the lines as a table for people."""
        shown = [
            f"{'k':>3}  {'families':>8}  {'law':<20}  {'mean':>5}  {'median':>6}  "
            f"{'95 % interval':>14}  less the model"
        ]
        for line in self.lines():
            gain = ""
            if line.gain is not None:
                gain = (
                    f"{line.gain:+.3f} ({_ends(line.gain_low, line.gain_high, '+.3f')})"
                )
            ends = _ends(line.low, line.high, ".3f")
            shown.append(
                f"{line.k:>3}  {line.families:>8}  {line.law:<20}  {line.mean:5.3f}  "
                f"{line.median:6.3f}  {ends:>14}  {gain}".rstrip()
            )
        shown += [f"left out: {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join(shown)


def _interval(values: Array, draws: NDArray[np.int64]) -> tuple[float | None, ...]:
    """Return the ends of the 95 % interval of a mean; None for a single value."""
    if len(values) < 2:
        return (None, None)
    low, high = np.percentile(values[draws].mean(1), (2.5, 97.5))
    return (float(low), float(high))


def _ends(low: float | None, high: float | None, digits: str) -> str:
    """Return an interval in words, a dash if there is none."""
    if low is None or high is None:
        return "–"
    return f"{low:{digits}} to {high:{digits}}"
