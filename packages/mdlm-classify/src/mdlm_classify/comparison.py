"""What a comparison found: a row for each model, as a table, Markdown or JSON.

Letters: N texts, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import UnknownNameError

from .metrics import LEVEL, Metrics, Paired, measure, paired

SIGNIFICANT = 1 - LEVEL
"""Below which p-value a difference is called one."""

Cells = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one model said about the test texts."""

    name: str
    summary: str
    log_posterior: NDArray[np.float64]
    """``(N, C)`` log p(class | text)."""
    fit_seconds: float
    predict_seconds: float
    unlabelled: bool = False
    """Whether it also learned from texts without labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One model, measured."""

    name: str
    summary: str
    metrics: Metrics
    fit_seconds: float
    predict_seconds: float
    against: Paired | None
    """The reference (first) and this model (second); None for the reference itself."""
    unlabelled: bool
    """Whether it also learned from texts without labels."""

    @property
    def verdict(self) -> str:
        """Whether it is better than the reference: better, worse, alike, or empty."""
        if self.against is None:
            return ""
        if self.against.p_value >= SIGNIFICANT:
            return "alike"
        return "better" if self.against.difference.value > 0 else "worse"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "summary": self.summary,
            **self.metrics.to_dict(),
            "fit_seconds": self.fit_seconds,
            "predict_seconds": self.predict_seconds,
            "against": None if self.against is None else asdict(self.against),
            "verdict": self.verdict,
            "unlabelled": self.unlabelled,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Several models that learned from the same texts, on the same test texts.

    Differences to the reference are paired by text: McNemar's exact test, and the
    bootstrap interval of the difference of accuracies. Tests of several models are not
    corrected for being several.
    """

    rows: tuple[Row, ...]
    reference: str
    labels: tuple[str, ...]
    data: Mapping[str, Any]
    """How many texts there were, and what identifies them."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "reference": self.reference,
            "labels": list(self.labels),
            "data": dict(self.data),
            "models": [row.to_dict() for row in self.rows],
        }

    def to_text(self) -> str:
        """Return the table with aligned columns, for a terminal."""
        lines = [self._head(), *(self._cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        table = "\n".join(
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        return "\n\n".join([table, *self._notes()])

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        head = self._head()
        rule = ("---", *("---:" for _ in head[1:]))
        lines = [head, rule, *(self._cells(row) for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([table, *self._notes()])

    def _notes(self) -> list[str]:
        """Return what the table does not show."""
        without = [row.name for row in self.rows if not row.unlabelled]
        if not without or not self.data.get("unlabelled"):
            return []
        return [f"{', '.join(without)} learned without the texts that have no labels."]

    def _head(self) -> Cells:
        return (
            "model",
            "accuracy %",
            f"{LEVEL:.0%} interval",
            f"less {self.reference}",
            "interval",
            "McNemar p",
            "log-loss",
            "ECE",
            "fit s",
            "predict s",
        )

    def _cells(self, row: Row) -> Cells:
        found, other = row.metrics, row.against
        accuracy = found.accuracy
        return (
            row.name,
            f"{100 * accuracy.value:.2f}",
            f"{100 * accuracy.low:.2f} to {100 * accuracy.high:.2f}",
            "" if other is None else f"{100 * other.difference.value:+.2f}",
            ""
            if other is None
            else f"{100 * other.difference.low:+.2f} to "
            f"{100 * other.difference.high:+.2f}",
            "" if other is None else _p(other.p_value),
            f"{found.log_loss:.3f}" if math.isfinite(found.log_loss) else "infinite",
            f"{found.ece:.3f}",
            _seconds(row.fit_seconds),
            _seconds(row.predict_seconds),
        )


def build(
    results: Sequence[Result],
    codes: NDArray[np.int64],
    labels: Sequence[str],
    *,
    reference: str,
    data: Mapping[str, Any],
    seed: int = 0,
) -> Comparison:
    """Measure what the models said, each against the reference.

    Args:
        results: what each model said about the same N texts.
        codes: ``(N,)`` the right classes.
        labels: the names of the C classes in order.
        reference: the name of one of the models.
        data: how many texts there were, and what identifies them.
        seed: decides the draws of the bootstrap.

    Raises:
        UnknownNameError: if the reference is none of the models.
        DataError: if a probability is NaN, or there is no text.
    """
    names = [result.name for result in results]
    if reference not in names:
        raise UnknownNameError(
            f"the reference is '{reference}', and the models are {', '.join(names)}; "
            f"name one of them"
        )
    right = {result.name: result.log_posterior.argmax(1) == codes for result in results}
    rows = tuple(
        Row(
            name=result.name,
            summary=result.summary,
            metrics=measure(codes, result.log_posterior, labels),
            fit_seconds=result.fit_seconds,
            predict_seconds=result.predict_seconds,
            unlabelled=result.unlabelled,
            against=None
            if result.name == reference
            else paired(right[reference], right[result.name], seed=seed),
        )
        for result in results
    )
    return Comparison(
        rows=rows, reference=reference, labels=tuple(labels), data=dict(data)
    )


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
