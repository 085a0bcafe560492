"""``mdlm config``: show, check and copy settings, without importing anything heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.config import read_run, resolve, to_dict, to_yaml
from mdlm_core.config.describe import describe_run
from mdlm_core.errors import ConfigError, PluginError

from .options import Configs, Imports, Json, Plugin, Preset, Seed, Sets, Tiny, settings
from .tables import print_settings

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Show, check and copy settings.",
)


@app.command()
def show(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run instead.")
    ] = None,
    plugin: Plugin = None,
    preset: Preset = None,
    configs: Configs = None,
    sets: Sets = None,
    imports: Imports = None,
    tiny: Tiny = False,
    seed: Seed = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="Say where each setting comes from.")
    ] = False,
    help_fields: Annotated[
        bool, typer.Option("--help-fields", help="Say what each setting means.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the settings that these options resolve to, as YAML."""
    if run is not None:
        config = read_run(run, load_catalog(*(imports or ())))
        comments = None
    else:
        _, resolved = settings(
            plugin=plugin,
            preset=preset,
            configs=configs,
            sets=sets,
            imports=imports,
            tiny=tiny,
            seed=seed,
        )
        config, comments = resolved.config, resolved.origins
    if help_fields:
        print_settings(describe_run(config), as_json=as_json)
    elif as_json:
        tree = to_dict(config)
        shown = {"config": tree, "origins": comments} if origins else tree
        print(json.dumps(shown, indent=2))
    else:
        print(to_yaml(config, comments if origins else None), end="")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML files.")],
    plugin: Plugin = None,
    preset: Preset = None,
    sets: Sets = None,
    imports: Imports = None,
) -> None:
    """Check configuration files, each on its own over the preset."""
    catalog = load_catalog(*(imports or ()))
    broken = 0
    for file in files:
        try:
            resolve(
                catalog, preset=preset, plugin=plugin, files=[file], sets=sets or ()
            )
        except (ConfigError, PluginError) as error:
            broken += 1
            print(f"{file}: {error}")
        else:
            print(f"{file}: all right")
    if broken:
        raise ConfigError(f"{broken} of {len(files)} files cannot be used")


@app.command()
def cp(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="Its name.")],
    target: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
) -> None:
    """Copy a preset to a file to edit: every setting, with what it means."""
    config = resolve(load_catalog(), preset=preset).config
    texts = {setting.path: setting.help for setting in describe_run(config)}
    text = f"# The settings of preset {preset}.\n" + to_yaml(config, texts)
    if target.is_dir():
        target = target / f"{preset.replace('/', '-')}.yaml"
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            f"'{target}' exists already; choose another name or remove it"
        ) from None
    except OSError as error:
        raise ConfigError(f"'{target}' cannot be written: {error.strerror}") from error
    print(f"wrote {target}; use it with: mdlm train --config {target}")
