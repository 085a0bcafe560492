"""The backbone `llada` for the catalog: a checkpoint, a run's, or a new model."""

from __future__ import annotations

import torch

from mdlm_core.errors import ConfigError

from .architecture import Architecture
from .config import LLaDAConfig
from .nn.trunk import LLaDA


def build(config: LLaDAConfig, *, vocab_size: int, mask_id: int, length: int) -> LLaDA:
    """Return the model of a checkpoint or a run, or a new one of the sizes in `config`.

    Args:
        config: the settings.
        vocab_size: ids of the tokenizer; a checkpoint may have rows for more.
        mask_id: the tokenizer's mask.
        length: the usual L; positions are rotary, so that any other works too.

    Raises:
        ConfigError: if the settings, the tokenizer and the checkpoint do not go
            together.
        CheckpointError: if the checkpoint cannot be read.
        MissingExtraError: with adapters, if peft is not installed.
    """
    if config.mask_token_id not in (None, mask_id):
        raise ConfigError(
            f"model.mask_token_id is {config.mask_token_id}, but the mask of the "
            f"tokenizer is {mask_id}; set data.mask_token_id to the same, or leave "
            f"model.mask_token_id out"
        )
    if config.path:
        model = _read(config, vocab_size=vocab_size, mask_id=mask_id)
    else:
        model = _new(config, vocab_size=vocab_size, mask_id=mask_id)
    if config.lora.rank:
        from .lora import apply_lora

        apply_lora(model, config.lora, outside=bool(config.path))
    return model


def _read(config: LLaDAConfig, *, vocab_size: int, mask_id: int) -> LLaDA:
    from .checkpoint.read import read_checkpoint
    from .models import is_run

    if is_run(config.path):
        return _of_run(config, vocab_size=vocab_size, mask_id=mask_id)
    model = read_checkpoint(
        config.path,
        mask_token_id=config.mask_token_id,
        vocab_size=vocab_size,
        dtype=config.dtype,
    )
    if model.mask_id != mask_id:
        raise ConfigError(
            f"the mask of the checkpoint '{config.path}' is {model.mask_id}, but that "
            f"of the tokenizer is {mask_id}; set data.tokenizer={config.path} or "
            f"data.mask_token_id={model.mask_id}"
        )
    return model


def _of_run(config: LLaDAConfig, *, vocab_size: int, mask_id: int) -> LLaDA:
    """Return the model of a run, in training mode, its adapters merged."""
    from .lora import merge_lora
    from .models import load_model

    model = load_model(config.path, dtype=config.dtype).backbone
    if not isinstance(model, LLaDA):
        raise ConfigError(
            f"the run '{config.path}' trained a {type(model).__name__}, which is no "
            f"model of the LLaDA family; give model.path another run or a checkpoint"
        )
    if vocab_size > model.vocab_size or mask_id != model.mask_id:
        raise ConfigError(
            f"the tokenizer has {vocab_size} ids and the mask {mask_id}, but the model "
            f"of the run '{config.path}' has {model.vocab_size} and {model.mask_id}; "
            f"use the tokenizer that it was trained with"
        )
    merge_lora(model)
    return model.train()


def _new(config: LLaDAConfig, *, vocab_size: int, mask_id: int) -> LLaDA:
    architecture = Architecture.from_settings(config, vocab_size, mask_id)
    model = LLaDA(architecture, mask_id=mask_id)
    return model.to(torch.bfloat16) if config.dtype == "bfloat16" else model
