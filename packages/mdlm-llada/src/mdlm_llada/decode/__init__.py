"""Decoding block by block (LLaDA), with caches, guidance and parallel commits.

`decode` is a sampler as those of core are. Letters: B rows, L length, S positions of
a block, V vocabulary, D width, M slots of a cache.
"""

from __future__ import annotations

from functools import partial

from mdlm_core.protocols import Sampler
from mdlm_llada.config import DecodeConfig

from .guidance import PromptGuidance
from .loop import check, decode

__all__ = ["PromptGuidance", "build", "check", "decode"]


def build(config: DecodeConfig) -> Sampler:
    """Return the sampler with its settings bound."""
    return partial(decode, steps=config.steps, settings=config)
