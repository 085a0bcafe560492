"""What a validation found. Light: imports nothing heavy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mdlm_core.errors import MdlmError

Status = Literal["skip", "pass", "warn", "fail"]
_WORSE: tuple[Status, ...] = ("skip", "pass", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    status: Status
    seen: str
    """What was seen, with the numbers."""
    fix: str = ""
    """What to do about it; empty if nothing."""


@dataclass(frozen=True, slots=True)
class Check:
    """One of the eight checks, done."""

    number: int
    name: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def status(self) -> Status:
        """The worst of its findings."""
        return worst(finding.status for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of a phase, in order."""

    phase: str
    variants: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        """The worst of its checks."""
        return worst(check.status for check in self.checks)

    def failed(self, strict: bool = False) -> bool:
        """Return whether something failed; if `strict`, a warning is enough."""
        return self.status == "fail" or (strict and self.status == "warn")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "phase": self.phase,
            "variants": list(self.variants),
            "status": self.status,
            "checks": [
                {
                    "number": check.number,
                    "name": check.name,
                    "status": check.status,
                    "seconds": round(check.seconds, 3),
                    "findings": [asdict(finding) for finding in check.findings],
                }
                for check in self.checks
            ],
        }


def passed(seen: str) -> Finding:
    """Return what is all right."""
    return Finding("pass", seen)


def warned(seen: str, fix: str = "") -> Finding:
    """Return what may be meant so, but should be known."""
    return Finding("warn", seen, fix)


def failed(seen: str, fix: str = "") -> Finding:
    """Return what is wrong."""
    return Finding("fail", seen, fix)


def skipped(seen: str, fix: str = "") -> Finding:
    """Return what could not, or need not, be looked at."""
    return Finding("skip", seen, fix)


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst of some statuses; of none it is ``skip``."""
    return max(statuses, key=_WORSE.index, default="skip")


def conduct(number: int, name: str, look: Callable[[], Iterable[Finding]]) -> Check:
    """Do a check; what goes wrong inside it is a finding, not the end.

    With ``MDLM_DEBUG=1`` an error that is not addressed to a user is raised.
    """
    start = time.perf_counter()
    findings: list[Finding] = []
    try:
        findings.extend(look())
    except MdlmError as error:
        findings.append(failed(str(error)))
    except Exception as error:
        if os.environ.get("MDLM_DEBUG") == "1":
            raise
        findings.append(
            failed(
                f"{type(error).__name__}: {error}",
                "this is unexpected; MDLM_DEBUG=1 shows where",
            )
        )
    return Check(number, name, tuple(findings), time.perf_counter() - start)


def text_rows(checks: Sequence[Check]) -> list[tuple[str, str, str]]:
    """Return the rows of a table: check, status, what was seen and what to do."""
    rows: list[tuple[str, str, str]] = []
    for check in checks:
        head = f"{check.number} {check.name}"
        for finding in check.findings or (skipped("nothing to look at"),):
            rows.append((head, finding.status, finding.seen))
            if finding.fix:
                rows.append(("", "", f"-> {finding.fix}"))
            head = ""
    return rows
