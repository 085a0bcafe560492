"""``python -m mdlm_msa.train_mdlm_dpo``: preferences in the original's spelling.

``--config FILE.yaml --model.checkpoint_path RUN --data.path PAIRS`` and every other key
of the original are translated to ``mdlm msa align``, which does the work.
"""

from __future__ import annotations

import sys
from pathlib import Path

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


def main() -> None:
    """Run the command."""
    from mdlm_core.cli import run

    program = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    program.command(context_settings=settings)(train_mdlm_dpo)
    raise SystemExit(run(sys.argv[1:], program, "python -m mdlm_msa.train_mdlm_dpo"))


if __name__ == "__main__":
    main()
