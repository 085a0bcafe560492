"""Which columns of a table are read, and what stands in a cell.

Letters: K columns that are observed: the five traits, then the labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mdlm_core.errors import ConfigError, DataError
from mdlm_personality.config import PersonaTextConfig
from mdlm_personality.traits import TRAITS, trait_index

_YES = {"y": 1.0, "yes": 1.0, "true": 1.0, "n": 0.0, "no": 0.0, "false": 0.0}
_TEXTS = ("text", "body", "status", "comment", "content", "message", "post", "posts")
_SHOWN = 12
_LONGEST = 24


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read of each row."""

    text: str | None
    """None if there are no texts."""
    author: str | None
    """None if nobody is named."""
    traits: tuple[str | None, ...]
    """The column of each trait; None if a trait is not told."""
    scale: tuple[float, float]
    """The lowest and the highest score."""
    labels: tuple[str, ...]
    missing: frozenset[str]
    """What stands for a cell that is not known, in lower case."""
    missing_scores: frozenset[float]
    """Numbers that stand for a trait that is not known."""

    def values(self, row: Mapping[str, object], where: str) -> list[float]:
        """Return the K values of a row, traits in [0, 1], NaN for what is not known.

        Raises:
            DataError: if a cell holds no number, or a score is outside the scale.
        """
        return [
            math.nan if column is None else self._score(row.get(column), column, where)
            for column in self.traits
        ] + [self._number(row.get(label), label, where) for label in self.labels]

    def _score(self, cell: object, column: str, where: str) -> float:
        low, high = self.scale
        if isinstance(cell, bool):
            return float(cell)
        if isinstance(cell, str) and cell.strip().lower() in _YES:
            return _YES[cell.strip().lower()]
        value = self._number(cell, column, where)
        if math.isnan(value) or value in self.missing_scores:
            return math.nan
        if not low <= value <= high:
            raise DataError(
                f"{where}: {column} is {value:g}, and a score is from {low:g} to "
                f"{high:g}; say what the lowest and the highest score are with "
                "data.scale, and what stands for an unknown one with data.missing"
            )
        return (value - low) / (high - low)

    def _number(self, cell: object, column: str, where: str) -> float:
        if cell is None:
            return math.nan
        if isinstance(cell, str) and cell.strip().lower() in self.missing:
            return math.nan
        try:
            value = float(cell) if isinstance(cell, str | int | float) else math.inf
        except (ValueError, OverflowError):
            value = math.inf
        if math.isinf(value):
            raise DataError(
                f"{where}: {column} is {_short(cell)}, which is no number; correct it, "
                "or add it to data.missing if it stands for an unknown one"
            )
        return value


def plan(
    config: PersonaTextConfig,
    names: Sequence[str],
    where: str,
    *,
    usual: Mapping[str, str] | None = None,
    text: str | None = None,
    author: str | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
) -> Plan:
    """Return what is read of a table with the columns `names`.

    Args:
        config: the settings; they go before what is usual.
        names: the columns that are there.
        where: the file, for errors.
        usual: the usual column of each trait in this format; by default its name or
            first letter, in any case.
        text: the usual column of the texts; by default ``config.text``.
        author: the usual column of the author; by default ``config.author``.
        scale: the usual lowest and highest score.

    Raises:
        ConfigError: if an unknown score is also a score.
        DataError: if a column is missing; near misses and all columns are listed.
        UnknownNameError: if ``config.columns`` names no trait.
    """
    chosen = {trait_index(key): value for key, value in config.columns.items()}
    traits: list[str | None] = []
    for index, trait in enumerate(TRAITS):
        if index in chosen:
            name: str | None = chosen[index]
            if name:
                _require(name, names, where, "data.columns")
            traits.append(name or None)
        else:
            expected = (usual or {}).get(trait)
            found = _either(names, expected or trait, trait, trait[0])
            _require(found or expected or trait, names, where, "data.columns")
            traits.append(found)
    for label in config.labels:
        _require(label, names, where, "data.labels")
        if label.lower() in TRAITS or label in traits:
            raise ConfigError(
                f"data.labels has '{label}', which is a trait; labels are what is "
                "observed beside the traits"
            )
    scale = config.scale or scale
    marks = {mark.strip().lower() for mark in config.missing} | {"", "nan"}
    scores = {value for mark in marks if not math.isnan(value := _parsed(mark))}
    wrong = sorted(s for s in scores if scale[0] <= s <= scale[1])
    if wrong:
        raise ConfigError(
            f"data.missing has {wrong[0]:g}, which is also a score from {scale[0]:g} "
            f"to {scale[1]:g}; set data.missing without it"
        )
    return Plan(
        text=_text_column(config.text, text, names, where),
        author=_author_column(config.author, author, names, where),
        traits=tuple(traits),
        scale=scale,
        labels=tuple(config.labels),
        missing=frozenset(mark for mark in marks if math.isnan(_parsed(mark))),
        missing_scores=frozenset(scores),
    )


def _short(cell: object) -> str:
    """Return a cell for a message: a column of texts named by mistake is not quoted."""
    text = repr(cell)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _parsed(mark: str) -> float:
    try:
        return float(mark)
    except ValueError:
        return math.nan


def _either(names: Sequence[str], *wanted: str) -> str | None:
    """Return the first of `wanted` that is there, in any case."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[w.lower()] for w in wanted if w.lower() in lower), None)


def _text_column(
    setting: str, usual: str | None, names: Sequence[str], where: str
) -> str | None:
    if not setting:
        return None
    if setting in names:
        return setting
    if setting != "text":
        _require(setting, names, where, "data.text")
    found = _either(names, usual or "text", "text")
    if usual is not None:
        _require(found or usual, names, where, "data.text")
    if found is not None:
        return found
    like = next((name for name in names if name.lower() in _TEXTS), None)
    if like is not None:
        raise DataError(
            f"{where} has no column 'text'; if the texts are in '{like}', set "
            f"data.text={like}, and if it is a table without texts, data.text=''"
        )
    return None


def _author_column(
    setting: str, usual: str | None, names: Sequence[str], where: str
) -> str | None:
    if setting in names:
        return setting
    if setting and setting != "author":
        _require(setting, names, where, "data.author")
    found = _either(names, usual or "author")
    if usual is not None:
        _require(found or usual, names, where, "data.author")
    return found


def _require(name: str, names: Sequence[str], where: str, setting: str) -> None:
    if name in names:
        return
    lower = {other.lower(): other for other in names}
    near = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    hint = f"; did you mean '{lower[near[0]]}'?" if near else ""
    shown = ", ".join(f"'{other}'" for other in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise DataError(
        f"{where} has no column '{name}'{hint}; its columns are {shown}{more}; name "
        f"one with {setting}"
    )
