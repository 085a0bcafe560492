"""``mdlm llada launch-config``: a configuration for ``accelerate launch``."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from mdlm_core.errors import UsageError

NAMES = ("fsdp2", "zero2", "zero3")


def launch_config(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    processes: Annotated[
        int | None,
        typer.Option("--processes", metavar="N", help="GPUs; default: 8."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write there, not to the cache."),
    ] = None,
) -> None:
    """Write a configuration for several GPUs, and print where it is.

    accelerate launch --config_file "$(mdlm llada launch-config fsdp2)" -m mdlm_core
    train --preset llada/8b-sft --out RUN. Paths in it are absolute.
    """
    from mdlm_core.cache import cache_folder, write_atomic

    if name not in NAMES:
        raise UsageError(
            f"there is no launch configuration '{name}'; there are {', '.join(NAMES)}"
        )
    if processes is not None and processes < 1:
        raise UsageError(f"--processes is {processes}; it must be at least 1")
    text = resolved(name, processes)
    place = out or cache_folder() / "llada" / f"launch-{name}-{processes or 8}.yaml"
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out '{out}': there is no folder '{out.parent}'")
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, text.encode())
    print(place)


def resolved(name: str, processes: int | None = None) -> str:
    """Return the text of a configuration, its paths made absolute."""
    folder = Path(str(files("mdlm_llada") / "launch"))
    lines = []
    for text in (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        key, colon, value = text.partition(": ")
        if key.strip() == "deepspeed_config_file":
            value = json.dumps(str(folder / value.strip()))
        elif key == "num_processes" and processes is not None:
            value = str(processes)
        lines.append(f"{key}{colon}{value}")
    return "\n".join(lines) + "\n"
