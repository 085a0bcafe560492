"""Scores of rows as text, CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import STATE_OF, decode
from mdlm_msa.laws import background_law, nats, pssm, substitution_law

from .residues import Gaps
from .rows import Floats, RowScores, Target
from .tables import LINES, csv_text, finite


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RowReport:
    """Scores of the rows of a file."""

    alignment: Alignment
    """What was read."""
    rows: np.ndarray
    """``(K,)`` which of its rows were scored, from 0, the query; what is written
    counts from 1."""
    targets: Sequence[Target]
    """``(K,)`` each with what was shown."""
    scores: RowScores
    gaps: Gaps
    draws: int
    alone: Sequence[Floats] = ()
    """Of each scored row ``(n, 20 or 21)`` log2-probabilities of each position given
    all the rest, over the scored positions of the row; empty if not asked for."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """The model, the file and settings."""

    def baselines(self) -> dict[str, float]:
        """Return bits per residue of simple laws on the same homologues.

        Over the residues alone, given where gaps are, so that they compare with scores
        of ``gaps="given"``. Empty if no homologue was scored.
        """
        homologues = [t for t, row in zip(self.targets, self.rows, strict=True) if row]
        if self.gaps != "given" or not homologues:
            return {}
        query = STATE_OF[self.alignment.rows[0]]
        plain, substituted = background_law(len(query)), substitution_law(query)
        laws = [
            ("background", [plain] * len(homologues)),
            ("BLOSUM62 given the query", [substituted] * len(homologues)),
        ]
        if any(len(target.given) > 1 for target in homologues):
            profiles = [pssm(STATE_OF[target.given]) for target in homologues]
            laws.append(("PSSM of the rows shown", profiles))
        found = {}
        for name, each in laws:
            pairs = [
                nats(law, STATE_OF[target.row[None]])
                for law, target in zip(each, homologues, strict=True)
            ]
            total, count = np.concatenate(pairs, 1).sum(1)
            if count:
                found[name] = float(total / count / math.log(2))
        return found

    @property
    def _scored(self) -> int:
        """The homologues that had something to score."""
        return int(((self.rows > 0) & (self.scores.count > 0)).sum())

    def card(self) -> dict[str, Any]:
        """Return everything but positions, for JSON."""
        mean, error = self.scores.mean(self.rows > 0)
        return {
            **self.facts,
            "gaps": self.gaps,
            "draws": self.draws,
            "homologues": {
                "rows": self._scored,
                "bits_per_residue": finite(mean),
                "se": finite(error),
                "baselines": self.baselines(),
            },
            "rows": [
                {
                    **dict(zip(_ROW[:4], line[:4], strict=True)),
                    **{n: finite(v) for n, v in zip(_ROW[4:], line[4:], strict=True)},
                }
                for line in self._lines()
            ],
        }

    def _lines(self) -> list[list[Any]]:
        found = self.scores
        return [
            [
                int(row) + 1,
                self.alignment.headers[row],
                int(found.count[index]),
                int(found.given[index]),
                float(found.per_residue[index]),
                float(found.per_residue_se[index]),
                float(found.bits[index]),
            ]
            for index, row in enumerate(self.rows)
        ]

    def csv(self, *, positions: bool = False) -> str:
        """Return one line a row, or one a scored position.

        Of a position that no draw hid, bits are empty; without laws given all the
        rest, so are their fields.
        """
        return csv_text([_POSITION, *self._positions()] if positions else self._table())

    def never_hidden(self) -> tuple[int, int]:
        """Return the scored positions that no draw hid, and all scored positions."""
        scored = ~np.isnan(self.scores.per_position)
        never = scored & (self.scores.hidden == 0)
        return int(never.sum()), int(scored.sum())

    def _table(self) -> list[Sequence[Any]]:
        return [_ROW, *self._lines()]

    def _positions(self) -> list[list[Any]]:
        lines = []
        for index, row in enumerate(self.rows):
            ids = self.alignment.rows[row]
            each = self.scores.per_position[index]
            scored = np.flatnonzero(~np.isnan(each))
            letters = decode(ids)
            laws = self.alone[index] if len(self.alone) else None
            for place, column in enumerate(scored):
                times = int(self.scores.hidden[index][column])
                bits = each[column] if times else None
                error = self.scores.per_position_se[index][column] if times else None
                line = [int(row) + 1, self.alignment.headers[row], int(column) + 1]
                line += [letters[column], bits, error]
                if laws is None:
                    line += [None, None]
                else:
                    law = laws[place]
                    line += [-law[STATE_OF[ids[column]]], entropy(law)]
                line.append(times)
                lines.append(line)
        return lines

    def text(self) -> str:
        """Return a table, and the mean beside simple laws."""
        unit = "residue" if self.gaps == "given" else "column"
        lines = [f"{'row':>6}  {'scored':>6}  {'shown':>5}  bits/{unit:<12}  name"]
        for row, name, count, given, rate, error, _ in self._lines()[:LINES]:
            value = f"{rate:.3f} ± {error:.3f}" if count else "nothing to score"
            what = "(the query) " if row == 1 else ""
            lines.append(
                f"{row:>6}  {count:>6}  {given:>5}  {value:<17}  {what}{name[:60]}"
            )
        if len(self.rows) > LINES:
            lines.append(f"... and {len(self.rows) - LINES} more: --out FILE.csv")
        mean, error = self.scores.mean(self.rows > 0)
        if self._scored and not math.isnan(mean):
            what = f"{self._scored} homologue{'s' * (self._scored > 1)}"
            lines += ["", f"{what}: {mean:.3f} ± {error:.3f} bits/{unit}"]
            lines += [
                f"  {value:.3f}  {name}" for name, value in self.baselines().items()
            ]
        return "\n".join(lines)


_ROW = ("row", "name", "scored", "given", "bits_per_residue", "se", "bits")
_POSITION = (
    *("row", "name", "column", "letter", "bits", "se", "alone", "entropy"),
    "hidden",
)


def entropy(law: Floats) -> float:
    """Return the bits of uncertainty of log2-probabilities ``(A,)``."""
    return float(-(np.exp2(law) * law).sum())
