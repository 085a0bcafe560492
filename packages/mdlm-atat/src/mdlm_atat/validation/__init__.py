"""Eight checks of a phase before anything is trained. Light at import."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .report import Check, Finding, Report, Status

if TYPE_CHECKING:
    from mdlm_atat.datasets import DatasetManager

    from .subject import Subject

__all__ = ["NAMES", "Check", "Finding", "Report", "Status", "validate"]

NAMES = (
    "names",
    "data",
    "tokens",
    "step",
    "maths",
    "probe",
    "comparable",
    "determinism",
)
"""The checks, in order; their numbers begin at 1."""


def validate(
    subject: Subject,
    manager: DatasetManager,
    *,
    budget_minutes: float | None = None,
    tell: Callable[[Check], None] | None = None,
) -> Report:
    """Do the eight checks of a phase, in order.

    What fails does not end it: the others are still made, as far as they can be. Only
    if the names and settings do not hold up is nothing else looked at.

    Args:
        subject: the phase and what is asked of it.
        manager: the registry that the phase comes from.
        budget_minutes: how long all runs together may take.
        tell: called with each check when it is done.
    """
    from .comparable import comparable
    from .data import data
    from .maths import maths
    from .names import names
    from .probe import probe
    from .report import conduct, skipped
    from .step import repeats, training_step
    from .tokens import tokens

    looks: tuple[Callable[[], Iterable[Finding]], ...] = (
        lambda: names(subject, manager),
        lambda: data(subject),
        lambda: tokens(subject),
        lambda: training_step(subject),
        lambda: maths(subject),
        lambda: probe(subject, budget_minutes),
        lambda: comparable(
            subject.configs(), {each.name: each for each in subject.variants}
        ),
        lambda: repeats(subject),
    )
    checks: list[Check] = []
    for number, (name, look) in enumerate(zip(NAMES, looks, strict=True), 1):
        if checks and checks[0].status == "fail":
            why = skipped("the settings do not hold up; see the first check")
            done = Check(number, name, (why,), 0.0)
        else:
            done = conduct(number, name, look)
        checks.append(done)
        if tell is not None:
            tell(done)
    names_of = tuple(each.name for each in subject.variants)
    return Report(subject.phase.id, names_of, tuple(checks))
