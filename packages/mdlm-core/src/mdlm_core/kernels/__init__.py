"""Fused pieces behind plain functions."""

from .ema import Ema
from .linear_cross_entropy import linear_cross_entropy, linear_log_prob
from .noise import Noise, global_seed

__all__ = [
    "Ema",
    "Noise",
    "global_seed",
    "linear_cross_entropy",
    "linear_log_prob",
]
