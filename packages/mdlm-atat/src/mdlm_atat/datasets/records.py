"""What a data set and a phase come to: frozen records. Light: imports nothing heavy.

A cache file stands at ``CACHE/atat/NAME/VARIANT-TOKENIZER-KEY/SPLIT.jsonl``, where KEY
is a hash of all that decides the content of all splits but the text itself. Its
manifest stands beside it.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from mdlm_core.cache import cache_folder
from mdlm_core.errors import DataError

FORMAT = 1
"""Of cache files and manifests; part of the key."""


def cache_place() -> Path:
    """Return the folder of the cache files, whether it exists or not."""
    return cache_folder() / "atat"


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """One split of one variant of a data set."""

    name: str
    variant: str
    split: str
    """train, validation or test."""
    source: str
    """``builtin:``, ``file:`` or ``hf:`` and the place."""
    license: str
    description: str
    purpose: str
    """What the variant is for."""
    text_field: str
    subset: str
    part: str
    """The file in the source, or the split on the hub; empty means all of it."""
    local: str
    """A file that is read instead of the hub where it exists, or nothing."""
    folder: Path | None
    """The folder of the YAML file that names the source, if it is the user's."""
    tokenizer: str
    chunk: int
    symbols: str
    holdout: float
    """The share of documents that core holds out, by a hash of their text."""
    max_tokens: int | None
    """The budget; None means all text."""
    about_tokens: int | None
    splits: tuple[str, ...] = ("train",)
    """All splits of the data set."""

    @property
    def kind(self) -> str:
        """``builtin``, ``file`` or ``hf``."""
        return self.source.partition(":")[0]

    @property
    def place(self) -> str:
        """What stands behind the kind of the source."""
        return self.source.partition(":")[2]

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.name} ({self.variant}), {self.split}"

    def recipe(self) -> dict[str, object]:
        """Return what decides the content, but the text of the source itself."""
        recipe: dict[str, object] = {
            "format": FORMAT,
            "source": self.source,
            "subset": self.subset,
            "part": self.part,
            "local": self.local,
            "text_field": self.text_field,
            "tokenizer": self.tokenizer,
            "chunk": self.chunk,
            "symbols": self.symbols,
            "max_tokens": self.max_tokens,
        }
        if self.kind == "builtin":
            recipe["python"] = platform.python_version()
        return recipe

    @cached_property
    def key(self) -> str:
        """A short hash of `recipe`, without what differs between splits."""
        recipe = self.recipe()
        del recipe["part"], recipe["local"]
        text = json.dumps(recipe, sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def cache_file(self) -> Path:
        """Where the prepared text is, or will be: JSON lines with a key ``text``."""
        tokenizer = re.sub(r"[^\w.-]+", "-", self.tokenizer).strip("-")[-40:]
        folder = f"{self.variant}-{tokenizer}-{self.key}"
        return cache_place() / self.name / folder / f"{self.split}.jsonl"

    @property
    def manifest_file(self) -> Path:
        """Where the measurements of the cache file are."""
        return self.cache_file.with_suffix(".manifest.json")

    @cached_property
    def manifest(self) -> Mapping[str, Any] | None:
        """The measurements; None if it is not prepared, or not whole.

        Whole means here that the size is right; `prepare.prepare` also checks the
        hash. It is read once; `fresh` gives a record that reads it again.
        """
        try:
            manifest = json.loads(self.manifest_file.read_bytes())
            whole = manifest["file_bytes"] == self.cache_file.stat().st_size
            return manifest if whole and int(manifest["tokens"]) > 0 else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def measured(self) -> bool:
        """Whether `num_tokens` was counted, in the cache file."""
        return self.manifest is not None

    @property
    def num_tokens(self) -> int:
        """Tokens, ends of documents included: counted, or else the budget.

        Where there is neither, about as many as the training split has.
        """
        if self.manifest is not None:
            return int(self.manifest["tokens"])
        budget = self.max_tokens or self.about_tokens
        assert budget is not None
        return budget

    def fresh(self, **changes: Any) -> DatasetConfig:
        """Return the same, read from the disk again, with `changes`."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        return {
            "name": self.name,
            "variant": self.variant,
            "split": self.split,
            "splits": list(self.splits),
            "description": self.description,
            "purpose": self.purpose,
            "source": self.source,
            "license": self.license,
            "tokenizer": self.tokenizer,
            "max_tokens": self.max_tokens,
            "num_tokens": self.num_tokens,
            "measured": self.measured,
            "holdout": self.holdout,
            "cache_file": str(self.cache_file),
            "manifest": None if self.manifest is None else dict(self.manifest),
        }


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """An ablation, with its data sets resolved."""

    id: str
    description: str
    dataset: DatasetConfig
    val_dataset: DatasetConfig | None
    """What is measured on; None means documents held out of `dataset` by core."""
    fallback: DatasetConfig | None
    """Stands in for both where one cannot be had; only `prepare_phase` does that."""
    fallback_val: DatasetConfig | None = None
    """The validation split of the fallback, if it has one."""
    replaced: str = ""
    """After a fallback: what it stands in for, and why."""
    preset: str
    length: int
    """Tokens in a row, L: the phase's, or else the preset's."""
    batch_size: int | None
    """None means the preset's, as for `steps`."""
    steps: int | None
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    eval_windows: int
    eval_draws: int
    sets: Mapping[str, object] = field(default_factory=dict)

    @property
    def tokenizer(self) -> str:
        """The tokenizer of the runs."""
        return self.dataset.tokenizer

    def configs(self) -> tuple[DatasetConfig, ...]:
        """Return the one or two data sets that it needs."""
        return (self.dataset, *([] if self.val_dataset is None else [self.val_dataset]))

    def to_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        val, fallback = self.val_dataset, self.fallback
        return {
            "id": self.id,
            "description": self.description,
            "dataset": self.dataset.to_dict(),
            "val_dataset": None if val is None else val.to_dict(),
            "fallback": None if fallback is None else fallback.to_dict(),
            "replaced": self.replaced,
            "preset": self.preset,
            "length": self.length,
            "batch_size": self.batch_size,
            "steps": self.steps,
            "variants": list(self.variants),
            "seeds": list(self.seeds),
            "eval_windows": self.eval_windows,
            "eval_draws": self.eval_draws,
            "sets": dict(self.sets),
        }


def to_sets(
    config: DatasetConfig | PhaseConfig, *, length: int | None = None
) -> list[str]:
    """Return the ``--set`` texts that make a run use prepared data.

    Choosing another data component drops the settings of the preset's, so that the
    length of a row stands here as well.

    Args:
        config: a data set, or a phase: then its batch size, steps and further settings
            are in the list too.
        length: L, where it is not the phase's; None leaves core's default.

    Raises:
        DataError: if it is the text of another split than train.
    """
    if isinstance(config, PhaseConfig):
        sets = to_sets(config.dataset, length=length or config.length)
        for name in ("batch_size", "steps"):
            value = getattr(config, name)
            sets += [] if value is None else [f"train.{name}={value}"]
        return sets + [f"{path}={_yaml(item)}" for path, item in config.sets.items()]
    if config.split != "train":
        raise DataError(
            f"dataset '{config.label}' is not for training; take the split train"
        )
    sets = ["data.name=jsonl", f"data.path={_yaml(str(config.cache_file))}"]
    sets += [f"data.tokenizer={_yaml(config.tokenizer)}"]
    sets += [f"data.holdout={config.holdout}"]
    return sets if length is None else [*sets, f"data.length={length}"]


def _yaml(value: object) -> str:
    """Return a value as YAML on one line; JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)
