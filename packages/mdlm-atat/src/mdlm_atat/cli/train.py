"""``mdlm atat train``: one run of a phase, in the original's spelling."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mdlm_atat.config import AtatConfig
from mdlm_atat.datasets import DatasetManager, PhaseConfig, get_dataset_manager, to_sets
from mdlm_atat.original import Original, translate
from mdlm_atat.original_keys import NEEDS
from mdlm_atat.variants import Variant, find_variant, sets_data
from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.cli.options import (
    Device,
    DryRun,
    DumpConfig,
    Imports,
    Out,
    Resume,
    Seed,
    Sets,
    Tiny,
)
from mdlm_core.config import RunConfig, resolve
from mdlm_core.config.describe import describe_run
from mdlm_core.errors import UsageError

DEFAULT = "full"
"""The variant where none is named."""
_TINY = ("train.", "data.length")
"""What ``--tiny`` decides of a phase's settings."""


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="phase=P variant=V preset=STAGE, and settings: the original's "
            "(use_curriculum=false, dim=256) or ours (train.steps=500).",
        ),
    ] = None,
    sets: Sets = None,
    imports: Imports = None,
    tiny: Tiny = False,
    seed: Seed = None,
    out: Out = None,
    resume: Resume = False,
    device: Device = None,
    dry_run: DryRun = False,
    dump_config: DumpConfig = False,
) -> None:
    """Train one variant of a phase; the result is a run folder.

    The words of the original's scripts are translated, the phase's text is prepared,
    and the run is that of 'mdlm train' with the settings that are printed first.
    Without variant= it is full.
    """
    from mdlm_core.cli.train import train as start

    catalog = load_catalog(*(imports or ()))
    named = translate(arguments or (), _Anything())
    given = [*(sets or ()), *([] if seed is None else [f"seed={seed}"])]
    preset = None
    if not resume or named.phase is not None or named.variant is not None:
        manager = get_dataset_manager(named.preset)
        phase, variant = _chosen(named, manager)
        base = _resolve(catalog, phase, variant, [], tiny)
        ours = [setting.path for setting in describe_run(base)]
        original = translate(arguments or (), ours)
        given = [*_fitting(original, variant), *given]
        config = _resolve(catalog, phase, variant, given, tiny)
        _check_needs(original, variant, config)
        if not dump_config and not sets_data(given):
            from mdlm_atat.datasets.disjoint import check_disjoint
            from mdlm_atat.datasets.prepare import prepare_phase

            phase = prepare_phase(phase, tell=print)
            check_disjoint(phase, tell=print)
        given = settings_of_run(phase, variant, given, tiny)
        preset = phase.preset
    else:
        given = [*named.sets, *given]
    command = _command(preset, given, tiny, out, resume, imports)
    print(f"# {command}" if dump_config else command)
    start(
        preset=preset,
        sets=given,
        imports=imports,
        tiny=tiny,
        out=out,
        resume=resume,
        device=device,
        dry_run=dry_run,
        dump_config=dump_config,
    )


class _Anything(tuple[str, ...]):
    """A collection that holds every path: used before ours are known."""

    __slots__ = ()

    def __contains__(self, path: object) -> bool:
        return True


def _chosen(original: Original, manager: DatasetManager) -> tuple[PhaseConfig, Variant]:
    """Return the phase and the variant that were named."""
    if original.phase is None:
        raise UsageError(
            "no phase is named; add phase=P, one of: "
            f"{', '.join(manager.list_phases())}"
        )
    variant = find_variant(original.variant or DEFAULT)
    if variant.time_matched:
        raise UsageError(
            f"variant '{variant.name}' has as many steps as fit in the time of "
            f"{variant.time_matched}, which mdlm atat ablate measures; train "
            "variant=uniform with train.steps=N"
        )
    return manager.get_phase_config(original.phase), variant


def _resolve(
    catalog: Catalog,
    phase: PhaseConfig,
    variant: Variant,
    given: Sequence[str],
    tiny: bool,
) -> RunConfig:
    sets = settings_of_run(phase, variant, given, tiny)
    return resolve(catalog, preset=phase.preset, sets=sets, tiny=tiny).config


def settings_of_run(
    phase: PhaseConfig, variant: Variant, given: Sequence[str], tiny: bool
) -> list[str]:
    """Return all ``path=value`` texts of a run on top of the phase's preset.

    Args:
        phase: its data, sizes and first seed come first.
        variant: then what the variant is about.
        given: then what a user says, which wins.
        tiny: whether ``--tiny`` decides lengths and steps instead of the phase.
    """
    paths = {_path(text) for text in given}
    own_data = sets_data(given)
    kept = [f"seed={phase.seeds[0]}"]
    for text in to_sets(phase):
        path = _path(text)
        if tiny and path.startswith(_TINY):
            continue
        if own_data and path.startswith("data."):
            continue
        if _of_policy(path) and not variant.adaptive:
            continue
        kept.append(text)
    return [t for t in (*kept, *variant.sets) if _path(t) not in paths] + list(given)


def _path(text: str) -> str:
    return text.partition("=")[0].strip()


def _of_policy(path: str) -> bool:
    """Return whether only a variant with the adaptive policy has this setting."""
    return path.startswith("masking.") and path != "masking.name"


def _fitting(original: Original, variant: Variant) -> list[str]:
    """Return the settings that the original's words mean for this variant.

    A part that is switched off is no setting of a variant that has no policy.

    Raises:
        UsageError: if a setting of the policy is given for such a variant.
    """
    if variant.adaptive:
        return list(original.sets)
    kept = []
    for text in original.sets:
        if text in original.off:
            continue
        if _of_policy(_path(text)):
            raise UsageError(
                f"variant '{variant.name}' has no adaptive masking, so that {text} "
                f"cannot be set; leave it out, or choose another variant"
            )
        kept.append(text)
    return kept


def _check_needs(original: Original, variant: Variant, config: RunConfig) -> None:
    """Refuse a switch that is on where the variant has no such part.

    Raises:
        UsageError: which one it is.
    """
    masking = config.masking.config
    there = {"use_importance": False, "use_adaptive_masking": False}
    there["use_curriculum"] = False
    if isinstance(masking, AtatConfig):
        importance = masking.importance
        there["use_importance"] = importance.learned + importance.frequency > 0
        there["use_adaptive_masking"] = masking.strategy != "time_only"
        there["use_curriculum"] = masking.curriculum.preset != "none"
    for switch in original.needs:
        if not there[switch]:
            raise UsageError(
                f"{switch}=true, but variant '{variant.name}' has no {NEEDS[switch]}; "
                f"leave it out, or choose another variant"
            )


def _command(
    preset: str | None,
    sets: Sequence[str],
    tiny: bool,
    out: Path | None,
    resume: bool,
    imports: Sequence[str] | None,
) -> str:
    """Return the command of core that does the same."""
    words = ["mdlm", "train"]
    words += [] if preset is None else ["--preset", preset]
    for text in sets:
        words += ["--set", text]
    for module in imports or ():
        words += ["--import", module]
    words += ["--tiny"] * tiny
    words += [] if out is None else ["--out", str(out)]
    words += ["--resume"] * resume
    return shlex.join(words)
