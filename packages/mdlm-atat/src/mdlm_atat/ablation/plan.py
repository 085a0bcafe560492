"""Which runs an ablation has, and what identifies each of them.

Light: settings are resolved and checked here, before torch is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mdlm_atat.variants import BASELINE, Variant, find_variant, sets_data, settings_of
from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig, resolve, to_dict
from mdlm_core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What an ablation compares, and on what."""

    name: str
    preset: str
    sets: tuple[str, ...] = ()
    """``path=value`` texts for all variants: the data, the number of steps."""
    variants: tuple[str, ...] = (BASELINE,)
    seeds: tuple[int, ...] = (0,)
    text_sha256: str = ""
    """SHA-256 of the prepared training text, which stands for its path in the hash."""
    note: str = ""
    """What a reader of the report has to know, such as other data than named."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run: a variant with a seed, and its settings."""

    variant: Variant
    seed: int
    config: RunConfig
    waits: bool = False
    """Whether its number of steps is still to be decided by measured times."""
    text_sha256: str = ""
    """See `Phase.text_sha256`."""

    @property
    def hash(self) -> str:
        """What identifies the settings, the seed and the text among them."""
        return config_hash(self.config, self.text_sha256)

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return f"{self.variant.name}-seed{self.seed}-{self.hash[:8]}"

    def with_steps(self, steps: int) -> Job:
        """Return the job with its number of steps decided."""
        train = replace(self.config.train, steps=steps)
        return replace(self, config=replace(self.config, train=train), waits=False)


def config_hash(config: RunConfig, text_sha256: str = "") -> str:
    """Return a hash of all resolved settings: another value, another hash.

    Args:
        config: the settings.
        text_sha256: where it is known, it stands for the path of the training text:
            another text is another run, and the same text elsewhere is not.
    """
    values = to_dict(config)
    if text_sha256:
        values["data"] = {**values["data"], "path": f"sha256:{text_sha256}"}
    return digest(values)


def digest(values: Mapping[str, Any]) -> str:
    """Return a short hash of plain values, whatever the order of the keys."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_jobs(
    catalog: Catalog,
    phase: Phase,
    *,
    sets: Sequence[str] = (),
    tiny: bool = False,
) -> list[Job]:
    """Resolve the settings of all runs, seed by seed.

    Args:
        catalog: what can be chosen.
        phase: variants, seeds, preset and what all have in common.
        sets: ``path=value`` texts of the user, on top of the phase's. Those of the
            masking policy go to the variants that have it.
        tiny: whether to shrink every run to seconds.

    Raises:
        ConfigError: if a setting is unknown or breaks a rule.
        UnknownNameError: if there is no such variant.
        UsageError: if a time-matched variant lacks what it is matched to, or a
            setting contradicts a variant.
    """
    variants = [find_variant(name) for name in dict.fromkeys(phase.variants)]
    _check_matched(variants)
    common = (*_below(phase.sets, sets, tiny), *sets)
    jobs = []
    for seed in phase.seeds:
        for variant in variants:
            resolved = resolve(
                catalog,
                preset=phase.preset,
                sets=(*settings_of(variant, common), f"seed={seed}"),
                tiny=tiny,
            )
            waits = bool(variant.time_matched)
            job = Job(variant, seed, resolved.config, waits, phase.text_sha256)
            jobs.append(job)
    return jobs


def _below(phase: Sequence[str], user: Sequence[str], tiny: bool) -> list[str]:
    """Return the settings of a phase that neither the user nor ``--tiny`` replaces."""
    given, own_data = {_path(text) for text in user}, sets_data(user)
    kept = []
    for text in phase:
        path = _path(text)
        if path in given or (own_data and path.startswith("data.")):
            continue
        if tiny and (path.startswith("train.") or path in _SHRUNK):
            continue
        kept.append(text)
    return kept


_SHRUNK = ("data.length", "task.eval_rows", "task.eval_draws")
"""What ``--tiny`` decides, besides `train`."""


def _path(text: str) -> str:
    return text.partition("=")[0].strip()


def _check_matched(variants: Sequence[Variant]) -> None:
    names = {variant.name for variant in variants}
    for variant in variants:
        if not variant.time_matched:
            continue
        missing = [n for n in (variant.time_matched, BASELINE) if n not in names]
        if missing:
            raise UsageError(
                f"variant '{variant.name}' needs the measured times of "
                f"{' and '.join(missing)}; add them to --variants"
            )


def matched_steps(own: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Return how many steps of one run fit in the training time of another.

    Args:
        own: the row of a run whose steps take as long as those that are asked for.
        other: the row of the run that took the time.
    """
    speed = float(own["steps_per_second"]) / float(other["steps_per_second"])
    return max(1, round(int(other["steps"]) * speed))
