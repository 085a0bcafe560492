"""The LLaDA family: checkpoints, fine-tuning, decoding, scoring."""

from __future__ import annotations

__version__ = "0.1.0"
