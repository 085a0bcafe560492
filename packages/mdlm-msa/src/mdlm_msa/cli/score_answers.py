"""What ``mdlm msa score`` computes, as text, CSV and JSON. Heavy imports inside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from mdlm_core.errors import UsageError

if TYPE_CHECKING:
    from mdlm_core.train import LoadedRun
    from mdlm_msa.alignment import Alignment
    from mdlm_msa.scoring.shown import Shown
    from mdlm_msa.scoring.variants import Numbering, Variant

_EVERY = 10.0
"""Seconds between lines of progress."""

Answer = tuple[Callable[[], str], Callable[[], str], Callable[[], dict[str, Any]]]
"""The text, the CSV and the JSON of a result."""


def of_rows(
    loaded: LoadedRun,
    alignment: Alignment,
    shown: Shown,
    gaps: Any,
    positions: bool,
    uncertainty: bool,
    facts: dict[str, Any],
    common: dict[str, Any],
) -> Answer:
    """Score the rows of an alignment."""
    import numpy as np

    from mdlm_msa.scoring.report import RowReport
    from mdlm_msa.scoring.rows import laws_alone, score_rows

    # A model of one family takes its query in the first row, so never below homologues.
    settings = loaded.config.model.config
    first = 1 if getattr(settings, "columns", 0) else 0
    if first == alignment.depth:
        raise UsageError(
            "a model of one family scores rows given its query, and the file has the "
            "query alone; give rows, or a model that was trained without --family"
        )
    numbers = np.arange(first, alignment.depth)
    targets = [
        shown.target(alignment.rows[index], is_query=index == 0) for index in numbers
    ]
    with _progress(len(targets), "rows") as done:
        found = score_rows(
            loaded.backbone,
            targets,
            gaps=gaps,
            schedule=loaded.schedule,
            done=done,
            **common,
        )
    alone = []
    if uncertainty:
        with _progress(int(found.count.sum()), "positions") as done:
            for target, each in zip(targets, found.per_position, strict=True):
                columns = np.flatnonzero(~np.isnan(each)).tolist()
                laws = laws_alone(
                    loaded.backbone,
                    target,
                    columns,
                    gaps=gaps,
                    batch=common["batch"],
                    schedule=loaded.schedule,
                    done=done,
                )
                alone.append(laws)
    report = RowReport(
        alignment=alignment,
        rows=numbers,
        targets=targets,
        scores=found,
        gaps=gaps,
        draws=common["draws"],
        alone=alone,
        facts={**facts, "notes": dict(alignment.notes)},
    )
    if positions:
        never, scored = report.never_hidden()
        if never:
            print(
                f"note: {never} of {scored} positions were hidden in none of the "
                f"{common['draws']} draws, so that their bits are not known and left "
                f"empty; raise --draws",
                file=sys.stderr,
            )
    return report.text, lambda: report.csv(positions=positions), report.card


def of_variants(
    loaded: LoadedRun,
    shown: Shown,
    query: Numbering,
    listed: list[Variant],
    method: Any,
    facts: dict[str, Any],
    common: dict[str, Any],
) -> Answer:
    """Score variants of the query."""
    from mdlm_msa.scoring.effects import score_variants
    from mdlm_msa.scoring.effects_report import (
        effects_card,
        effects_csv,
        effects_text,
    )

    # as a homologue: the query is among what is shown
    given = shown.target(shown.query).given
    if method == "nelbo":
        what, total = "variants in a draw", common["draws"] * len(listed)
    else:
        what, total = "positions", len({c for each in listed for c in each.columns})
    with _progress(total, what) as done:
        effects = score_variants(
            loaded.backbone,
            shown.query,
            listed,
            given,
            method=method,
            schedule=loaded.schedule,
            done=done,
            **common,
        )
    return (
        lambda: effects_text(effects, query),
        lambda: effects_csv(effects),
        lambda: effects_card(effects, facts),
    )


@contextmanager
def _progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Show time left on a terminal; elsewhere say every ten seconds how far it is."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        yield _Lines(total, unit).update
        return
    with tqdm(total=total or None, unit=f" {unit}", leave=False) as bar:
        yield bar.update


class _Lines:
    """Progress where a bar would be many lines."""

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit, self.count = total, unit, 0
        self.said = monotonic()

    def update(self, count: int) -> None:
        """Count, and say so if ten seconds have passed."""
        self.count += count
        if monotonic() - self.said >= _EVERY:
            self.said = monotonic()
            line = f"{self.count:,} of {self.total:,} {self.unit}"
            print(line, file=sys.stderr, flush=True)
