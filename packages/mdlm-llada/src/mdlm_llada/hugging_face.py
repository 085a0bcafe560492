"""Any masked or causal language model of transformers, with adapters if wanted.

The backbone itself is core's, `mdlm_core.interop.hugging_face`.
"""

from __future__ import annotations

from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_core.interop import hugging_face
from mdlm_core.interop.hugging_face import HuggingFaceBackbone
from mdlm_core.interop.hugging_face_weights import settings_of

from .config import HuggingFaceModelConfig
from .lora import apply_lora

_OWN = ("LLaDA", "Dream")
"""What the classes of models that `model.name=llada` reads begin with."""


def build(
    config: HuggingFaceModelConfig, *, vocab_size: int, mask_id: int, length: int
) -> HuggingFaceBackbone:
    """Return the model at ``config.path`` as a backbone, with adapters if wanted.

    Args:
        config: the settings.
        vocab_size: ids of the tokenizer.
        mask_id: its mask.
        length: L, which learned positions must suffice for.

    Raises:
        ConfigError: if settings and model do not go together, or it is of the family
            that `model.name=llada` reads.
        CheckpointError: if the model cannot be loaded, or cannot be a backbone.
        MissingExtraError: if transformers or, with adapters, peft is missing.
    """
    if config.path:
        _refuse_own(config.path)
    backbone = hugging_face.build(
        config, vocab_size=vocab_size, mask_id=mask_id, length=length
    )
    apply_lora(
        backbone,
        config.lora,
        outside=not config.random,
        inside=f"model.{backbone.model.base_model_prefix}",
    )
    return backbone


def _refuse_own(path: str) -> None:
    try:
        classes = list(settings_of(path).architectures or ())
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; a model of the LLaDA family is model.name=llada"
        ) from error
    if any(name.startswith(_OWN) for name in classes):
        raise ConfigError(f"'{path}' is a {classes[0]}; it is read by model.name=llada")
