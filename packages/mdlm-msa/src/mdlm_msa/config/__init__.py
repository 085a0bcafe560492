"""The settings of what mdlm-msa adds. Light: imports nothing heavy."""

from .data import FILTERS, AlignmentsConfig, PairsConfig, RowFilter
from .generation import GenerationConfig
from .model import ProteinDiTConfig
from .sampling import RemaskConfig
from .schedule import ReversedConfig
from .task import AlignConfig, MSAConfig

__all__ = [
    "FILTERS",
    "AlignConfig",
    "AlignmentsConfig",
    "GenerationConfig",
    "MSAConfig",
    "PairsConfig",
    "ProteinDiTConfig",
    "RemaskConfig",
    "ReversedConfig",
    "RowFilter",
]
