"""The options that several commands have, each with one meaning everywhere.

A command takes them as the types of its parameters::

    def train(plugin: Plugin = None, sets: Sets = None, tiny: Tiny = False) -> None:
        catalog, resolved = settings(plugin=plugin, sets=sets, tiny=tiny)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.config import Resolved, resolve

Plugin = Annotated[
    str | None,
    typer.Option(
        "--plugin", metavar="NAME", help="Start from the preset NAME/default."
    ),
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="Start from this preset."),
]
Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", metavar="FILE", help="Settings in YAML; may be repeated."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="One setting; may be repeated."),
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="A module with hooks that is not installed; may be repeated.",
    ),
]
Tiny = Annotated[
    bool, typer.Option("--tiny", help="Shrink everything to seconds on a CPU.")
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="S", help="The same as --set seed=S.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="PATH", help="Where results are written."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where the run in --out stopped.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, but do not run.")
]
DumpConfig = Annotated[
    bool,
    typer.Option("--dump-config", help="Print the resolved settings in YAML and exit."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="cpu, cuda, xpu; default: the best."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings(
    *,
    plugin: str | None = None,
    preset: str | None = None,
    configs: Sequence[Path] | None = None,
    sets: Sequence[str] | None = None,
    imports: Sequence[str] | None = None,
    tiny: bool = False,
    seed: int | None = None,
) -> tuple[Catalog, Resolved]:
    """Load the catalog and resolve the settings that the common options describe.

    Raises:
        ConfigError: if a setting is unknown, of the wrong type, or breaks a rule.
        PluginError: if a module of `imports` does not load.
    """
    catalog = load_catalog(*(imports or ()))
    given = [*(sets or ()), *([] if seed is None else [f"seed={seed}"])]
    return catalog, resolve(
        catalog,
        preset=preset,
        plugin=plugin,
        files=configs or (),
        sets=given,
        tiny=tiny,
    )
