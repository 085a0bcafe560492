"""``mdlm atat validate``: eight checks of a phase before anything is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mdlm_atat.datasets import get_dataset_manager
from mdlm_atat.variants import Variant, find_variants
from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, Imports, Json, Sets, Tiny
from mdlm_core.cli.tables import print_table
from mdlm_core.errors import MdlmError, UsageError

if TYPE_CHECKING:
    from mdlm_atat.datasets import PhaseConfig
    from mdlm_atat.validation import Check
    from mdlm_atat.validation.subject import Subject

PhaseName = Annotated[
    str,
    typer.Option(
        "--phase", metavar="P", help="One of 'mdlm atat datasets ls --phases'."
    ),
]
VariantNames = Annotated[
    list[str] | None,
    typer.Option(
        "--variant", metavar="V", help="Only this one; may be repeated. Default: all."
    ),
]
OwnPreset = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="Instead of the phase's preset."),
]


def validate(
    phase: PhaseName,
    variant: VariantNames = None,
    preset: OwnPreset = None,
    sets: Sets = None,
    imports: Imports = None,
    tiny: Tiny = False,
    device: Device = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A warning fails as well.")
    ] = False,
    budget_minutes: Annotated[
        float | None,
        typer.Option(metavar="M", min=0, help="How long all runs together may take."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a phase before it is trained: names, data, tokens, a step, the maths.

    Then what it will cost, whether its variants compare, and whether a step repeats
    itself bit by bit. Each check says what it saw and what to do. Exits with 1 if one
    fails, with 2 if a name or a setting on the command line is wrong.
    """
    catalog = load_catalog(*(imports or ()))
    manager = get_dataset_manager()
    found = manager.get_phase_config(phase)
    if preset is not None:
        found = replace(found, preset=catalog.preset(preset).name)
    variants = _chosen(found, variant)

    from mdlm_atat.validation import validate as check
    from mdlm_atat.validation.subject import Subject

    given = sets or []
    subject = Subject(catalog, found, variants, sets=given, tiny=tiny, device=device)
    _refuse_settings(subject, Subject(catalog, found, variants, tiny=tiny))
    report = check(
        subject,
        manager,
        budget_minutes=budget_minutes,
        tell=None if as_json else _tell,
    )
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        counts = [check.status for check in report.checks]
        told = ", ".join(
            f"{counts.count(status)} {status}"
            for status in dict.fromkeys(("pass", "warn", "fail", "skip"))
            if status in counts
        )
        print(f"\n{report.phase}: {told}")
    if report.failed(strict):
        raise typer.Exit(1)


def _chosen(phase: PhaseConfig, names: list[str] | None) -> list[Variant]:
    """Return the variants that were asked for, or all of the phase."""
    return find_variants(names or phase.variants)


def _refuse_settings(subject: Subject, plain: Subject) -> None:
    """Refuse settings of the command line that do not hold up, as usage.

    Raises:
        MdlmError: what is wrong with them. What is wrong without them is a finding.
    """
    try:
        subject.jobs()
    except MdlmError as error:
        try:
            plain.jobs()
        except MdlmError:
            return
        if error.exit_code == UsageError.exit_code:
            raise
        raise UsageError(str(error)) from error


def _tell(check: Check) -> None:
    """Print a check as soon as it is done."""
    from mdlm_atat.validation.report import text_rows

    print_table([(f"{a:<14}", f"{b:<4}", c) for a, b, c in text_rows([check])])
