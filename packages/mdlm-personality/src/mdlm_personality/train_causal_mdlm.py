"""``python -m mdlm_personality.train_causal_mdlm``: the original's spelling.

The flags of the original are translated to the settings of `mdlm train`, which does
the work; see `original_flags`. The two stages before it have modules of their own.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mdlm_core.cli.options import (
    Configs,
    Device,
    DryRun,
    DumpConfig,
    Out,
    Resume,
    Seed,
    Sets,
    Tiny,
)
from mdlm_core.errors import UsageError

from .original_flags import DEFAULTS, FOLDERS, LENGTH, PRESETS, translate

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Texts with traits: csv, jsonl, Essays, PANDORA, myPersonality. "
        "Without it, invented persons.",
    ),
]
Dump = Annotated[
    bool,
    typer.Option("--dump", help="Print the same as a command of mdlm train, and exit."),
]


def training(program: str) -> Callable[..., None]:
    """Return the command of one of the original's scripts."""

    def command(
        context: typer.Context,
        data: Data = None,
        preset: Annotated[
            str, typer.Option(metavar="NAME", help="What to start from.")
        ] = PRESETS[program],
        configs: Configs = None,
        sets: Sets = None,
        tiny: Tiny = False,
        seed: Seed = None,
        out: Out = None,
        resume: Resume = False,
        device: Device = None,
        dump: Dump = False,
        dry_run: DryRun = False,
        dump_config: DumpConfig = False,
    ) -> None:
        below = () if resume else _defaults(program, preset, tiny=tiny)
        found = translate(program, context.args, defaults=below)
        out = out or found.out or _folder(program)
        own = _data(data, context.args, sets, known=bool(configs) or resume)
        given = [*own, *found.sets, *(sets or ())]
        if dump:
            typer.echo(
                _line(preset, configs, given, seed, out, tiny=tiny, resume=resume)
            )
            return
        if not (dry_run or dump_config):
            _check_processes(program, found.gpus)
        if not (data or resume):
            _say_data(own)

        from mdlm_core.cli.train import train

        train(
            preset=preset,
            configs=configs,
            sets=given,
            tiny=tiny,
            seed=seed,
            out=out,
            resume=resume,
            device="cpu" if found.gpus == 0 else device,
            dry_run=dry_run,
            dump_config=dump_config,
        )

    command.__doc__ = _HELP[program]
    return command


_HELP = {
    "train_causal_mdlm": "Train with the original's flags, such as --hidden_dim 768; "
    "our settings are options too, such as --train.lr 1e-4.",
    "train_stage1": "Stage 1, the encoder, with the original's flags.",
    "train_stage2": "Stage 2, the causal layer, with the original's flags.",
}


def _defaults(program: str, preset: str, *, tiny: bool) -> tuple[str, ...]:
    large = program == "train_causal_mdlm" and preset == PRESETS[program]
    return (*DEFAULTS, LENGTH) if large and not tiny else DEFAULTS


def _folder(program: str) -> Path | None:
    return Path(FOLDERS[program]) if program in FOLDERS else None


def _data(
    path: str | None,
    arguments: Sequence[str],
    sets: Sequence[str] | None,
    *,
    known: bool,
) -> list[str]:
    """Return the settings that choose the data, unless something else does."""
    if path:
        return ["data.name=persona-text", f"data.path={Path(path).expanduser()}"]
    given = [*(text.removeprefix("--") for text in arguments), *(sets or ())]
    chosen = ("data.name", "data.path", "data=")
    said = known or any(text.startswith(chosen) for text in given)
    return [] if said else ["data.name=persona-corpus"]


def _say_data(own: Sequence[str]) -> None:
    """Say that the persons are invented, if they are."""
    if own:
        typer.echo(
            "no --data: learning from invented persons. PANDORA is not distributed "
            "here; with a copy of your own: --data FOLDER",
            err=True,
        )


def _check_processes(program: str, gpus: int | None) -> None:
    """Refuse --gpus N in another number of processes.

    Raises:
        UsageError: with the command that starts as many.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if gpus is not None and max(gpus, 1) != world:
        raise UsageError(
            f"--gpus {gpus} stands for as many processes, and this is one of {world}; "
            f"start them with: accelerate launch --num_processes {max(gpus, 1)} -m "
            f"mdlm_personality.{program} ..."
        )


def _line(
    preset: str,
    configs: Sequence[Path] | None,
    sets: Sequence[str],
    seed: int | None,
    out: Path | None,
    *,
    tiny: bool,
    resume: bool,
) -> str:
    """Return the command line of `mdlm train` that does the same."""
    words = ["mdlm", "train", "--preset", preset]
    for path in configs or ():
        words += ["--config", str(path)]
    for text in sets:
        words += ["--set", text]
    words += [] if seed is None else ["--seed", str(seed)]
    words += [] if out is None else ["--out", str(out)]
    words += ["--tiny"] * tiny + ["--resume"] * resume
    return shlex.join(words)


train_causal_mdlm = training("train_causal_mdlm")


def main() -> NoReturn:
    """Run the command."""
    from mdlm_core.cli import run_module

    run_module(train_causal_mdlm, "mdlm_personality.train_causal_mdlm", any_option=True)


if __name__ == "__main__":
    main()
