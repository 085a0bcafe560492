"""Read the original's spelling, ``phase=A1... variant=... dim=256``, as settings.

Light: imports nothing heavy. The table is `original_keys`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mdlm_core.errors import UsageError

from .original_keys import BOUNDARIES, DECLINED, KEYS, NEEDS, Values

SPECIAL = ("phase", "variant", "preset")
"""Keys that choose something else than a setting."""
_FRACTIONS = ("curriculum.easy_fraction", "curriculum.hard_fraction")
_TRUTH = {"true", "yes", "on", "1"}


@dataclass(frozen=True, slots=True)
class Original:
    """A command line of the original, translated."""

    phase: str | None
    """Which phase; None if none was named."""
    variant: str | None
    preset: str | None
    """The stage of the data: debug, validation or production."""
    sets: tuple[str, ...]
    """Our assignments ``path=value``, in the order of the command line."""
    needs: tuple[str, ...]
    """Switches that were turned on, of `original_keys.NEEDS`."""
    off: tuple[str, ...]
    """Those of `sets` that switch a part of the method off."""


def translate(arguments: Iterable[str], ours: Collection[str] = ()) -> Original:
    """Translate ``key=value`` arguments of the original's scripts.

    Args:
        arguments: as typed; ``+key=value``, as Hydra has it, is the same.
        ours: dotted paths of our settings, which are taken as well.

    Raises:
        UsageError: if an argument is no assignment, its key is unknown (with near
            misses) or not taken (with the reason), or its value is none of those it
            can have.
    """
    chosen: dict[str, str] = {}
    fractions: dict[str, str] = {}
    sets: list[str] = []
    needs: list[str] = []
    off: list[str] = []
    for argument in arguments:
        key, value = _assignment(argument)
        if key in SPECIAL:
            chosen[key] = value
            continue
        name = _known(key)
        if name in _FRACTIONS:
            fractions[name] = value
        elif name is not None:
            found = _apply(key, KEYS[name], value)
            sets += found
            switch = name.removeprefix("model.")
            if switch in NEEDS and found:
                off += found
            elif switch in NEEDS:
                needs.append(switch)
        elif reason := _declined(key):
            raise UsageError(f"'{key}' is not taken: {reason}")
        elif key in ours:
            sets.append(f"{key}={value}")
        else:
            raise UsageError(_unknown(key, ours))
    if fractions:  # first, so that use_curriculum=false is the last word
        sets.insert(0, _boundaries(fractions))
    return Original(
        chosen.get("phase"),
        chosen.get("variant"),
        chosen.get("preset"),
        tuple(sets),
        tuple(needs),
        tuple(off),
    )


def _assignment(argument: str) -> tuple[str, str]:
    key, equals, value = argument.lstrip("+").partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key or not value:
        raise UsageError(
            f"'{argument}' is no assignment; write key=value, such as "
            f"variant=importance_ablation_full"
        )
    return key, value


def _known(key: str) -> str | None:
    """Return the row's name of a key; ``dim`` is ``model.dim``."""
    if key in KEYS or key in _FRACTIONS:
        return key
    inner = f"model.{key}"
    return inner if inner in KEYS and "." not in key else None


def _apply(key: str, rule: str | Values, value: str) -> tuple[str, ...]:
    if isinstance(rule, str):
        return (f"{rule}={value}",)
    plain = value.lower()
    found = rule.get(plain)
    if found is None and "true" in rule and plain in _TRUTH | {"no", "off", "0"}:
        found = rule.get("true" if plain in _TRUTH else "false")
    if found is None and "*" in rule:
        found = tuple(text.format(value) for text in rule["*"])
    if found is None:
        raise UsageError(f"{key} is '{value}'; it must be {_options(rule, plain)}")
    return found


def _options(rule: Values, value: str) -> str:
    names = [name for name in rule if name != "*"]
    if len(names) == 1:
        return f"{names[0]}, which is always so here"
    near = difflib.get_close_matches(value, names, n=1)
    guess = f" (did you mean '{near[0]}'?)" if near else ""
    return f"one of {', '.join(names)}{guess}"


def _declined(key: str) -> str:
    for name, reason in DECLINED.items():
        if key == name or (name.endswith(".") and key.startswith(name)):
            return reason
    return ""


def _boundaries(fractions: Mapping[str, str]) -> str:
    """Return the curriculum whose stages end where the two fractions say."""
    try:
        easy, hard = (float(fractions.get(name, "0.3")) for name in _FRACTIONS)
    except ValueError:
        easy = hard = float("nan")
    preset = BOUNDARIES.get((easy, hard))
    if preset is None:
        given = ", ".join(f"{name}={value}" for name, value in fractions.items())
        known = "; ".join(
            f"{a} and {b} ({name})" for (a, b), name in BOUNDARIES.items()
        )
        raise UsageError(
            f"there is no curriculum with {given}; easy and hard fraction are {known}"
        )
    return f"masking.curriculum.preset={preset}"


def _unknown(key: str, ours: Collection[str]) -> str:
    short = {name.removeprefix("model.") for name in KEYS if "model." in name}
    known = sorted({*SPECIAL, *KEYS, *_FRACTIONS, *short, *ours})
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    if not near:  # the right name in the wrong section
        last = key.rpartition(".")[2]
        near = [name for name in known if name.rpartition(".")[2] == last][:3]
    guess = " or ".join(f"'{name}'" for name in near)
    remedy = (
        f"did you mean {guess}?"
        if near
        else "'mdlm config show --help-fields --plugin atat' lists our settings"
    )
    return f"there is no setting '{key}'; {remedy}"
