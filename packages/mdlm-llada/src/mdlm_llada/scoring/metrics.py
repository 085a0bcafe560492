"""Judge joined predictions. Light: imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import fmean

from mdlm_core.errors import DataError
from mdlm_llada.registry import BaseTaskSpec, Settings, Verdict

from .join import Item, Joined

PASS_AT = (1, 2, 5, 10, 20, 50, 100)
"""The k of pass@k that are told, as far as there are so many samples."""
EFFORT = ("nfe", "tokens_per_forward")
"""What `meta` may say about the effort of a row; averaged beside the accuracy."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One row and its verdicts, one for each sample."""

    key: str
    verdicts: tuple[Verdict, ...]
    item: Item

    @property
    def score(self) -> float:
        """The share of samples that are right."""
        return fmean(verdict.correct for verdict in self.verdicts)


@dataclass(frozen=True, slots=True)
class Totals:
    """What is counted over rows."""

    total: int
    correct: float
    accuracy: float
    extraction_rate: float
    """The share of predictions in which an answer was found."""
    numbers: dict[str, float] = field(default_factory=dict)
    """More means: the task's own, pass@k, the effort."""


def judge_all(task: BaseTaskSpec, joined: Joined, cfg: Settings) -> list[Scored]:
    """Return the verdicts on all rows, in the order of the predictions.

    Args:
        task: judges.
        joined: the rows.
        cfg: the task's settings; for tasks that run code `run_code` must be true, and
            `jobs` is how many programs run at once.

    Raises:
        UsageError: if the task runs code and that is not allowed.
        DataError: if a gold is not of the task's form; it names the row.
    """
    task.require_code(cfg)

    def judge(item: Item) -> Scored:
        try:
            verdicts = tuple(task.judge(p, item.gold, cfg) for p in item.predictions)
        except DataError as error:
            raise DataError(f"{item.where or item.key}: {error}") from None
        return Scored(item.key, verdicts, item)

    if not task.runs_code:
        return [judge(item) for item in joined.items]
    with ThreadPoolExecutor(max_workers=int(cfg.get("jobs", 2))) as pool:
        return list(pool.map(judge, joined.items))


def totals(rows: Sequence[Scored]) -> Totals:
    """Return the sums and means over rows.

    Raises:
        DataError: if there is no row.
    """
    if not rows:
        raise DataError("there is no row to score")
    verdicts = [verdict for row in rows for verdict in row.verdicts]
    found = fmean(verdict.extracted is not None for verdict in verdicts)
    correct = sum(row.score for row in rows)
    numbers: dict[str, float] = {}
    for name in sorted({name for verdict in verdicts for name in verdict.numbers}):
        values = [v.numbers[name] for v in verdicts if name in v.numbers]
        numbers[name] = fmean(values)
    numbers.update(_passes(rows))
    for name in EFFORT:
        said = [row.item.meta.get(name) for row in rows]
        known = [float(v) for v in said if isinstance(v, int | float)]
        if len(known) == len(rows):
            numbers[name] = fmean(known)
    return Totals(len(rows), correct, correct / len(rows), found, numbers)


def _passes(rows: Sequence[Scored]) -> Iterator[tuple[str, float]]:
    fewest = min(len(row.verdicts) for row in rows)
    if fewest < 2:
        return
    for k in PASS_AT:
        if k <= fewest:
            values = [
                pass_at(k, len(row.verdicts), sum(v.correct for v in row.verdicts))
                for row in rows
            ]
            yield f"pass@{k}", fmean(values)


def pass_at(k: int, samples: int, right: int) -> float:
    """Return the chance that k of the samples, drawn without order, have a right one.

    ``1 - C(n - c, k) / C(n, k)``, which is unbiased for the chance that one of k new
    samples is right (Chen et al., arXiv 2107.03374, equation 1).
    """
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)
