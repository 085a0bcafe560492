"""Adaptive time-aware token masking for masked diffusion language models."""

__version__ = "0.1.0"

__all__ = ["__version__"]
