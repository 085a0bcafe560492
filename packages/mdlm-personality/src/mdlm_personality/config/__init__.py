"""The settings of what this plugin adds. Light: imports nothing heavy."""

from .data import PersonaTextConfig, PersonaCorpusConfig
from .generation import GuidanceConfig
from .model import PersonalityDiTConfig
from .task import PersonalityConfig, TraitRegressorConfig

__all__ = [
    "GuidanceConfig",
    "PersonaCorpusConfig",
    "PersonaTextConfig",
    "PersonalityConfig",
    "PersonalityDiTConfig",
    "TraitRegressorConfig",
]
