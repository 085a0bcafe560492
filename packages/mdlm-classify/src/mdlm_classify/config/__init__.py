"""The settings of what this plugin adds. Light: imports nothing heavy."""

from .data import LabelledTextConfig
from .model import ClassDiTConfig, ClassHuggingFaceConfig
from .scoring import ScoringConfig
from .task import CausalConfig, ClassifyConfig, DiscriminativeConfig

__all__ = [
    "CausalConfig",
    "ClassDiTConfig",
    "ClassHuggingFaceConfig",
    "ClassifyConfig",
    "DiscriminativeConfig",
    "LabelledTextConfig",
    "ScoringConfig",
]
