"""``mdlm llada score``: judge a file of predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_core.cli.options import Imports, Json, Out, Seed, Sets
from mdlm_llada.registry import BaseTaskSpec, get_task, import_tasks
from mdlm_llada.scoring.files import refuse_overwriting

if TYPE_CHECKING:
    from mdlm_llada.scoring.report import Report

Task = Annotated[
    str, typer.Option("--task", metavar="NAME", help="Whose answers they are.")
]
Gold = Annotated[
    Path | None,
    typer.Option(
        "--gt",
        metavar="FILE",
        help="JSON lines of what is right, if the predictions do not say.",
    ),
]
AllowMissing = Annotated[
    bool,
    typer.Option("--allow-missing", help="Leave out rows that only one file has."),
]
RunCode = Annotated[
    bool,
    typer.Option("--run-code", help="Run answers that are programs, with limits."),
]
Audit = Annotated[
    Path | None,
    typer.Option("--audit", metavar="FILE", help="Write how each answer was read."),
]


def score(
    task: Task,
    pred: Annotated[
        Path,
        typer.Option(
            "--pred", "--pred_jsonl", metavar="FILE", help="JSON lines of predictions."
        ),
    ],
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
    """Print the accuracy of a file of predictions, with its interval.

    Predictions and gold are joined by id, or else by index. A row that stands twice,
    or that has no partner, is an error. --set gives settings of the task.
    """
    refuse_overwriting([pred, gt], {"--audit": audit, "--out": out})
    import_tasks(imports or ())
    found = get_task(task)
    cfg = settings(found, sets, run_code=run_code)
    report = measure(
        found, pred, gt, cfg, allow_missing=allow_missing, seed=seed, audit=audit
    )
    card = report.card()
    if out is not None:
        write_card(out, card)
    print(json.dumps(card, indent=2) if as_json else report.text())


def settings(
    task: BaseTaskSpec, sets: list[str] | None, *, run_code: bool
) -> dict[str, Any]:
    """Return the settings of a task that the options give."""
    from mdlm_core.config.layers import set_layer

    cfg = dict(set_layer(sets or ()).tree)
    if run_code:
        cfg["run_code"] = True
    task.check(cfg)
    return cfg


def measure(
    task: BaseTaskSpec,
    pred: Path,
    gt: Path | None,
    cfg: dict[str, Any],
    *,
    allow_missing: bool,
    seed: int | None,
    audit: Path | None = None,
    also: Path | None = None,
) -> Report:
    """Return the report on a file, and write the audit if there is a place for it."""
    from mdlm_llada.scoring.report import score_files, write_audit

    report = score_files(
        task, pred, gt, cfg, allow_missing=allow_missing, seed=seed or 0, also=also
    )
    if audit is not None:
        write_audit(report, audit)
    return report


def write_card(path: Path, card: dict[str, Any]) -> None:
    """Write a result as JSON, all of it or nothing."""
    from mdlm_core.cache import write_atomic

    write_atomic(path, (json.dumps(card, indent=2) + "\n").encode())
