"""The backbone `llada` for the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mdlm_core.errors import ConfigError

from .architecture import Architecture
from .nn.trunk import LLaDA

if TYPE_CHECKING:
    from .config import LLaDAConfig


def build(config: LLaDAConfig, *, vocab_size: int, mask_id: int, length: int) -> LLaDA:
    """Return a new model of the sizes in `config`.

    Args:
        config: the settings.
        vocab_size: ids of the tokenizer.
        mask_id: its mask.
        length: the usual L; positions are rotary, so that any other works too.
    """
    if config.mask_token_id is not None:
        mask_id = config.mask_token_id
    if not 0 <= mask_id < vocab_size:
        raise ConfigError(
            f"model.mask_token_id is {mask_id}; it must be an id of the vocabulary, "
            f"0 to {vocab_size - 1}"
        )
    model = LLaDA(
        Architecture.from_settings(config, vocab_size, mask_id), mask_id=mask_id
    )
    return model if config.dtype != "bfloat16" else model.to(torch.bfloat16)
