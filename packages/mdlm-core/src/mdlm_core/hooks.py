"""The hooks a plugin may implement.

A plugin is one module named by an entry point in the group ``mdlm.plugins``. Each
of its hook implementations takes no argument and yields specs::

    from mdlm_core import Ref, SamplerSpec, hookimpl


    @hookimpl
    def mdlm_samplers():
        yield SamplerSpec(
            name="greedy",
            summary="Commit the most probable token first.",
            factory=Ref("mdlm_greedy.sampler:build"),
            config=Ref("mdlm_greedy.config:GreedyConfig"),
        )

The module must import neither torch nor anything else that is slow: it is imported
whenever ``mdlm`` starts.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from .specs import (
    BackboneSpec,
    CommandSpec,
    DatasetSpec,
    MaskingPolicySpec,
    PresetSpec,
    SamplerSpec,
    ScheduleSpec,
    TaskSpec,
)

PROJECT = "mdlm"
ENTRY_POINT_GROUP = "mdlm.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def mdlm_backbones() -> Iterable[BackboneSpec]:
    """Yield denoisers, chosen by ``model.name``."""
    return ()


@hookspec
def mdlm_schedules() -> Iterable[ScheduleSpec]:
    """Yield noise schedules, chosen by ``schedule.name``."""
    return ()


@hookspec
def mdlm_masking_policies() -> Iterable[MaskingPolicySpec]:
    """Yield masking policies, chosen by ``masking.name``."""
    return ()


@hookspec
def mdlm_samplers() -> Iterable[SamplerSpec]:
    """Yield samplers, chosen by ``sampler.name`` or ``mdlm sample --sampler``."""
    return ()


@hookspec
def mdlm_datasets() -> Iterable[DatasetSpec]:
    """Yield data sources, chosen by ``data.name``."""
    return ()


@hookspec
def mdlm_tasks() -> Iterable[TaskSpec]:
    """Yield tasks, chosen by ``task.name``."""
    return ()


@hookspec
def mdlm_presets() -> Iterable[PresetSpec]:
    """Yield presets, chosen by ``--preset``; ``--plugin P`` chooses ``P/default``."""
    return ()


@hookspec
def mdlm_commands() -> Iterable[CommandSpec]:
    """Yield command groups, shown as ``mdlm NAME``."""
    return ()


HOOK_OF_KIND = {
    "backbone": "mdlm_backbones",
    "schedule": "mdlm_schedules",
    "masking": "mdlm_masking_policies",
    "sampler": "mdlm_samplers",
    "dataset": "mdlm_datasets",
    "task": "mdlm_tasks",
    "preset": "mdlm_presets",
    "command": "mdlm_commands",
}
