"""config.json of the four formats, to and from an architecture. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_llada.architecture import Architecture
from mdlm_llada.config.model import Family

from .fields import Fields
from .readers import READERS
from .writers import WRITERS

_NAMES: dict[str, Family] = {
    "LLaDAModelLM": "llada",
    "LLaDAModel": "llada",
    "DreamModel": "dream",
    "LLaDAMoEModel": "llada-moe",
    "LLaDAMoEModelLM": "llada-moe",
    "LLaDA2MoeModel": "llada2",
    "LLaDA2MoeModelLM": "llada2",
}
_NEEDED: dict[Family, tuple[str, ...]] = {
    "llada": ("d_model", "n_layers", "n_heads"),
    "llada-moe": ("expert_intermediate_size", "num_experts", "hidden_size"),
    "llada2": ("moe_intermediate_size", "num_experts", "hidden_size"),
    "dream": ("hidden_size", "intermediate_size", "num_hidden_layers"),
}
"""What the config.json of each format must have."""


def read(config: Mapping[str, object], where: str) -> Architecture:
    """Return the architecture that a config.json describes.

    Args:
        config: its content.
        where: the file, for errors.

    Raises:
        CheckpointError: see :meth:`Architecture.from_json`.
    """
    fields = Fields(config, where)
    try:
        found = READERS[_family(fields)](fields)
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from error
    _check(found, where)
    return replace(found, raw=dict(config))


def write(architecture: Architecture) -> dict[str, object]:
    """Return the config.json; as it was read, if nothing has changed since."""
    raw = dict(architecture.raw)
    if raw and read(raw, "config.json") == architecture:
        return raw
    return {**raw, **WRITERS[architecture.family](architecture)}


def _family(fields: Fields) -> Family:
    """Tell the format by the architecture's name and by the fields."""
    listed = fields.config.get("architectures")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    for name in names:
        family = _NAMES.get(name)
        if family is None:
            continue
        # A mixture may carry the dense model's name.
        mixture = fields.has(*_NEEDED["llada-moe"])
        if family == "llada" and mixture and not fields.has("d_model"):
            return "llada-moe"
        for field in _NEEDED[family]:
            if not fields.has(field):
                raise CheckpointError(
                    f"{fields.where}: {field} is missing; a {name} must have it"
                )
        return family
    own = [
        family
        for family, need in _NEEDED.items()
        if family != "dream" and fields.has(*need)  # any model has Dream's fields
    ]
    if names or len(own) != 1:
        raise CheckpointError(
            f"{fields.where}: architectures is {names or 'not set'}; known are "
            f"{', '.join(sorted(_NAMES))}. Other models of transformers are the "
            f"backbone 'hugging-face'"
        )
    return own[0]


def _check(a: Architecture, where: str) -> None:
    """Refuse sizes that no model can have."""
    for name in ("vocab_size", "width", "blocks", "heads", "kv_heads", "head_size"):
        if getattr(a, name) < 1:
            raise CheckpointError(
                f"{where}: the {name.replace('_', ' ')} is {getattr(a, name)}; it "
                f"must be at least 1"
            )
    if a.heads % a.kv_heads:
        raise CheckpointError(
            f"{where}: {a.kv_heads} key and value heads do not divide {a.heads} heads"
        )
    if a.family == "llada" and a.width % a.heads:
        raise CheckpointError(
            f"{where}: n_heads ({a.heads}) does not divide d_model ({a.width})"
        )
    if a.rotary_size < 2 or a.rotary_size % 2 or a.rotary_size > a.head_size:
        raise CheckpointError(
            f"{where}: {a.rotary_size} entries of a head of size {a.head_size} would "
            f"turn with the position; it must be an even number up to {a.head_size}"
        )
    if a.mask_token_id is not None and not 0 <= a.mask_token_id < a.vocab_size:
        raise CheckpointError(
            f"{where}: mask_token_id is {a.mask_token_id}; it must be an id of the "
            f"vocabulary, 0 to {a.vocab_size - 1}"
        )
