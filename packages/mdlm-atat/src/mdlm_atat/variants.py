"""The variants of the ablations, as settings. Light: imports nothing heavy.

A variant is a list of settings on top of a preset such as ``atat/books-cpu``; all else
(model, data, steps, seeds) is the same for all variants of an ablation.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mdlm_core.errors import UnknownNameError, UsageError

BASELINE = "uniform"
"""What the other variants are compared with."""
TIMES = "task.t_sampling"
_PREFIX = "importance_ablation_"
_PLAIN_TIMES = "task.t_sampling=stratified"
_BELL_TIMES = "task.t_sampling=bell"
_POLICY = "masking.name=atat"
_DATA = ("data", "data.name", "data.path")
_FREQUENCY = ("masking.importance.learned=0", "masking.importance.frequency=1")


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of an ablation."""

    name: str
    description: str
    """What is different, in a few words."""
    sets: tuple[str, ...]
    """``path=value`` texts on top of a preset."""
    time_matched: str = ""
    """The variant whose measured training time decides this one's steps."""
    against: str = ""
    """A variant that it is compared with besides `BASELINE`, if both are there."""

    @property
    def adaptive(self) -> bool:
        """Whether it has the adaptive masking policy, and so its settings."""
        return _POLICY in self.sets


def _adaptive(
    name: str,
    description: str,
    *sets: str,
    times: str = _PLAIN_TIMES,
    against: str = "",
) -> Variant:
    return Variant(name, description, (_POLICY, times, *sets), against=against)


_ALL = (
    _adaptive(
        "full",
        "0.7 learned + 0.3 frequency, curriculum, weight 1/m",
        against="uniform_time_matched",
    ),
    _adaptive(
        "frequency_only", "importance is the rank by corpus frequency", *_FREQUENCY
    ),
    _adaptive(
        "learned_only",
        "importance is the network's alone",
        "masking.importance.learned=1",
        "masking.importance.frequency=0",
    ),
    Variant(
        BASELINE,
        "the plain process: all tokens alike",
        ("masking.name=uniform", _PLAIN_TIMES),
    ),
    _adaptive(
        "frequency_naive",
        "frequency masks with the weight of uniform ones: biased, for contrast only",
        *_FREQUENCY,
        "masking.ht_power=0",
    ),
    Variant(
        "bell",
        "all tokens alike, bell-shaped times",
        ("masking.name=uniform", _BELL_TIMES),
    ),
    _adaptive(
        "full_bell", "full with bell-shaped times", times=_BELL_TIMES, against="bell"
    ),
    _adaptive(
        "frequency_inverse",
        "rare tokens are hidden later",
        *_FREQUENCY,
        "masking.strategy=inverse",
    ),
    _adaptive(
        "proportional",
        "important tokens are hidden earlier throughout",
        "masking.strategy=proportional",
    ),
    _adaptive(
        "inverse",
        "important tokens are hidden later throughout",
        "masking.strategy=inverse",
    ),
    _adaptive(
        "balanced", "the curriculum decides the sign", "masking.strategy=balanced"
    ),
    _adaptive(
        "time_only",
        "the policy without a bias: masks of the plain process",
        "masking.strategy=time_only",
    ),
    *(
        _adaptive(
            f"curriculum_{name}",
            description,
            f"masking.curriculum.preset={name}",
        )
        for name, description in (
            ("default", "stages end at 0.3 and 0.7"),
            ("early", "stages end at 0.2 and 0.6"),
            ("late", "stages end at 0.35 and 0.8"),
            ("none", "no stages: one strength until the final fall"),
        )
    ),
    Variant(
        "uniform_time_matched",
        "uniform with as many steps as fit in the training time of full",
        ("masking.name=uniform", _PLAIN_TIMES),
        time_matched="full",
    ),
)

VARIANTS = {variant.name: variant for variant in _ALL}
"""Name -> variant."""
ALIASES = {f"{_PREFIX}{name}": name for name in VARIANTS}
"""The original's spellings -> ours."""


def find_variant(name: str) -> Variant:
    """Return a variant by its name; ``importance_ablation_full`` finds ``full``.

    Raises:
        UnknownNameError: if there is none, with near misses.
    """
    plain = name.strip().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain in VARIANTS:
        return VARIANTS[plain]
    message = f"there is no variant '{name}'"
    bare = plain.removeprefix(_PREFIX)
    if near := difflib.get_close_matches(bare, VARIANTS, n=3):
        guess = " or ".join(f"'{item}'" for item in near)
        message += f" (did you mean {guess}?)"
    raise UnknownNameError(f"{message}. Variants: {', '.join(VARIANTS)}")


def find_variants(names: Iterable[str]) -> list[Variant]:
    """Return variants by their names, each once, in this order.

    Raises:
        UnknownNameError: if there is none of one of the names.
    """
    return list({found.name: found for found in map(find_variant, names)}.values())


def sets_data(sets: Iterable[str]) -> bool:
    """Return whether ``path=value`` texts bring other data than those of a phase."""
    return any(text.partition("=")[0].strip() in _DATA for text in sets)


def settings_of(variant: Variant, sets: Sequence[str]) -> tuple[str, ...]:
    """Return the ``path=value`` texts of a variant on top of those of a user.

    A user's settings of the masking policy go to the variants that have it.

    Raises:
        UsageError: if a user sets what the variant stands for.
    """
    decided = [text.partition("=")[0].strip() for text in variant.sets]
    kept = []
    for text in sets:
        path = text.partition("=")[0].strip()
        of_policy = path.startswith("masking.") and path != "masking.name"
        if of_policy and not variant.adaptive:
            continue
        for own in decided:
            if own == path or own.startswith(f"{path}.") or path.startswith(f"{own}."):
                raise UsageError(
                    f"--set {text}: variant '{variant.name}' stands for its own "
                    f"{own}, so that this cannot be set; choose other variants with "
                    f"--variants: {', '.join(VARIANTS)}"
                )
        kept.append(text)
    return (*kept, *variant.sets)
