"""The classifiers that can be compared, by name: those of this package, and baselines.

Light: a classifier's module is imported when it is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from mdlm_core import Ref
from mdlm_core.catalog import Catalog
from mdlm_core.config import resolve
from mdlm_core.config.layers import leaves, set_layer
from mdlm_core.errors import UnknownNameError, UsageError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A classifier that can be compared."""

    summary: str
    factory: Ref
    arguments: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = True
    """Whether it is trained by steps, with settings and a run folder; else it is a
    baseline, `factory` makes it from its name, and there is nothing to set."""


_BASELINE = Ref("mdlm_classify.baselines:baseline")
_MDLM = Ref("mdlm_classify.mdlm:MDLMClassifier")

CANDIDATES: Mapping[str, Candidate] = MappingProxyType(
    {
        "nb": Candidate("multinomial naive Bayes of words", _BASELINE, trained=False),
        "nb-pairs": Candidate(
            "multinomial naive Bayes of words and pairs", _BASELINE, trained=False
        ),
        "nb-lr": Candidate(
            "logistic regression on ratios of naive Bayes", _BASELINE, trained=False
        ),
        "tfidf-lr": Candidate(
            "logistic regression on TF-IDF", _BASELINE, trained=False
        ),
        "mdlm": Candidate("masked diffusion told the class", _MDLM),
        "mdlm-per-class": Candidate(
            "one masked diffusion for each class", _MDLM, {"per_class": True}
        ),
        "simple": Candidate(
            "the smallest masked diffusion",
            Ref("mdlm_classify.simple:SimpleMaskedDiffusion"),
        ),
        "causal": Candidate(
            "one causal language model for each class",
            Ref("mdlm_classify.causal:CausalLMClassifier"),
        ),
        "discriminative": Candidate(
            "an encoder with a head over the classes",
            Ref("mdlm_classify.discriminative:DiscriminativeClassifier"),
        ),
    }
)
"""What `make` makes, by name; naive Bayes first, the reference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is asked of the candidates that are trained by steps."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings by dotted path, for all of them."""
    of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More settings for one of them, by its name."""
    tiny: bool = False
    device: str = "auto"
    seed: int = 0
    verbose: bool = False


def choose(names: Iterable[str]) -> tuple[str, ...]:
    """Check the names of candidates; none chooses all.

    Raises:
        UnknownNameError: if there is none of that name.
        UsageError: if one is there twice.
    """
    wanted = tuple(names) or tuple(CANDIDATES)
    for name in wanted:
        if name not in CANDIDATES:
            close = get_close_matches(name, CANDIDATES, 1)
            known = ", ".join(CANDIDATES)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {known}"
            raise UnknownNameError(f"there is no model '{name}' to compare; {hint}")
        if wanted.count(name) > 1:
            raise UsageError(f"the model '{name}' is there twice; name it once")
    return wanted


def split_sets(
    sets: Iterable[str],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return settings for all candidates, and more for some of them.

    Args:
        sets: ``path=value``, or ``name:path=value`` for the candidate of that name.

    Raises:
        ConfigError: if one is no setting.
        UsageError: if it is for a candidate that has no settings.
    """
    every: dict[str, Any] = {}
    of: dict[str, dict[str, Any]] = {}
    for text in sets:
        name, colon, rest = text.partition(":")
        if not colon or name not in CANDIDATES:
            every.update(leaves(set_layer([text]).tree))
            continue
        if not CANDIDATES[name].trained:
            raise UsageError(f"--set {text}: '{name}' has no settings")
        of.setdefault(name, {}).update(leaves(set_layer([rest]).tree))
    return every, of


def check(name: str, model: Any, catalog: Catalog) -> None:
    """Find errors in the settings of a candidate before anything is learned.

    Args:
        name: one of `CANDIDATES`.
        model: what `make` made of it.
        catalog: what can be chosen.

    Raises:
        ConfigError: if a setting is unknown, of the wrong type, or breaks a rule.
    """
    if not CANDIDATES[name].trained:
        return
    sets = [
        f"{path}={json.dumps(value)}" for path, value in (model.settings or {}).items()
    ]
    resolve(catalog, preset=model.preset, sets=sets, tiny=model.tiny)


def make(name: str, wanted: Wanted, *, out: str | None = None) -> Any:
    """Make a candidate, not yet fitted.

    Args:
        name: one of `CANDIDATES`.
        wanted: what is asked of it, if it is trained by steps.
        out: its run folder; None trains in a temporary one.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    (name,) = choose([name])
    candidate = CANDIDATES[name]
    factory = candidate.factory.load()
    if not candidate.trained:
        return factory(name)
    settings = {**wanted.settings, **wanted.of.get(name, {})}
    return factory(
        **candidate.arguments,
        settings=settings or None,
        tiny=wanted.tiny,
        out=out,
        device=wanted.device,
        random_state=wanted.seed,
        verbose=wanted.verbose,
    )
