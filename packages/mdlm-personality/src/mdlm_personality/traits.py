"""The five traits: names, short names, and what a user may say about them.

Light: imports nothing heavy. Values are in [0, 1] everywhere a user meets them, 0 the
lowest and 1 the highest score of a questionnaire; a trait that is not known is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from mdlm_core.errors import UnknownNameError, UsageError

TRAITS = (
    "openness",
    "conscientiousness",
    "extraversion",
    "agreeableness",
    "neuroticism",
)
"""In the order of every vector of traits."""

_SHORT = {"o": 0, "c": 1, "e": 2, "a": 3, "n": 4}
_UNKNOWN = ("", "?", "na", "none", "-")


def trait_index(name: str) -> int:
    """Return the place of a trait in `TRAITS`, given its name or first letter.

    Raises:
        UnknownNameError: if there is no such trait; near misses are listed.
    """
    key = name.strip().lower()
    if key in TRAITS:
        return TRAITS.index(key)
    if key in _SHORT:
        return _SHORT[key]
    near = get_close_matches(key, TRAITS, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UnknownNameError(
        f"'{name}' is no trait; the traits are {', '.join(TRAITS)}, or their first "
        f"letters.{hint}"
    )


def check_value(name: str, value: float) -> float:
    """Return `value` if it is a score in [0, 1].

    Raises:
        UsageError: if it is not.
    """
    if not (math.isfinite(value) and 0 <= value <= 1):
        hint = "; leave out what is not known, or write ?" if value != value else ""
        raise UsageError(
            f"{name} is {value:g}; a trait is a number from 0, the lowest score, to 1, "
            f"the highest{hint}"
        )
    return float(value)


def parse_traits(text: str) -> tuple[float | None, ...]:
    """Return five values of ``0.8,0.6,0.7,0.9,0.3`` or of ``openness=0.8,e=0.2``.

    In the first form ``?`` stands for a trait that is not known; in the second every
    trait that is not named is.

    Raises:
        UsageError: if there are not five numbers, or one is not in [0, 1].
        UnknownNameError: if a name is no trait.
    """
    parts = [part.strip() for part in text.split(",")]
    if any("=" in part for part in parts):
        found: dict[str, float] = {}
        for name, value in (assignment(part) for part in parts if part):
            if name in found:
                raise UsageError(f"--traits gives {name} twice; give it once")
            found[name] = value
        return from_mapping(found)
    if len(parts) != len(TRAITS):
        raise UsageError(
            f"--traits {text} has {len(parts)} values; give five, for "
            f"{', '.join(TRAITS)}, with ? for one that is not known, or name them: "
            f"openness=0.8,neuroticism=0.2"
        )
    return tuple(
        None if part.lower() in _UNKNOWN else check_value(name, _number(name, part))
        for name, part in zip(TRAITS, parts, strict=True)
    )


def from_mapping(values: Mapping[str, float]) -> tuple[float | None, ...]:
    """Return five values, None for traits that are not in `values`.

    Raises:
        UsageError: if a value is not in [0, 1], or a trait is there twice.
        UnknownNameError: if a name is no trait.
    """
    found: list[float | None] = [None] * len(TRAITS)
    for name, value in values.items():
        index = trait_index(name)
        if found[index] is not None:
            raise UsageError(f"{TRAITS[index]} is given twice; give it once")
        found[index] = check_value(TRAITS[index], value)
    return tuple(found)


def assignment(text: str) -> tuple[str, float]:
    """Return the name and the number of ``extraversion=0.2``.

    Raises:
        UsageError: if the text has another form.
    """
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise UsageError(f"'{text}' is not NAME=VALUE, such as extraversion=0.2")
    return name.strip(), _number(name.strip(), value)


def shown(values: Sequence[float | None]) -> str:
    """Return values as a user would write them: ``0.8,0.6,?,0.9,0.3``."""
    return ",".join("?" if value is None else f"{value:g}" for value in values)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"{name} is '{text.strip()}', which is no number; give one, for a trait "
            f"from 0 to 1"
        ) from None
