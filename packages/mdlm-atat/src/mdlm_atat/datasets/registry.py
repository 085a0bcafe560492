"""Find the YAML files, merge them and check every name in them. Light at import."""

from __future__ import annotations

import os
from pathlib import Path

from mdlm_core.config.layers import file_layer, merge
from mdlm_core.errors import ConfigError, UnknownNameError

from .schema import Dataset, Phase, Reader, Registry, choose, parse_named

BUILT_IN = Path(__file__).with_name("datasets.yaml")
"""The registry that comes with this package."""
LOCAL = "datasets.yaml"
"""What is looked for in the working directory."""
ENVIRONMENT = "MDLM_DATASETS"
"""The variable that names more files, separated as in ``PATH``."""


def registry_files(config_file: Path | str | None = None) -> tuple[Path, ...]:
    """Return the files of the registry, low to high.

    They are the one of this package, ``./datasets.yaml`` if it is there, those of
    ``$MDLM_DATASETS``, and `config_file`.
    """
    files = [BUILT_IN]
    if Path(LOCAL).is_file():
        files.append(Path(LOCAL))
    named = os.environ.get(ENVIRONMENT, "").split(os.pathsep)
    files += [Path(name).expanduser() for name in named if name.strip()]
    if config_file is not None:
        files.append(Path(config_file).expanduser())
    paths = [file.absolute() for file in files]
    return tuple(dict.fromkeys(reversed(paths)))[::-1]  # the last mention counts


def load(files: tuple[Path, ...]) -> tuple[Registry, Reader]:
    """Read, merge and check the files, low to high.

    Returns:
        The registry, and the reader that knows where each entry comes from.

    Raises:
        ConfigError: if a file cannot be read, a key is unknown, or a value is wrong.
        UnknownNameError: if an entry names a data set, variant, or stage that is not
            there.
    """
    layer = file_layer(files[0])
    for path in files[1:]:
        layer = merge(layer, file_layer(path), names_drop=False)
    reader = Reader(layer.origins)
    registry = reader.build(Registry, layer.tree)
    assert isinstance(registry, Registry)
    _check(registry, reader)
    return registry, reader


def canonical(phase: str) -> str:
    """Return a phase id as the registry spells it; case and hyphens do not matter."""
    return phase.strip().upper().replace("-", "_")


def aliases(registry: Registry) -> dict[str, str]:
    """Return every spelling of every phase -> its id, all in canonical form."""
    known = {canonical(name): name for name in registry.phase_configurations}
    for name, phase in registry.phase_configurations.items():
        for alias in phase.aliases:
            if known.setdefault(canonical(alias), name) != name:
                raise ConfigError(
                    f"phase_configurations: '{alias}' means both "
                    f"'{known[canonical(alias)]}' and '{name}'; give each its own"
                )
    return known


def base_folder(reader: Reader, dataset: str) -> Path | None:
    """Return the folder of the file that says the source of a data set.

    None means the file of this package, beside which nobody puts data.
    """
    place = reader.place(f"datasets.{dataset}.source")
    file, colon, line = place.rpartition(":")
    path = Path(file if colon and line.isdigit() else place)
    return None if path == BUILT_IN else path.parent


def _check(registry: Registry, reader: Reader) -> None:
    choose_at(
        reader, "defaults.stage", "stage", registry.defaults.stage, registry.stages
    )
    for name, stage in registry.stages.items():
        for dataset in registry.datasets.values():
            if stage.default_preset in dataset.variants:
                break
        else:
            sizes = {v for d in registry.datasets.values() for v in d.variants}
            path = f"stages.{name}.default_preset"
            choose_at(reader, path, "variant", stage.default_preset, sorted(sizes))
    for name, phase in registry.phase_configurations.items():
        _check_phase(f"phase_configurations.{name}", phase, registry, reader)
    aliases(registry)


def _check_phase(path: str, phase: Phase, registry: Registry, reader: Reader) -> None:
    for key in ("dataset", "val_dataset", "fallback"):
        text = getattr(phase, key)
        if text is None:
            continue
        where = f"{path}.{key}"
        try:
            named = parse_named(text)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}{reader.origin(where)}") from error
        choose_at(reader, where, "dataset", named.dataset, registry.datasets)
        dataset = registry.datasets[named.dataset]
        if key != "val_dataset" and "train" not in dataset.split_names():
            raise ConfigError(
                f"{where}: dataset '{named.dataset}' has no split train"
                f"{reader.origin(where)}"
            )
        if named.variant is not None:
            what = f"variant of '{named.dataset}'"
            choose_at(reader, where, what, named.variant, dataset.variants)
    from mdlm_atat.variants import find_variant

    for variant in phase.variants:
        where = f"{path}.variants"
        try:
            find_variant(variant)
        except UnknownNameError as error:
            raise UnknownNameError(f"{where}: {error}{reader.origin(where)}") from error


def choose_at(reader: Reader, path: str, what: str, name: str, known: object) -> None:
    """Refuse a name that is not known, and say where it stands."""
    assert isinstance(known, dict | list)
    try:
        choose(what, name, known)
    except UnknownNameError as error:
        raise UnknownNameError(f"{path}: {error}{reader.origin(path)}") from error


__all__ = [
    "BUILT_IN",
    "ENVIRONMENT",
    "LOCAL",
    "Dataset",
    "aliases",
    "base_folder",
    "canonical",
    "choose_at",
    "load",
    "registry_files",
]
