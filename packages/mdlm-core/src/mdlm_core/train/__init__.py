"""Training: runs, checkpoints, and models loaded from them."""

from .runs import LoadedRun, load_run
from .start import Outcome, train

__all__ = ["LoadedRun", "Outcome", "load_run", "train"]
