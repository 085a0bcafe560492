"""The settings of what this plugin adds. Light: imports nothing heavy."""

from .data import PersonaCorpusConfig, PersonaTextConfig
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
