"""Dense models of the family as those of transformers, and back.

Dense LLaDA is a Llama, and Dream a Qwen2, whose tokens all see each other: with a
four-dimensional attention mask of zeros the logits are the same (Dream's shifted by
one). Tensors are only renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from mdlm_core.data.hub import require
from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_llada.architecture import Architecture

from .names import pieces

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedModel

    from mdlm_llada.config.model import Family
    from mdlm_llada.nn.trunk import LLaDA

PARTNERS: dict[Family, str] = {"llada": "llama", "dream": "qwen2"}
"""The model of transformers that a family is, but for the attention mask."""

_CLASSES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
}


def to_llama(model: LLaDA) -> LlamaForCausalLM:
    """Return dense LLaDA as a `LlamaForCausalLM`, with the same weights, copied.

    Raises:
        ConfigError: if the model is none that a Llama could be.
    """
    if model.architecture.family != "llada":
        raise ConfigError(
            f"a model of the family '{model.architecture.family}' is no Llama; only "
            f"dense LLaDA is"
        )
    llama: LlamaForCausalLM = to_transformers(model)
    return llama


def from_llama(llama: LlamaForCausalLM, mask_id: int) -> LLaDA:
    """Return a Llama as dense LLaDA, with the same weights, copied.

    Args:
        llama: the model.
        mask_id: the id that is the mask from now on.

    Raises:
        CheckpointError: if it asks for what LLaDA's format has no name for.
        ConfigError: if the mask is outside the vocabulary, or the end of text.
    """
    return from_transformers(llama, mask_id)


def to_transformers(model: LLaDA) -> Any:
    """Return the model of transformers that `model` is, see `PARTNERS`."""
    a = model.architecture
    partner = PARTNERS.get(a.family)
    if partner is None:
        raise ConfigError(
            f"models of the family '{a.family}' are none of transformers; those of "
            f"{', '.join(PARTNERS)} are"
        )
    if a.qkv_bias != (partner == "qwen2") or a.out_bias:
        raise ConfigError(
            f"the attention's bias (of queries: {a.qkv_bias}, of the output: "
            f"{a.out_bias}) is not that of {partner}"
        )
    transformers = require("transformers", f"--to {partner}")
    config_class, model_class = (getattr(transformers, n) for n in _CLASSES[partner])
    config = config_class(
        vocab_size=a.vocab_size,
        hidden_size=a.width,
        intermediate_size=a.mlp_width,
        num_hidden_layers=a.blocks,
        num_attention_heads=a.heads,
        num_key_value_heads=a.kv_heads,
        head_dim=a.head_size,
        max_position_embeddings=a.max_positions,
        rms_norm_eps=a.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": a.rope_theta},
        tie_word_embeddings=a.tied,
        bos_token_id=None,
        eos_token_id=a.eos_token_id,
        pad_token_id=a.pad_token_id,
        mask_token_id=model.mask_id,  # no field of theirs; kept for the way back
    )
    state = model.state_dict()
    table = pieces(replace(a, family="dream"))  # the names of transformers
    values = {p.theirs: state[p.ours].detach().clone() for p in table}
    with silent():
        out = model_class.from_pretrained(
            None, config=config, state_dict=values, dtype=state["embed.weight"].dtype
        )
    return out.eval()


def from_transformers(model: PreTrainedModel, mask_id: int) -> LLaDA:
    """Return a Llama or a Qwen2 as a dense model of the family, see `PARTNERS`."""
    from mdlm_llada.nn.trunk import LLaDA

    architecture = _architecture(model, mask_id)
    with torch.device("meta"):
        out = LLaDA(architecture, mask_id=mask_id)
    weight = model.get_input_embeddings().weight
    out = out.to(weight.dtype).to_empty(device=weight.device)
    if architecture.tied:
        out.head.weight = out.embed.weight
    theirs, ours = model.state_dict(), out.state_dict()
    for piece in pieces(replace(architecture, family="dream")):
        ours[piece.ours].copy_(theirs[piece.theirs])
    return out


def _architecture(model: PreTrainedModel, mask_id: int) -> Architecture:
    """Return the architecture of a model of transformers, read as Dream's."""
    name = type(model).__name__
    kinds = {classes[1]: kind for kind, classes in _CLASSES.items()}
    kind = kinds.get(name)
    if kind is None:
        raise CheckpointError(
            f"a {name} is no dense model of the family; {' and '.join(kinds)} are"
        )
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    for field in ("attention_bias", "mlp_bias"):
        if config.get(field):
            raise CheckpointError(
                f"the {name} has {field}, which the format has no name for"
            )
    if any(type != "full_attention" for type in config.get("layer_types") or ()):
        raise CheckpointError(
            f"the {name} has layers that see a window only (layer_types); the family's "
            f"see everything"
        )
    family: Family = "llada" if kind == "llama" else "dream"
    read = Architecture.from_json({**config, "architectures": ["DreamModel"]}, name)
    architecture = replace(
        read,
        family=family,
        qkv_bias=family == "dream",
        shift=family == "dream",
        mask_token_id=mask_id,
        raw={},
    )
    if family == "llada" and read.head_size * read.heads != read.width:
        raise CheckpointError(
            f"the {name} has {read.heads} heads of size {read.head_size} and a width "
            f"of {read.width}; LLaDA's format knows no size of a head but width / heads"
        )
    if not 0 <= mask_id < read.vocab_size or mask_id == read.eos_token_id:
        raise ConfigError(
            f"mask_token_id is {mask_id}; it must be an id from 0 to "
            f"{read.vocab_size - 1}, and not the end of text, {read.eos_token_id}"
        )
    return architecture


@contextmanager
def silent() -> Iterator[None]:
    """Keep the progress bars of transformers out of the terminal inside the block."""
    logging = require("transformers.utils.logging", "the format of transformers")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
