"""``python -m mdlm_llada.train``: training in the original's spelling.

Several YAML files are merged, ``--set`` changes them, and the flat keys of the original
are translated to the settings of ``mdlm train``, which does the work. Works under
``accelerate launch -m mdlm_llada.train`` as well.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import yaml

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, DryRun, Out, Resume, Tiny

PRESET, BASE = "llada/8b-sft", "llada/default"
"""What a configuration of the original starts from, and what no configuration does."""


def train(
    configs: Annotated[
        list[Path] | None,
        typer.Option("--config", metavar="FILE", help="YAML; may be repeated."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="One key; may be repeated."),
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--auto_import",
            "--auto-import",
            "--import",
            metavar="MODULE",
            help="A module to import first; may be repeated.",
        ),
    ] = None,
    dump_config: Annotated[
        bool,
        typer.Option(
            "--dump_config",
            "--dump-config",
            help="Print the merged YAML and the command it means, and exit.",
        ),
    ] = False,
    tiny: Tiny = False,
    out: Out = None,
    resume: Resume = False,
    device: Device = None,
    dry_run: DryRun = False,
) -> None:
    """Train with a configuration of the original, or with one of ours.

    Files with the original's keys (engine, train.batch_size_per_gpu, ...) start from
    its defaults and the preset llada/8b-sft. Others are settings of 'mdlm train', on
    top of the preset llada/default.
    """
    from mdlm_core.cli.train import train as start

    from .original import is_original, merge, translate
    from .original_keys import MIRROR

    load_catalog(*(imports or ()))  # for what the modules register
    tree = merge(configs or (), sets or ())
    preset, given, folder = BASE, _plain(tree), out
    if is_original(tree):
        found = translate(tree, processes=int(os.environ.get("WORLD_SIZE", "1")))
        preset, given = PRESET, list(found.sets)
        folder = out or (Path(found.out) if found.out else None)
        if found.mirror:
            os.environ.setdefault("HF_ENDPOINT", MIRROR)
    if dump_config:
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        command = _command(preset, given, tiny, folder, resume)
        typer.echo(f"{text}# {command}")
        return
    start(
        preset=preset,
        sets=given,
        imports=imports,
        tiny=tiny,
        out=folder,
        resume=resume,
        device=device,
        dry_run=dry_run,
    )


def _plain(tree: dict[str, object]) -> list[str]:
    """Return our own settings as assignments."""
    from .original import leaves, text

    return [f"{path}={text(value)}" for path, value in leaves(tree)]


def _command(
    preset: str, sets: list[str], tiny: bool, out: Path | None, resume: bool
) -> str:
    """Return the command of core that does the same."""
    words = ["mdlm", "train", "--preset", preset]
    for text in sets:
        words += ["--set", text]
    words += ["--tiny"] * tiny
    words += [] if out is None else ["--out", str(out)]
    words += ["--resume"] * resume
    return shlex.join(words)


def main() -> NoReturn:
    """Run the command."""
    from mdlm_core.cli import run_module

    run_module(train, "mdlm_llada.train")


if __name__ == "__main__":
    main()
