"""``mdlm atat ablate``: train and compare the variants of a phase."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdlm_atat.variants import sets_data
from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, DryRun, Imports, Sets, Tiny
from mdlm_core.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from mdlm_atat.ablation.measure import Extras
    from mdlm_atat.ablation.plan import Job, Phase
    from mdlm_atat.datasets import DatasetConfig

TINY_ROWS, TINY_DRAWS = 32, 4


def ablate(
    phase: Annotated[
        str,
        typer.Option(metavar="P", help="One of 'mdlm atat datasets ls --phases'."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where rows, runs and report go.")
    ],
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="How many seeds; default: phase's.")
    ] = None,
    variants: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these variants.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of the phase's preset.")
    ] = None,
    sets: Sets = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="The same as --set train.steps=N.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="J",
            help="Runs at once, each in a process; 0: in this one. Default: 1, or 0 "
            "with --tiny.",
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(metavar="N", help="Held-out windows to score; 0: all."),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(metavar="N", help="Draws for each window.")
    ] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also sample in every order (first seed).")
    ] = False,
    plots: Annotated[
        bool, typer.Option("--plots/--no-plots", help="Draw the figures.")
    ] = True,
    tiny: Tiny = False,
    device: Device = None,
    imports: Imports = None,
    dry_run: DryRun = False,
) -> None:
    """Train every variant with every seed, score all by one bound, write a report.

    The same command goes on where it stopped: finished runs are not made again, and
    one that was killed goes on from its checkpoint. Another setting makes new runs
    beside the old ones. Settings of masking go to the variants that have the policy.
    """
    given = [*(sets or ()), *([] if steps is None else [f"train.steps={steps}"])]
    own_data = sets_data(given)
    from mdlm_atat.ablation.plan import make_jobs
    from mdlm_atat.datasets import get_dataset_manager, to_sets

    catalog = load_catalog(*(imports or ()))
    found = get_dataset_manager().get_phase_config(phase)
    windows, each = rows, draws
    if windows is None:
        windows = TINY_ROWS if tiny else found.eval_windows
    if each is None:
        each = TINY_DRAWS if tiny else found.eval_draws
    if windows < 0 or windows == 1 or each < 2:
        raise UsageError(
            f"--rows is {windows} and --draws is {each}; an interval needs 2 windows "
            f"(0 means all) and 2 draws, or more"
        )
    if (jobs or 0) < 0:
        raise UsageError(f"--jobs is {jobs}; it must be 0 or more")
    wanted = _phase(
        found.id, preset or found.preset, variants, found.variants, seeds, found.seeds
    )
    # Settings are checked before any text is prepared.
    whole = replace(wanted, sets=tuple(to_sets(found)))
    planned = make_jobs(catalog, whole, sets=given, tiny=tiny)
    if dry_run:
        _plan(planned)
        return

    held_out: DatasetConfig | None = None
    text = ""
    if own_data:
        note = "the data were set by hand; runs are scored on what is held out of them"
    else:
        from mdlm_atat.datasets.disjoint import check_disjoint
        from mdlm_atat.datasets.prepare import prepare_phase

        found = prepare_phase(found, tell=print)
        held_out, manifest = found.val_dataset, found.dataset.manifest
        assert manifest is not None  # it was just prepared
        text = manifest["sha256"]
        note = f"{found.dataset.name} {found.replaced}" if found.replaced else ""
        note = "; ".join(filter(None, (note, check_disjoint(found, tell=print))))
    from mdlm_atat.ablation.measure import Stopped
    from mdlm_atat.ablation.report import write_report
    from mdlm_atat.ablation.run import ablate as run
    from mdlm_atat.ablation.score import Scoring

    stopped: Stopped | None = None
    try:
        run(
            catalog,
            replace(wanted, sets=tuple(to_sets(found)), text_sha256=text, note=note),
            out,
            scoring=Scoring(rows=windows, draws=each),
            extras=_extras(quality, tiny),
            held_out=held_out,
            sets=given,
            tiny=tiny,
            jobs=(0 if tiny else 1) if jobs is None else jobs,
            device=device,
            imports=imports or (),
            say=print,
        )
    except Stopped as error:
        stopped = error
    path, drawn = write_report(out, draw=plots)
    print(drawn)
    print(f"report: {path}")
    if stopped is not None:
        print(
            f"stopped by {stopped.received.name}; the same command goes on",
            file=sys.stderr,
        )
        raise typer.Exit(128 + stopped.received)
    _check(out)


def _phase(
    name: str,
    preset: str,
    variants: str | None,
    its_variants: tuple[str, ...],
    seeds: int | None,
    its_seeds: tuple[int, ...],
) -> Phase:
    """Return what is compared, with the options in place of the phase's own."""
    from mdlm_atat.ablation.plan import Phase

    names = its_variants
    if variants is not None:
        names = tuple(part.strip() for part in variants.split(",") if part.strip())
        if not names:
            raise UsageError("--variants names none; leave it out for the phase's own")
    chosen = list(its_seeds)
    if seeds is not None:
        if seeds < 1:
            raise UsageError(f"--seeds is {seeds}; it must be 1 or more")
        following = max(chosen, default=-1) + 1
        chosen = [*chosen, *range(following, following + seeds)][:seeds]
    return Phase(name=name, preset=preset, variants=names, seeds=tuple(chosen))


def _extras(quality: bool, tiny: bool) -> Extras:
    from mdlm_atat.ablation.measure import Extras

    if not tiny:
        return Extras(quality=quality)
    return Extras(quality=quality, samples=4, steps=(2, 8), entropy_bounds=(1.0,))


def _plan(jobs: Sequence[Job]) -> None:
    """Say what would be run."""
    from mdlm_core.cli.tables import print_table

    lines = [("variant", "seed", "steps", "settings", "what")]
    for job in jobs:
        steps = "as measured" if job.waits else str(job.config.train.steps)
        mark = "" if job.waits else job.hash
        what = job.variant.description
        lines.append((job.variant.name, str(job.seed), steps, mark, what))
    print_table(lines)


def _check(out: Path) -> None:
    """Exit with 1 if a run of the plan failed."""
    from mdlm_atat.ablation.report import build
    from mdlm_atat.ablation.rows import DONE, AblationFolder

    report = build(AblationFolder(out))
    runs = [run for entry in report["variants"] for run in entry["runs"]]
    missing = sum(run["status"] != DONE for run in runs)
    if missing:
        raise TrainingError(
            f"{missing} of {len(runs)} runs are not done; see '{out / 'report.md'}'. "
            f"The same command tries them again"
        )
