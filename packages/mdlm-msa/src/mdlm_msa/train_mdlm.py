"""``python -m mdlm_msa.train_mdlm``: training in the original's spelling.

``--config FILE.yaml --data.path PATH`` and every other key of the original are
translated to the settings of ``mdlm train --preset msa/large``, which does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mdlm_core.cli.options import Configs, Device, DryRun, DumpConfig, Out, Resume, Tiny

PRESET = "msa/large"
"""The original's size."""


def train_mdlm(
    context: typer.Context,
    configs: Configs = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="What to start from.")
    ] = PRESET,
    out: Out = None,
    tiny: Tiny = False,
    resume: Resume = False,
    device: Device = None,
    dry_run: DryRun = False,
    dump_config: DumpConfig = False,
) -> None:
    """Train with a configuration of the original.

    Any key is an option, such as --data.path FOLDER or --model.num_layers 12; so are
    our settings, such as --train.steps 1000.
    """
    from mdlm_core.cli.train import train
    from mdlm_msa.original.config import translate
    from mdlm_msa.original.keys import DEFAULTS
    from mdlm_msa.run_settings import given

    found = translate("train_mdlm", configs or (), context.args)
    sets = list(DEFAULTS) if preset == PRESET else []
    sets += given(("data.path", found.path), ("task.warm_start", found.checkpoint))
    train(
        preset=preset,
        sets=[*sets, *found.sets],
        tiny=tiny,
        out=out or (Path(found.out) if found.out else None),
        resume=resume,
        device=device,
        dry_run=dry_run,
        dump_config=dump_config,
    )


def main() -> NoReturn:
    """Run the command."""
    from mdlm_core.cli import run_module

    run_module(train_mdlm, "mdlm_msa.train_mdlm", any_option=True)


if __name__ == "__main__":
    main()
