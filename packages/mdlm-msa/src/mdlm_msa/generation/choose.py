"""Keep some of many new rows: diverse and likely, or by scores of the user's own.

Letters: n rows, k of them kept, L columns.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError, UsageError
from mdlm_msa.alphabet import STATE_OF, Ids
from mdlm_msa.identity import identity_all

from .generate import Generated

LIKELY = 0.5
"""Weight of likelihood beside diversity."""


def diverse(
    states: Ids, cost: NDArray[np.float64], count: int, *, weight: float = LIKELY
) -> NDArray[np.int64]:
    """Return k rows, each as far as can be from those before it, and likely.

    The first is the least costly. Then always the row with the largest ``d + w (1 -
    rank / (n - 1))``: d is its distance 1 - id_L to the nearest row that is kept, rank
    its place by cost from 0, and ties go to the first.

    Args:
        states: ``(n, L)``.
        cost: ``(n,)``, such as nats per residue; a row that is not finite comes last.
        count: k.
        weight: w; 0 looks at diversity alone once the first row is chosen.

    Returns:
        ``(min(k, n),)`` in the order of choice.
    """
    n = len(states)
    order = np.argsort(np.where(np.isfinite(cost), cost, np.inf), kind="stable")
    likely = np.empty(n)
    likely[order] = 1 - np.arange(n) / max(n - 1, 1)
    chosen: list[int] = []
    distance = np.ones(n)
    taken = np.zeros(n, bool)
    for _ in range(min(count, n)):
        value = likely if not chosen else distance + weight * likely
        best = int(np.where(taken, -np.inf, value).argmax())
        chosen.append(best)
        taken[best] = True
        near = identity_all(states[best : best + 1], states)[0]
        distance = np.minimum(distance, 1 - near)
    return np.array(chosen, np.int64)


def best(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the k rows with the highest scores ``(n,)``; nan comes last."""
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
    return order[:count].astype(np.int64)


def chosen(
    found: Generated, count: int, scores: Sequence[float] | None = None
) -> Generated:
    """Return new rows with k of them, in the order of choice.

    Args:
        found: with likelihoods, unless there are `scores`.
        count: k.
        scores: one for each row, the higher the better, such as the pLDDT of a folding
            run; None chooses by diversity and likelihood.

    Raises:
        UsageError: if there is not one score for each row, or no likelihood.
    """
    if scores is None:
        cost = np.array([row.nats_per_residue for row in found.rows])
        if not np.isfinite(cost).any():
            raise UsageError(
                "to choose rows by likelihood they must have one; set draws to 1 or "
                "more, or give scores"
            )
        places = diverse(STATE_OF[found.alignment.rows[1:]], cost, count)
    else:
        if len(scores) != len(found.rows):
            raise UsageError(
                f"there are {len(scores)} scores for {len(found.rows)} new rows; give "
                f"one for each"
            )
        places = best(np.asarray(scores, np.float64), count)
    return replace(
        found,
        alignment=found.alignment.select(np.concatenate([[0], places + 1])),
        rows=tuple(found.rows[i] for i in places),
        notes=(*found.notes, f"{len(places)} of {len(found.rows)} rows were kept"),
    )


def read_scores(
    path: Path, headers: Sequence[str], *, row_column: str = "", column: str = ""
) -> NDArray[np.float64]:
    """Return a score ``(n,)`` for each row from a table; nan for a row without.

    Args:
        path: CSV or TSV with a line of names.
        headers: of the rows; a line is about the row whose header, or the first word of
            it, stands in `row_column`.
        row_column: empty takes the first column.
        column: of the scores; empty takes the second column.

    Raises:
        DataError: if a column, a row or a number is wrong, with the line.
        UsageError: if it is no file.
    """
    if not path.is_file():
        raise UsageError(f"there is no file of scores '{path}'")
    text = path.read_text(encoding="utf-8-sig")
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    lines = csv.DictReader(text.splitlines(), delimiter=delimiter)
    names = list(lines.fieldnames or ())
    if len(names) < 2:
        raise DataError(f"'{path}' needs a line of names and two columns at least")
    row_column, column = row_column or names[0], column or names[1]
    for name in (row_column, column):
        if name not in names:
            raise DataError(f"'{path}' has no column '{name}'; it has {names}")
    known = {header: i for i, header in reversed(list(enumerate(headers)))}
    known |= {
        header.split()[0]: i
        for i, header in reversed(list(enumerate(headers)))
        if header.split()
    }
    scores = np.full(len(headers), np.nan)
    for line in lines:
        name, value = line[row_column] or "", line[column] or ""
        if name not in known:
            raise DataError(
                f"'{path}', line {lines.line_num}: no row has the header '{name}'"
            )
        try:
            scores[known[name]] = float(value)
        except ValueError:
            raise DataError(
                f"'{path}', line {lines.line_num}: the score '{value}' is no number"
            ) from None
    return scores
