"""``mdlm msa align``: train a model to prefer the winners of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    settings,
)
from mdlm_core.config import to_yaml
from mdlm_core.errors import UsageError
from mdlm_msa.run_settings import config_of, given, setting, settings_of

if TYPE_CHECKING:
    from mdlm_core.config import RunConfig
    from mdlm_core.train import Outcome

_PRESET = "msa/align"


def align(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PAIRS", help="A file of 'mdlm msa prefer'."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="RUN", help="The run to begin with."),
    ] = None,
    out: Out = None,
    objective: Annotated[
        str | None, typer.Option(metavar="NAME", help="dpo, ipo or d2dpo.")
    ] = None,
    beta: Annotated[
        float | None, typer.Option(metavar="X", help="How sharply differences count.")
    ] = None,
    beta_sum: Annotated[
        bool,
        typer.Option("--beta-sum", help="Sums over rows instead of means over them."),
    ] = False,
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
    """Learn from pairs of alignments which one is better (DPO).

    The model is that of --model, which also stays the reference that the new one is
    held to. --set wins over the other options. The same command with --resume goes on
    where it stopped.
    """
    if resume:
        if out is None:
            raise UsageError("--resume needs the run folder: add --out RUN")
        if not (out / "config.yaml").is_file():
            raise UsageError(
                f"there is no run in '{out}' to go on with; leave out --resume to "
                f"start one there"
            )
        chosen: list[str] = []
        files = [out / "config.yaml", *(configs or [])]
    else:
        if data is None or model is None:
            missing = "--data PAIRS" if data is None else "--model RUN"
            raise UsageError(
                f"there is nothing to {'learn from' if data is None else 'begin with'}:"
                f" add {missing}"
            )
        base = config_of(model, imports)
        chosen = [
            *settings_of(base, "model", "schedule"),
            *given(("data.length", getattr(base.data.config, "length", None))),
            setting("task.reference", str(model.expanduser().resolve())),
            setting("data.path", str(data.expanduser().resolve())),
        ]
        if tiny:  # a pair or two must do
            chosen.append(setting("train.batch_size", 1))
        files = list(configs or [])
    chosen += given(
        ("task.objective", objective),
        ("task.beta", beta),
        ("task.beta_sum", beta_sum or None),
        ("train.steps", steps),
    )
    catalog, resolved = settings(
        preset=None if resume else _PRESET,
        configs=files,
        sets=[*chosen, *(sets or ())],
        imports=imports,
        tiny=tiny,
        seed=seed,
    )
    config = resolved.config
    if dump_config:
        print(to_yaml(config), end="")
        return
    if dry_run:
        from mdlm_core.train.start import describe

        print("\n".join(describe(config, catalog)))
        return
    from mdlm_core.train import train as start
    from mdlm_msa.preference.task import Drifted

    try:
        outcome = start(
            config,
            out=out,
            resume=resume,
            name="msa-align",
            device=device,
            catalog=catalog,
            verbose=True,
        )
    except Drifted as drifted:
        print(f"stopped: {drifted}")
        return
    _report(outcome, config)


def _report(outcome: Outcome, config: RunConfig) -> None:
    """Say how a run ended, and what can be done next."""
    from accelerate import PartialState

    from mdlm_core.train.processes import leave

    if PartialState().is_main_process:
        found = outcome.held_out
        if outcome.signal is not None:
            print(
                f"stopped by {outcome.signal.name} and saved after step "
                f"{outcome.step} of {outcome.steps}; go on with:\n"
                f"  mdlm msa align --out {outcome.folder} --resume"
            )
        elif found:
            reference = config.task.config.reference
            print(
                f"after {outcome.step} steps, on held-out pairs: "
                f"{found['accuracy']:.1%} in the right order, margin "
                f"{found['margin']:.4f}, winners at {found['winner_nats']:.4f} nats "
                f"per token ({found['drift']:+.2%} against '{reference}')\n"
                f"next:\n"
                f"  mdlm msa generate QUERY --model {outcome.folder} --rows 16 --out F"
            )
    leave()
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)
