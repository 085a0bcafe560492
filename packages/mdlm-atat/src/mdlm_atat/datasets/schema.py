"""What ``datasets.yaml`` may hold, and how it is read. Light: imports nothing heavy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, NoReturn, Union, get_args, get_origin

from mdlm_core.config.layers import join
from mdlm_core.config.structure import hints, type_text
from mdlm_core.errors import ConfigError, UnknownNameError

SPLITS = ("train", "validation", "test")
_NAMED = re.compile(r"\s*([^\s()]+)\s*(?:\(\s*([^\s()]+)\s*\))?\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stage of work, and the size of data that belongs to it."""

    description: str = ""
    default_preset: str
    """The variant of each data set that is meant where none is named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A size of a data set."""

    description: str = ""
    max_tokens: int | None = None
    """A budget for each split; null means all text."""
    about_tokens: int | None = None
    """Roughly how many there are where there is no budget."""

    def __post_init__(self) -> None:
        if self.max_tokens is None and self.about_tokens is None:
            raise ConfigError(
                "neither max_tokens nor about_tokens is set; give a budget, or say "
                "about how many tokens there are"
            )
        for name in ("max_tokens", "about_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Where a data set is, what it is, and its sizes."""

    description: str = ""
    source: str
    """``builtin:python-docs``, ``file:PATH`` or ``hf:NAME``."""
    license: str = "unknown"
    text_field: str = "text"
    """The key or column of the text, where there are several."""
    subset: str = ""
    """The configuration on the hub, if there are several."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Split -> file in PATH, or split on the hub; nothing means all is train."""
    local: Mapping[str, str] = field(default_factory=dict)
    """Split -> file that is read instead of the hub where it exists."""
    tokenizer: str | None = None
    """What a budget is counted with, and a phase trains with."""
    holdout: float | None = None
    """The share of documents held out where there is no validation split."""
    chunk: int | None = None
    """Characters in a document that is cut from longer text; 0 cuts nothing."""
    symbols: Literal["any", "a-z"] = "any"
    variants: Mapping[str, Variant]

    def __post_init__(self) -> None:
        kind, _, place = self.source.partition(":")
        if kind not in ("builtin", "file", "hf") or not place:
            near = near_miss(kind, ("builtin", "file", "hf"))
            raise ConfigError(
                f"source is '{self.source}'; write builtin:python-docs, file:PATH or "
                f"hf:NAME{near}"
            )
        if kind == "builtin" and place != "python-docs":
            raise ConfigError(
                f"source is '{self.source}'; there is one built in, builtin:python-docs"
            )
        for split in (*self.splits, *self.local):
            choose("split", split, SPLITS)
        if self.splits and "train" not in self.splits and kind == "builtin":
            raise ConfigError("splits has no train, the one split of what is built in")
        if not self.variants:
            raise ConfigError("variants is empty; give at least one size")
        if self.chunk is not None and self.chunk < 0:
            raise ConfigError(f"chunk is {self.chunk}; it must be 0 or more")
        _check_holdout(self.holdout)

    @property
    def kind(self) -> str:
        """``builtin``, ``file`` or ``hf``."""
        return self.source.partition(":")[0]

    @property
    def place(self) -> str:
        """What stands behind the kind."""
        return self.source.partition(":")[2]

    def split_names(self) -> tuple[str, ...]:
        """Return the splits that the source has."""
        return tuple(split for split in SPLITS if split in (self.splits or ("train",)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What holds where a data set or a phase says nothing."""

    stage: str = "validation"
    tokenizer: str = "byte"
    holdout: float = 0.05
    chunk: int = 2000
    seeds: tuple[int, ...] = (1, 2, 3)
    eval_windows: int = 384
    eval_draws: int = 16

    def __post_init__(self) -> None:
        _check_holdout(self.holdout)
        if self.chunk < 0:
            raise ConfigError(f"chunk is {self.chunk}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """An ablation: what is trained, on what, measured on what."""

    description: str = ""
    aliases: tuple[str, ...] = ()
    dataset: str
    """``NAME`` or ``NAME (VARIANT)``."""
    val_dataset: str | None = None
    """What is measured on; null means held-out documents of `dataset`."""
    fallback: str | None = None
    """Used for both, and told, where one of them cannot be had."""
    preset: str
    """The preset of the runs, such as ``atat/small``."""
    tokenizer: str | None = None
    length: int | None = None
    batch_size: int | None = None
    steps: int | None = None
    variants: tuple[str, ...]
    """Rows of the ablation."""
    seeds: tuple[int, ...] | None = None
    eval_windows: int | None = None
    """Held-out rows that are scored."""
    eval_draws: int | None = None
    """Noise levels for each of them."""
    sets: Mapping[str, object] = field(default_factory=dict)
    """More settings of the runs: dotted path -> value."""

    def __post_init__(self) -> None:
        for name in ("length", "batch_size", "steps", "eval_windows", "eval_draws"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        for name in ("variants", "seeds"):
            if getattr(self, name) == ():
                raise ConfigError(f"{name} is empty; give at least one")


@dataclass(frozen=True, kw_only=True, slots=True)
class Registry:
    """All of ``datasets.yaml``."""

    stages: Mapping[str, Stage] = field(default_factory=dict)
    defaults: Defaults = field(default_factory=Defaults)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    phase_configurations: Mapping[str, Phase] = field(default_factory=dict)


class Named(NamedTuple):
    """A data set and, perhaps, one of its variants."""

    dataset: str
    variant: str | None


def parse_named(text: str) -> Named:
    """Read ``NAME`` or ``NAME (VARIANT)``.

    Raises:
        ConfigError: if it is neither.
    """
    found = _NAMED.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"'{text}' names no data set; write NAME or NAME (VARIANT), such as "
            "openwebtext (small)"
        )
    return Named(found[1], found[2])


def near_miss(name: str, known: Iterable[str], marks: str = "; ") -> str:
    """Return a question that names what `name` may have meant, or nothing."""
    folded = {item.casefold(): item for item in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.55)
    if not near:
        return ""
    guess = " or ".join(f"'{folded[item]}'" for item in near)
    return f"{marks}did you mean {guess}?"


def choose(what: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is one of `known`.

    Raises:
        UnknownNameError: if it is not; the message has near misses.
    """
    known = list(known)
    if name in known:
        return name
    guess = near_miss(name, known, " (")
    raise UnknownNameError(
        f"there is no {what} '{name}'{guess}{')' * bool(guess)}. There "
        f"{'are' if len(known) != 1 else 'is'}: {', '.join(known) or 'none'}"
    )


def _check_holdout(value: float | None) -> None:
    if value is not None and not 0 < value < 1:
        raise ConfigError(f"holdout is {value}; it must be in (0, 1)")


# ---- reading ----------------------------------------------------------------


class Reader:
    """Turn nested mappings into the records above; errors say where and what."""

    def __init__(self, origins: Mapping[str, str]) -> None:
        """Take the origin of each leaf, as `mdlm_core.config.layers` knows them."""
        self.origins = origins

    def build(self, cls: type, tree: object, path: str = "") -> Any:
        """Return `tree` as a `cls`.

        Raises:
            ConfigError: if a key is unknown, a value has the wrong type, or a rule is
                broken.
        """
        if not isinstance(tree, Mapping):
            self.wrong(path, tree, "a mapping")
        types = hints(cls)
        known = [entry.name for entry in fields(cls)]
        for key in tree:
            if key not in known:
                guess = near_miss(key, known)
                has = guess or f"; {path or 'the file'} has {', '.join(known)}"
                raise ConfigError(
                    f"there is no key '{join(path, key)}'"
                    f"{self.origin(join(path, key))}{has}"
                )
        for entry in fields(cls):
            bare = entry.default is MISSING and entry.default_factory is MISSING
            if bare and entry.name not in tree:
                raise ConfigError(
                    f"{join(path, entry.name)} is missing{self.origin(path)}; it is "
                    f"{type_text(types[entry.name])}"
                )
        values = {
            key: self.value(types[key], item, join(path, key))
            for key, item in tree.items()
        }
        try:
            return cls(**values)
        except ConfigError as error:
            message = f"{path}: {error}{self.origin(path)}"
            raise type(error)(message) from error

    def value(self, hint: Any, value: Any, path: str) -> Any:
        """Return `value` as a `hint`."""
        origin, arguments = get_origin(hint), get_args(hint)
        if is_dataclass(hint):
            assert isinstance(hint, type)
            return self.build(hint, value, path)
        if origin is Mapping:
            if not isinstance(value, Mapping):
                self.wrong(path, value, "a mapping")
            return {
                key: self.value(arguments[1], item, join(path, key))
                for key, item in value.items()
            }
        if origin is tuple:
            if not isinstance(value, list):
                self.wrong(path, value, type_text(hint))
            return tuple(
                self.value(arguments[0], item, f"{path}[{i}]")
                for i, item in enumerate(value)
            )
        if origin in (Union, UnionType):
            if value is None and NoneType in arguments:
                return None
            (plain,) = (item for item in arguments if item is not NoneType)
            return self.value(plain, value, path)
        if origin is Literal:
            if value not in arguments:
                guess = near_miss(str(value), arguments)
                self.wrong(path, value, type_text(hint) + guess)
            return value
        return self.scalar(hint, value, path)

    def scalar(self, hint: Any, value: Any, path: str) -> Any:
        """Return a number or text."""
        if hint is object:
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if hint is float and number:
            return float(value)
        if hint is int and number and float(value).is_integer():
            return int(value)
        if hint is str and isinstance(value, str):
            return value
        remedy = "; put it in quotes" if hint is str and number else ""
        self.wrong(path, value, type_text(hint) + remedy)

    def origin(self, path: str) -> str:
        """Return where `path`, or something in it, comes from, for a message."""
        place = self.place(path)
        return f" (from {place})" if place else ""

    def place(self, path: str) -> str:
        """Return where `path`, or something in it, comes from."""
        path = path.partition("[")[0]
        for leaf, place in self.origins.items():
            if leaf == path or leaf.startswith(f"{path}."):
                return place
        return ""

    def wrong(self, path: str, value: object, expected: str) -> NoReturn:
        """Refuse a value."""
        shown = "null" if value is None else repr(value)
        raise ConfigError(
            f"{path or 'the file'} is {shown:.60}; it must be {expected}"
            f"{self.origin(path)}"
        )
