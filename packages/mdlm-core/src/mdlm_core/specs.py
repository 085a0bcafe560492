"""Frozen records that plugins yield: what exists, where it lives, how it is set up.

A component spec names a factory (heavy, imported when it is used) and a
configuration dataclass (light, imported when a configuration is checked). How the
factory of each kind is called is written on the spec of that kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from .errors import PluginError
from .refs import Ref

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PRESET_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)?")
_SUMMARY_LENGTH = 72


def _check(kind: str, name: str, summary: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(name):
        raise PluginError(f"{kind} name '{name}' is not kebab-case (a-z, 0-9, -)")
    if not summary or "\n" in summary or len(summary) > _SUMMARY_LENGTH:
        raise PluginError(
            f"{kind} '{name}': the summary is one line of 1 to {_SUMMARY_LENGTH} "
            f"characters, got {len(summary)}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentSpec:
    """Something a configuration can choose by name."""

    kind: ClassVar[str] = "component"

    name: str
    """Kebab-case, unique within its kind."""
    summary: str
    """One line of at most 72 characters, shown by ``mdlm list``."""
    factory: Ref
    """What builds it; heavy."""
    config: Ref
    """The dataclass of its settings; light."""
    tiny: Mapping[str, object] = field(default_factory=dict)
    """Settings small enough for seconds on a CPU (``--tiny`` and the laws)."""
    requires: tuple[str, ...] = ()
    """Modules that must be importable, checked before the factory is."""
    extra: str = ""
    """What to install for them, for example ``mdlm-core[hf]``."""

    def __post_init__(self) -> None:
        _check(self.kind, self.name, self.summary, _NAME)


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSpec(ComponentSpec):
    """A denoiser: ``factory(config, *, vocab_size, mask_id, length) -> Backbone``."""

    kind: ClassVar[str] = "backbone"

    pretrained: bool = False
    """Whether the weights come from outside, so that laws on training do not apply."""
    ids: tuple[int, int] | None = None
    """The number of ids and the mask's id, of a model with an alphabet of its own."""
    axes: int = 1
    """How many axes of positions its tokens have, see `Batch.positions`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSpec(ComponentSpec):
    """A noise schedule: ``factory(config) -> Schedule``."""

    kind: ClassVar[str] = "schedule"


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskingPolicySpec(ComponentSpec):
    """Which tokens are hidden when: ``factory(config, *, source) -> MaskingPolicy``."""

    kind: ClassVar[str] = "masking"

    learned: bool = False
    """Whether it has parameters that train with the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerSpec(ComponentSpec):
    """A way to fill a canvas: ``factory(config) -> Sampler``.

    Its settings derive from `SamplerConfig` or have its fields: `steps`,
    `temperature`, `top_k`, `top_p` and `batch_size`. Who calls the sampler reads them,
    because it is the denoiser that draws tokens.
    """

    kind: ClassVar[str] = "sampler"

    remasks: bool = False
    """Whether a committed token may be hidden again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec(ComponentSpec):
    """A source of batches: ``factory(config) -> DataSource``."""

    kind: ClassVar[str] = "dataset"

    modality: str = "text"
    offline: bool = True
    """Whether it works with no network and no file of the user's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec(ComponentSpec):
    """What is trained and how: ``factory(config, *, run, catalog) -> Task``."""

    kind: ClassVar[str] = "task"

    modality: tuple[str, ...] = ("text",)
    next_steps: tuple[str, ...] = (
        "mdlm sample {run} --num 4",
        "mdlm evaluate {run}",
    )
    """Commands to go on with after training; ``{run}`` is the run folder. Settings that
    decide them have a property of this name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PresetSpec:
    """A named configuration file inside a package."""

    kind: ClassVar[str] = "preset"

    name: str
    """``default``, or ``plugin/default``; ``--plugin P`` selects ``P/default``."""
    summary: str
    path: str
    """``"package:presets/default.yaml"``, read as package data."""

    def __post_init__(self) -> None:
        _check(self.kind, self.name, self.summary, _PRESET_NAME)
        if not re.fullmatch(r"[\w.]+:[\w./-]+\.yaml", self.path):
            raise PluginError(
                f"preset '{self.name}': '{self.path}' is not 'package:folder/file.yaml'"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandSpec:
    """A group of commands: ``mdlm NAME ...``."""

    kind: ClassVar[str] = "command"

    name: str
    summary: str
    app: Ref
    """A ``typer.Typer``; its module is light at import."""

    def __post_init__(self) -> None:
        _check(self.kind, self.name, self.summary, _NAME)


Spec = ComponentSpec | PresetSpec | CommandSpec
