"""The settings of what this plugin adds. Light: imports nothing heavy."""

from .data import (
    PreferencesConfig,
    ProcessedConfig,
    PromptsConfig,
    RowsConfig,
    TaskRowsConfig,
)
from .decode import DecodeConfig
from .model import ExpertsConfig, HuggingFaceModelConfig, LLaDAConfig, LoraConfig
from .tasks import GRPOConfig, SFTConfig, TimesConfig, VRPOConfig

__all__ = [
    "DecodeConfig",
    "ExpertsConfig",
    "GRPOConfig",
    "HuggingFaceModelConfig",
    "LLaDAConfig",
    "LoraConfig",
    "PreferencesConfig",
    "ProcessedConfig",
    "PromptsConfig",
    "RowsConfig",
    "SFTConfig",
    "TaskRowsConfig",
    "TimesConfig",
    "VRPOConfig",
]
