"""Fused pieces behind plain functions."""

from .noise import Noise, global_seed

__all__ = ["Noise", "global_seed"]
