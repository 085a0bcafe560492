"""Tokenizers of checkpoints: which mask they have, and which special tokens."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mdlm_core.data.pretrained import PretrainedTokenizer
from mdlm_core.data.tokenizers import build_tokenizer
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.protocols import Tokenizer

MASKS = ("<|mdm_mask|>", "<|mask|>", "[MASK]", "<mask>")
"""What masks are called in tokenizers that do not name theirs: LLaDA, Dream, others."""

_BEGIN = "<|startoftext|>"
_HEADER = ("<|start_header_id|>", "<|end_header_id|>")
_TURN_END = "<|eot_id|>"
_ENDS = (_TURN_END, "<|im_end|>", "<|role_end|>", "<|endoftext|>")


def load_tokenizer(name: str, mask_token_id: int | None = None) -> Tokenizer:
    """Return the tokenizer `name`, with the mask of the model that it belongs to.

    Many checkpoints have a mask that their tokenizer does not name. It is
    `mask_token_id`; or ``mask_token_id`` in the ``config.json`` beside the tokenizer;
    or the tokenizer's own; or a token called as one of `MASKS`. Those that are there
    must be the same id. Without any it is an id of its own behind the last one, which
    only a new model has.

    Args:
        name: byte, bpe:<n>, or the name or folder of a Hugging Face tokenizer.
        mask_token_id: the id of the mask.

    Raises:
        ConfigError: if the mask is no id, or two of these are different ids.
        DataError: if the tokenizer cannot be loaded.
        MissingExtraError: if it needs the extra ``hf``.
    """
    with quiet_settings():
        tokenizer = build_tokenizer(name)
    mask = mask_token_id
    if isinstance(tokenizer, PretrainedTokenizer):
        mask = _agreed_mask(name, tokenizer, mask_token_id)
    if mask is None or mask == tokenizer.mask_id:
        return tokenizer
    if not isinstance(tokenizer, PretrainedTokenizer):
        raise ConfigError(
            f"mask_token_id is {mask}, but the mask of the tokenizer '{name}' is "
            f"{tokenizer.mask_id}; leave mask_token_id out"
        )
    return PretrainedTokenizer(name, tokenizer._wrapped, mask)


@contextmanager
def quiet_settings() -> Iterator[None]:
    """Keep transformers from wondering about a kind of model that it does not know."""
    logger = logging.getLogger("transformers.configuration_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _agreed_mask(
    name: str, tokenizer: PretrainedTokenizer, given: int | None
) -> int | None:
    """Return the one mask that all who name one agree on; None if nobody does.

    Raises:
        ConfigError: if two of them name different ids.
    """
    named = named_mask(tokenizer)
    said = [
        ("mask_token_id is given as", given),
        (f"'{Path(name) / 'config.json'}' says mask_token_id", _stated_mask(name)),
        (f"the mask of the tokenizer in '{name}' is", named),
    ]
    check_masks(said)
    return next((mask for _, mask in said if mask is not None), None)


def check_masks(said: Sequence[tuple[str, int | None]]) -> None:
    """Refuse masks that are not the same.

    Args:
        said: who says it, as the beginning of a sentence, and the id; None for those
            who say nothing.

    Raises:
        ConfigError: with two who disagree.
    """
    there = [(who, mask) for who, mask in said if mask is not None]
    for who, mask in there[1:]:
        if mask != there[0][1]:
            flag = there[0][0].startswith("mask_token_id is given")
            raise ConfigError(
                f"{there[0][0]} {there[0][1]}, but {who} {mask}; "
                + (
                    "leave mask_token_id out, it is for models that name no mask"
                    if flag
                    else "they belong to different models, or one was changed: use "
                    "the files that the model was published with"
                )
            )


def named_mask(tokenizer: PretrainedTokenizer) -> int | None:
    """Return the mask that a tokenizer has as a token; None if it has none."""
    ids = special_ids(tokenizer)
    if tokenizer.mask_id in ids.values():  # it has one, and names it
        return tokenizer.mask_id
    return next((ids[mask] for mask in MASKS if mask in ids), None)


def _stated_mask(name: str) -> int | None:
    """Return ``mask_token_id`` of the config.json of a checkpoint, None without."""
    path = Path(name).expanduser() / "config.json"
    if not path.parent.is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            return None
        path = Path(cached)
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}; fetch it again") from error
    mask = config.get("mask_token_id") if isinstance(config, dict) else None
    if mask is None:
        return None
    if type(mask) is not int or mask < 0:
        raise DataError(
            f"{path}: mask_token_id is {mask!r}; it must be an id, 0 or more"
        )
    return mask


def special_ids(tokenizer: Tokenizer) -> Mapping[str, int]:
    """Return the ids of tokens that no text becomes, by what they are called.

    Empty for tokenizers that are not of Hugging Face.
    """
    wrapped = getattr(tokenizer, "_wrapped", None)
    if wrapped is None:
        return {}
    named = {
        str(token): int(id_)
        for id_, token in wrapped.added_tokens_decoder.items()
        if token.special
    }
    for token, id_ in zip(
        wrapped.all_special_tokens, wrapped.all_special_ids, strict=True
    ):
        named[str(token)] = int(id_)
    return named


@dataclass(frozen=True, slots=True)
class Specials:
    """The ids that prompts and answers are put together with."""

    end: int
    """The end of a text, also what answers are padded with."""
    ends: tuple[int, ...]
    """Every id that ends an answer, `end` and `turn_end` among them."""
    begin: int | None
    """The beginning of a text."""
    header_start: int | None
    """What stands before the name of a role."""
    header_end: int | None
    """What stands behind it."""
    turn_end: int | None
    """The end of a turn in a conversation."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Specials:
        """Return those of `tokenizer`; None where it has no such token."""
        ids = special_ids(tokenizer)
        found = [ids[token] for token in _ENDS if token in ids]
        return cls(
            end=tokenizer.eod_id,
            ends=tuple(dict.fromkeys([tokenizer.eod_id, *found])),
            begin=ids.get(_BEGIN),
            header_start=ids.get(_HEADER[0]),
            header_end=ids.get(_HEADER[1]),
            turn_end=ids.get(_TURN_END),
        )

    def headers(self) -> tuple[int, int, int, int] | None:
        """Return begin, header start, header end, turn end; None if one is missing."""
        ids = (self.begin, self.header_start, self.header_end, self.turn_end)
        begin, start, end, turn = ids
        if begin is None or start is None or end is None or turn is None:
            return None
        return begin, start, end, turn
