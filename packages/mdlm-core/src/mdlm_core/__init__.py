"""Masked diffusion language models: the core.

This module is the light public face; importing it does not import torch. The heavy
parts are imported by name: ``mdlm_core.nn``, ``mdlm_core.diffusion``,
``mdlm_core.samplers``, ``mdlm_core.data``, ``mdlm_core.train``.
"""

from .catalog import Catalog, load_catalog
from .errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MdlmError,
    MissingExtraError,
    PluginError,
    TrainingError,
    UnknownNameError,
    UsageError,
)
from .hooks import hookimpl
from .refs import Ref
from .specs import (
    BackboneSpec,
    CommandSpec,
    ComponentSpec,
    DatasetSpec,
    MaskingPolicySpec,
    PresetSpec,
    SamplerSpec,
    ScheduleSpec,
    TaskSpec,
)

__version__ = "0.1.0"

__all__ = [
    "BackboneSpec",
    "Catalog",
    "CheckpointError",
    "CommandSpec",
    "ComponentSpec",
    "ConfigError",
    "DataError",
    "DatasetSpec",
    "MaskingPolicySpec",
    "MdlmError",
    "MissingExtraError",
    "PluginError",
    "PresetSpec",
    "Ref",
    "SamplerSpec",
    "ScheduleSpec",
    "TaskSpec",
    "TrainingError",
    "UnknownNameError",
    "UsageError",
    "hookimpl",
    "load_catalog",
]
