"""The dataset manager: names to records. Light at import."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.errors import ConfigError, UnknownNameError

from .records import DatasetConfig, PhaseConfig
from .registry import aliases, base_folder, canonical, load, registry_files
from .schema import Phase, Stage, choose, near_miss, parse_named


def get_dataset_manager(
    preset: str | None = None, config_file: Path | str | None = None
) -> DatasetManager:
    """Return the manager of the registry, at a stage of work.

    Two calls with the same files and the same preset give the same manager; a file
    that changed, or another preset, gives another one.

    Args:
        preset: the stage ``debug``, ``validation`` or ``production``, which decides
            the variant where none is named; None takes the registry's default.
        config_file: a registry file on top of all others.

    Raises:
        ConfigError: if a file cannot be read or is not valid.
        UnknownNameError: if there is no such stage.
    """
    files = registry_files(config_file)
    return _manager(tuple((file, _state(file)) for file in files), preset)


def _state(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)  # reading it says what is wrong
    return (status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _manager(
    files: tuple[tuple[Path, tuple[int, int]], ...], preset: str | None
) -> DatasetManager:
    return DatasetManager(tuple(file for file, _ in files), preset)


class DatasetManager:
    """Data sets, their variants, and phases, by name."""

    def __init__(self, files: tuple[Path, ...], preset: str | None = None) -> None:
        """Read the registry; see `get_dataset_manager`."""
        self.files = files
        self.registry, self._reader = load(files)
        self.preset = preset or self.registry.defaults.stage
        self._stage = self.get_stage()

    def list_datasets(self) -> list[str]:
        """Return the names of the data sets."""
        return list(self.registry.datasets)

    def list_variants(self, name: str) -> list[str]:
        """Return the variants of a data set."""
        return list(self.registry.datasets[self._dataset(name)].variants)

    def list_splits(self, name: str) -> list[str]:
        """Return the splits of a data set."""
        return list(self.registry.datasets[self._dataset(name)].split_names())

    def list_phases(self) -> list[str]:
        """Return the ids of the phases."""
        return list(self.registry.phase_configurations)

    def list_stages(self) -> list[str]:
        """Return the names of the stages."""
        return list(self.registry.stages)

    def get_stage(self, name: str | None = None) -> Stage:
        """Return a stage; None means the manager's own.

        Raises:
            UnknownNameError: if there is none of that name.
        """
        name = self.preset if name is None else name
        return self.registry.stages[choose("stage", name, self.registry.stages)]

    def get_config(
        self,
        name: str,
        variant: str | None = None,
        *,
        split: str = "train",
        tokenizer: str | None = None,
    ) -> DatasetConfig:
        """Return what a data set comes to.

        Args:
            name: of the data set.
            variant: its size; None means that of the stage.
            split: train, validation or test.
            tokenizer: what its tokens are counted with; None means its own.

        Raises:
            UnknownNameError: if there is no such data set, variant or split.
        """
        name = self._dataset(name)
        dataset, defaults = self.registry.datasets[name], self.registry.defaults
        variant = self._stage.default_preset if variant is None else variant
        size = dataset.variants[
            choose(f"variant of '{name}'", variant, dataset.variants)
        ]
        choose(f"split of '{name}'", split, dataset.split_names())
        holdout = defaults.holdout if dataset.holdout is None else dataset.holdout
        return DatasetConfig(
            name=name,
            variant=variant,
            split=split,
            source=dataset.source,
            license=dataset.license,
            description=dataset.description,
            purpose=size.description,
            text_field=dataset.text_field,
            subset=dataset.subset,
            part=dataset.splits.get(split, ""),
            local=dataset.local.get(split, ""),
            folder=base_folder(self._reader, name),
            tokenizer=tokenizer or dataset.tokenizer or defaults.tokenizer,
            chunk=defaults.chunk if dataset.chunk is None else dataset.chunk,
            symbols=dataset.symbols,
            holdout=holdout,
            max_tokens=size.max_tokens,
            about_tokens=size.about_tokens,
            splits=dataset.split_names(),
        )

    def find_phase(self, name: str) -> str:
        """Return the id of a phase from any of its spellings.

        Raises:
            UnknownNameError: if there is none.
        """
        known = aliases(self.registry)
        if canonical(name) in known:
            return known[canonical(name)]
        guess = near_miss(canonical(name), known, " (")
        raise UnknownNameError(
            f"there is no phase '{name}'{guess}{')' * bool(guess)}. Phases: "
            f"{', '.join(self.list_phases()) or 'none'}"
        )

    def get_phase_config(
        self, name: str, *, tokenizer: str | None = None
    ) -> PhaseConfig:
        """Return what a phase comes to; no data is looked for.

        Args:
            name: its id or an alias, in any case.
            tokenizer: of the runs, instead of the phase's.

        Raises:
            UnknownNameError: if there is no such phase, or no such preset.
            ConfigError: if its preset does not hold up.
        """
        name = self.find_phase(name)
        phase, defaults = self.registry.phase_configurations[name], self.registry
        found = self._named(phase.dataset, tokenizer or phase.tokenizer)
        fallback = None
        if phase.fallback is not None:
            fallback = self._named(phase.fallback, tokenizer or phase.tokenizer)
        return PhaseConfig(
            id=name,
            description=phase.description,
            dataset=found,
            val_dataset=self._val(phase, found),
            fallback=fallback,
            fallback_val=None if fallback is None else self.held_out(fallback),
            preset=phase.preset,
            length=phase.length or self._preset_length(name, phase),
            batch_size=phase.batch_size,
            steps=phase.steps,
            variants=phase.variants,
            seeds=phase.seeds or defaults.defaults.seeds,
            eval_windows=phase.eval_windows or defaults.defaults.eval_windows,
            eval_draws=phase.eval_draws or defaults.defaults.eval_draws,
            sets=phase.sets,
        )

    def held_out(self, config: DatasetConfig) -> DatasetConfig | None:
        """Return the validation split that belongs to a data set, if it has one."""
        if "validation" not in config.splits:
            return None
        return self.get_config(
            config.name, config.variant, split="validation", tokenizer=config.tokenizer
        )

    # ---- inside ---------------------------------------------------------------

    def _dataset(self, name: str) -> str:
        return choose("dataset", name.strip(), self.registry.datasets)

    def _named(self, text: str, tokenizer: str | None) -> DatasetConfig:
        named = parse_named(text)
        return self.get_config(named.dataset, named.variant, tokenizer=tokenizer)

    def _val(self, phase: Phase, trained: DatasetConfig) -> DatasetConfig | None:
        """Return the validation split, else all of another set, else nothing."""
        if phase.val_dataset is None:
            return self.held_out(trained)
        named = parse_named(phase.val_dataset)
        splits = self.registry.datasets[named.dataset].split_names()
        if "validation" not in splits and named.dataset == trained.name:
            return None
        return self.get_config(
            named.dataset,
            named.variant,
            split="validation" if "validation" in splits else splits[0],
            tokenizer=trained.tokenizer,
        )

    def _preset_length(self, name: str, phase: Phase) -> int:
        """Return the length of a row in the preset of a phase."""
        path = f"phase_configurations.{name}.preset"
        try:
            config = resolve(load_catalog(), preset=phase.preset).config
        except UnknownNameError as error:
            origin = self._reader.origin(path)
            raise UnknownNameError(f"{path}: {error}{origin}") from error
        length = getattr(config.data.config, "length", None)
        if not isinstance(length, int):
            raise ConfigError(
                f"{path}: the data of preset '{phase.preset}' have no length"
                f"{self._reader.origin(path)}; set length in the phase"
            )
        return length
