"""``mdlm llada eval``: score a file of predictions, or compare two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mdlm_core.cli.options import Imports, Json, Out, Seed, Sets
from mdlm_core.errors import UsageError
from mdlm_llada.registry import get_task, import_tasks
from mdlm_llada.scoring.files import refuse_overwriting

from .score import AllowMissing, Audit, Gold, RunCode, Task, measure, settings
from .score import write_card as write


def evaluate(
    task: Task,
    pred: Annotated[
        Path | None,
        typer.Option(
            "--pred", "--pred_jsonl", metavar="FILE", help="JSON lines of predictions."
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare", metavar="A B", help="Two files of predictions for one gold."
        ),
    ] = None,
    gt: Gold = None,
    sets: Sets = None,
    allow_missing: AllowMissing = False,
    run_code: RunCode = False,
    audit: Audit = None,
    out: Out = None,
    imports: Imports = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Score predictions as `score` does; with --compare, test whether B beats A.

    The comparison is paired: McNemar's exact test, and the bootstrap interval of the
    difference over rows.
    """
    if (pred is None) == (compare is None):
        raise UsageError("give either --pred FILE or --compare A B")
    refuse_overwriting([pred, gt, *(compare or ())], {"--audit": audit, "--out": out})
    import_tasks(imports or ())
    found = get_task(task)
    cfg = settings(found, sets, run_code=run_code)
    if pred is not None:
        report = measure(
            found, pred, gt, cfg, allow_missing=allow_missing, seed=seed, audit=audit
        )
        card: dict[str, Any] = report.card()
        text = report.text()
    else:
        if audit is not None:
            raise UsageError("--audit goes with --pred, not with --compare")
        assert compare is not None
        from mdlm_llada.scoring.report import (
            compare_reports,
            comparison_card,
            comparison_text,
        )

        both = [
            measure(
                *(found, path, gt, cfg),
                allow_missing=allow_missing,
                seed=seed,
                also=other,
            )
            for path, other in (compare, compare[::-1])
        ]
        paired = compare_reports(*both, seed=seed or 0, allow_missing=allow_missing)
        card = {"task": found.name, **comparison_card(paired, *both)}
        text = comparison_text(paired, *both)
    if out is not None:
        write(out, card)
    print(json.dumps(card, indent=2) if as_json else text)
