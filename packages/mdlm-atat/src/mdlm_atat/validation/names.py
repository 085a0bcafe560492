"""Check 1: every name is known, and the settings of every run hold up. Light."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from mdlm_atat.ablation.plan import Job
from mdlm_atat.datasets import DatasetManager
from mdlm_atat.variants import find_variant
from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import KIND_OF_FIELD
from mdlm_core.errors import MdlmError

from .report import Finding, failed, passed
from .subject import Subject


def names(subject: Subject, manager: DatasetManager) -> Iterator[Finding]:
    """Look up phase, data sets, preset and variants, and resolve every run."""
    phase = subject.phase
    files = ", ".join(str(path) for path in manager.files[1:])
    yield passed(
        f"phase {phase.id}: {', '.join(one.label for one in phase.configs())}, preset "
        f"{phase.preset}" + (f"; registry changed by {files}" if files else "")
    )
    for name in phase.variants:
        try:
            find_variant(name)
        except MdlmError as error:
            yield failed(str(error), f"correct variants of {phase.id}")
            return
    try:
        jobs = subject.jobs()
    except MdlmError as error:
        yield failed(str(error), f"correct the settings of {phase.id}")
        return
    missing = sorted({text for job in jobs for text in _missing(job, subject.catalog)})
    for text in missing:
        yield failed(text, "install what is missing, or choose another component")
    if not missing:
        yield passed(
            f"{len(jobs)} runs resolve: {', '.join(v.name for v in subject.variants)}; "
            f"seeds {', '.join(map(str, phase.seeds))}"
        )


def _missing(job: Job, catalog: Catalog) -> Iterator[str]:
    """Yield the components of a run whose modules are not installed."""
    for section, kind in KIND_OF_FIELD.items():
        spec = catalog.component(kind, getattr(job.config, section).name)
        for module in spec.requires:
            if find_spec(module) is None:
                yield (
                    f"{kind} '{spec.name}' needs the module '{module}', which is not "
                    f"installed (pip install '{spec.extra or module}')"
                )
