"""The registry of data sets, their sizes, and the phases that use them.

Light: importing it imports neither torch nor numpy. Preparing data is in `prepare`.
"""

from __future__ import annotations

from .manager import DatasetManager, get_dataset_manager
from .records import DatasetConfig, PhaseConfig, to_sets

__all__ = [
    "DatasetConfig",
    "DatasetManager",
    "PhaseConfig",
    "get_dataset_manager",
    "to_sets",
]
