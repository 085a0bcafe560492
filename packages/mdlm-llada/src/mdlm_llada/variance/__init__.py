"""Where the variance of the training loss comes from, and what takes it away."""

from .gains import report
from .measure import Draws, measure_draws
from .numbers import Report

__all__ = ["Draws", "Report", "measure_draws", "report"]
