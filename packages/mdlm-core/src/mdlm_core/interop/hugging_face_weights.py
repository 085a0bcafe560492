"""Language models of transformers: which kind they are, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mdlm_core.config.components import HuggingFaceModelConfig
from mdlm_core.data.hub import quiet, require
from mdlm_core.errors import CheckpointError, ConfigError

_FAILURES = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)
_NEEDS = "a model of transformers"


def load(
    config: HuggingFaceModelConfig,
    *,
    vocab_size: int,
    length: int,
    sizes: Mapping[str, object] | None = None,
) -> tuple[nn.Module, bool]:
    """Return the model, and whether it is a causal one.

    Without a path, and with ``random``, it is a new BERT or Llama, so tiny, unless
    `sizes` say otherwise, that it only shows whether everything else is set up.

    Args:
        config: the settings.
        vocab_size: ids that it must have; the embedding grows to them.
        length: positions that a new BERT gets.
        sizes: settings of a new BERT or Llama, as its class in transformers calls
            them.

    Raises:
        ConfigError: if there is no path, or the kind is not known.
        CheckpointError: if the model cannot be loaded, or lacks weights.
        MissingExtraError: without transformers.
    """
    transformers = require("transformers", _NEEDS)
    if config.path:
        settings = settings_of(config.path)
    elif config.random:
        settings = _tiny(transformers, config.kind, vocab_size, length, sizes or {})
    else:
        raise ConfigError(
            "model.path is empty; set it to a folder or a name on the hub, or set "
            "model.random=true for a tiny new model"
        )
    causal = _is_causal(transformers, config, settings)
    auto = (
        transformers.AutoModelForCausalLM
        if causal
        else transformers.AutoModelForMaskedLM
    )
    model = _new(auto, settings, config) if config.random else _read(auto, config)
    _grow(model, vocab_size)
    return model, causal


def settings_of(path: str) -> Any:
    """Return a model's config.json as transformers reads it.

    Raises:
        CheckpointError: if there is none.
        MissingExtraError: without transformers.
    """
    transformers = require("transformers", _NEEDS)
    return _local_first(
        transformers.AutoConfig.from_pretrained, path, trust_remote_code=False
    )


def _local_first(function: Any, path: str, **options: Any) -> Any:
    """Call a ``from_pretrained`` on a folder, the cache, or the hub, in this order.

    Raises:
        CheckpointError: if all of them fail.
    """
    folder = Path(path).expanduser()
    name = str(folder) if folder.is_dir() else path
    try:
        return function(name, local_files_only=True, **options)
    except _FAILURES as error:
        failure: Exception = error
    if not folder.is_dir():
        try:
            with quiet():
                return function(name, **options)
        except _FAILURES as error:
            failure = error
    reason = (str(failure).strip() or type(failure).__name__).splitlines()[0]
    raise CheckpointError(
        f"the model '{path}' cannot be loaded by transformers: {reason} Check the name "
        f"and the network"
    ) from failure


def _is_causal(
    transformers: Any, config: HuggingFaceModelConfig, settings: Any
) -> bool:
    """Return whether the checkpoint is a causal model; refuse what is neither."""
    classes = list(settings.architectures or ())
    if settings.is_encoder_decoder:
        raise ConfigError(
            f"'{config.path}' has an encoder and a decoder, so that it has no one "
            f"canvas to fill in; use a masked or a causal model"
        )
    if config.kind != "auto":
        return config.kind == "causal"
    for name in classes:
        if name.endswith(("ForMaskedLM", "ForPreTraining")):
            return False
        if name.endswith(("ForCausalLM", "LMHeadModel")):
            return True
    known = [
        kind
        for kind, mapping in (
            ("masked", transformers.MODEL_FOR_MASKED_LM_MAPPING),
            ("causal", transformers.MODEL_FOR_CAUSAL_LM_MAPPING),
        )
        if type(settings) in mapping
    ]
    if len(known) == 1:
        return known == ["causal"]
    raise ConfigError(
        f"the config.json of '{config.path}' does not tell whether it is a masked or a "
        f"causal model (its architectures are {', '.join(classes) or 'empty'}); set "
        f"model.kind"
    )


def _dtype(config: HuggingFaceModelConfig) -> Any:
    return config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)


def _new(auto: Any, settings: Any, config: HuggingFaceModelConfig) -> Any:
    """Return a model with new weights from torch's global generator."""
    try:
        model = auto.from_config(settings)
    except ValueError as error:
        raise ConfigError(
            f"transformers knows no such model of '{config.path}': {error}"
        ) from error
    return model if config.dtype == "auto" else model.to(_dtype(config))


def _read(auto: Any, config: HuggingFaceModelConfig) -> Any:
    """Return a checkpoint's model; refuse one that lacks weights."""
    model, report = _local_first(
        auto.from_pretrained,
        config.path,
        dtype=_dtype(config),
        output_loading_info=True,
        trust_remote_code=False,
    )
    if missing := sorted(report["missing_keys"]):
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise CheckpointError(
            f"the model '{config.path}' lacks {len(missing)} weights of a "
            f"{type(model).__name__}: {shown}. Use a checkpoint with a language "
            f"model's head, or set model.kind"
        )
    return model


def _tiny(
    transformers: Any,
    kind: str,
    vocab_size: int,
    length: int,
    more: Mapping[str, object],
) -> Any:
    """Return the settings of a tiny model, BERT unless it shall be causal."""
    sizes: dict[str, object] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": max(length, 64),
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        **more,
    }
    if kind == "causal":
        return transformers.LlamaConfig(architectures=["LlamaForCausalLM"], **sizes)
    return transformers.BertConfig(architectures=["BertForMaskedLM"], **sizes)


def _grow(model: Any, vocab_size: int) -> None:
    """Give the model a row for every id; new rows are the mean of the old ones."""
    rows = int(model.get_input_embeddings().num_embeddings)
    if vocab_size <= rows:
        return
    model.resize_token_embeddings(vocab_size, mean_resizing=False)
    with torch.no_grad():
        for part in (model.get_input_embeddings(), model.get_output_embeddings()):
            for tensor in (part.weight, getattr(part, "bias", None)):
                if tensor is not None and len(tensor) == vocab_size:
                    tensor[rows:] = tensor[:rows].float().mean(0).to(tensor.dtype)
