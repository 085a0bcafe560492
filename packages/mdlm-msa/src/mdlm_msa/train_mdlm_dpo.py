"""``python -m mdlm_msa.train_mdlm_dpo``: preferences in the original's spelling.

``--config FILE.yaml --model.checkpoint_path RUN --data.path PAIRS`` and every other key
of the original are translated to ``mdlm msa align``, which does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import typer

from mdlm_core.cli.options import Configs, Device, DryRun, DumpConfig, Out, Resume, Tiny


def train_mdlm_dpo(
    context: typer.Context,
    configs: Configs = None,
    out: Out = None,
    tiny: Tiny = False,
    resume: Resume = False,
    device: Device = None,
    dry_run: DryRun = False,
    dump_config: DumpConfig = False,
) -> None:
    """Learn from preferences with a configuration of the original.

    Any key is an option, such as --dpo.beta 0.1; so are our settings, such as
    --train.steps 1000. The sizes of the model are those of its run.
    """
    from mdlm_msa.cli.align import align
    from mdlm_msa.original.config import translate

    found = translate("train_mdlm_dpo", configs or (), context.args)
    align(
        data=Path(found.path) if found.path else None,
        model=Path(found.checkpoint) if found.checkpoint else None,
        out=out or (Path(found.out) if found.out else None),
        sets=list(found.sets),
        tiny=tiny,
        resume=resume,
        device=device,
        dry_run=dry_run,
        dump_config=dump_config,
    )


def main() -> NoReturn:
    """Run the command."""
    from mdlm_core.cli import run_module

    run_module(train_mdlm_dpo, "mdlm_msa.train_mdlm_dpo", any_option=True)


if __name__ == "__main__":
    main()
