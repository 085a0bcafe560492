"""``mdlm msa train``: learn from alignments; the result is a run folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mdlm_core.cli.options import (
    Configs,
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
from mdlm_core.cli.train import train as run_training
from mdlm_core.errors import UsageError
from mdlm_msa.data.learned import warn_if_learned
from mdlm_msa.run_settings import config_of, given, setting, settings_of

_OF_FAMILIES = ("columns", "pseudocount", "kappa")
"""Settings that a model of one family has for itself."""


class Size(StrEnum):
    """Presets of models of any family."""

    nano = "nano"
    small = "small"
    base = "base"
    large = "large"


def train(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILES",
            help="A file, a folder, a glob, several with commas: a3m, FASTA, "
            "Stockholm, OpenProteinSet folders. Default: synthetic families.",
        ),
    ] = None,
    out: Out = None,
    size: Annotated[Size, typer.Option(help="How large the model is.")] = Size.nano,
    begin: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="A run whose weights to begin with."
        ),
    ] = None,
    family: Annotated[
        bool,
        typer.Option(
            "--family",
            help="A model of the one family in --data: every column has a prior of "
            "its own.",
        ),
    ] = False,
    hold_out: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Families that are held out whole."),
    ] = None,
    length: Annotated[
        int | None, typer.Option(metavar="L", help="Tokens of a canvas.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Optimiser steps.")
    ] = None,
    configs: Configs = None,
    sets: Sets = None,
    imports: Imports = None,
    tiny: Tiny = False,
    seed: Seed = None,
    resume: Resume = False,
    device: Device = None,
    dry_run: DryRun = False,
    dump_config: DumpConfig = False,
) -> None:
    """Learn to restore the rows of alignments.

    The settings are those of 'mdlm train --plugin msa', and --set wins over the other
    options. With --from and --family a model of any family becomes one of a single
    family, in minutes on a CPU. The same command with --resume goes on where it
    stopped.
    """
    preset = "msa/family" if family else f"msa/{size.value}"
    chosen = _chosen(data, begin, hold_out)
    if resume:
        # Settings that differ from the run's are refused by what goes on with it.
        _check_model(out, preset, family, imports)
    else:
        if family:
            chosen += _of_family(data, sets)
        if begin is not None:
            chosen += settings_of(
                config_of(begin, imports), "model", leave_out=_OF_FAMILIES
            )
        if family and data is not None and begin is not None:
            warn_if_learned(begin, data)
    chosen += given(("data.length", length), ("train.steps", steps))
    run_training(
        preset=None if resume else preset,
        configs=configs,
        sets=[*chosen, *(sets or ())],
        imports=imports,
        tiny=tiny,
        seed=seed,
        out=out,
        resume=resume,
        device=device,
        dry_run=dry_run,
        dump_config=dump_config,
    )


def _check_model(
    out: Path | None, preset: str, family: bool, imports: list[str] | None
) -> None:
    """Refuse to go on with a run of another kind of model than was asked for."""
    from mdlm_core.catalog import load_catalog
    from mdlm_core.config import read_run, resolve

    if out is None or not (out / "config.yaml").is_file():
        return  # what goes on with it says so
    catalog = load_catalog(*(imports or ()))
    there: Any = read_run(out, catalog).model.config
    asked: Any = resolve(catalog, preset=preset).config.model.config
    if family != bool(there.columns):
        kind = "one family" if there.columns else "any family"
        raise UsageError(
            f"the run in '{out}' is a model of {kind}; "
            f"{'leave out' if family else 'add'} --family to go on with it"
        )
    if preset not in ("msa/nano", "msa/family") and there.width != asked.width:
        raise UsageError(
            f"the run in '{out}' has the width {there.width}, and {preset} has "
            f"{asked.width}; leave out --size to go on with it"
        )


def _chosen(data: str | None, begin: Path | None, hold_out: str | None) -> list[str]:
    """Return the settings that the options stand for."""
    names = None
    if hold_out is not None:
        names = [name.strip() for name in hold_out.split(",") if name.strip()]
    return given(
        ("data.path", data),
        ("task.warm_start", begin and str(begin.expanduser().resolve())),
        ("data.hold_out", names),
    )


def _of_family(data: str | None, sets: list[str] | None) -> list[str]:
    """Return the settings of a model of the one alignment in a file."""
    if data is None:
        raise UsageError("--family learns one alignment: say which with --data FILE")
    from mdlm_msa.formats.reading import read_alignment
    from mdlm_msa.layout import size

    columns = read_alignment(Path(data).expanduser()).length
    least = size(3, columns)
    chosen = [setting("model.columns", columns)]
    is_set = any(s.startswith("data.length=") for s in sets or ())
    if not is_set and least > 1024:
        chosen.append(setting("data.length", least))
    return chosen
