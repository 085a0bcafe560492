"""Pretrained tokenizers of Hugging Face. Needs the extra ``hf``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from mdlm_core.errors import ConfigError, DataError

from .hub import quiet, require
from .tokenizers import check_ids, decode_around_masks, save_definition, utf8

_FAILURES = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)
_WITHOUT_OWNER = (
    "albert-base-v2",
    "bert-base-cased",
    "bert-base-multilingual-cased",
    "bert-base-uncased",
    "bert-large-cased",
    "bert-large-uncased",
    "distilbert-base-cased",
    "distilbert-base-uncased",
    "distilgpt2",
    "distilroberta-base",
    "gpt2",
    "gpt2-large",
    "gpt2-medium",
    "gpt2-xl",
    "openai-gpt",
    "roberta-base",
    "roberta-large",
    "t5-base",
    "t5-large",
    "t5-small",
    "xlm-roberta-base",
    "xlm-roberta-large",
)
"""Old names on the hub, from before all had owners."""


class PretrainedTokenizer:
    """A Hugging Face tokenizer, with a mask id after its last id if it has no mask.

    A mask that the tokenizer has as a token, but does not name as its mask, is given
    by its id. Its end of document is its end-of-text token, else its separator, else
    an id of its own. Text that looks like a special token is encoded as text.
    """

    def __init__(self, name: str, wrapped: Any, mask_id: int | None = None) -> None:
        """Wrap a tokenizer of transformers.

        Args:
            name: what it is called.
            wrapped: the tokenizer.
            mask_id: the mask, instead of the tokenizer's own.

        Raises:
            ConfigError: if `mask_id` is negative, or the end of document.
        """
        self.name = name
        self._wrapped = wrapped
        last = max(wrapped.get_vocab().values(), default=-1)
        self._known = self.vocab_size = max(len(wrapped), last + 1)
        eod = wrapped.eos_token_id
        eod = wrapped.sep_token_id if eod is None else eod
        self.eod_id = int(self._append() if eod is None else eod)
        self._given_mask = mask_id
        if mask_id is not None and (mask_id < 0 or mask_id == self.eod_id):
            raise ConfigError(
                f"the mask of tokenizer '{name}' is given as {mask_id}, which is "
                f"{'negative' if mask_id < 0 else 'its end of text'}; give the id of "
                f"its mask token"
            )
        mask = wrapped.mask_token_id if mask_id is None else mask_id
        self.vocab_size = max(self.vocab_size, (mask_id or 0) + 1)
        self.mask_id = int(self._append() if mask is None else mask)
        pad = wrapped.pad_token_id
        self.pad_id = int(self.eod_id if pad is None else pad)
        self._fingerprint = self._hash()

    def _append(self) -> int:
        self.vocab_size += 1
        return self.vocab_size - 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without any special token."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of several texts."""
        encoded: list[list[int]] = self._wrapped(
            [utf8(text).decode() for text in texts],
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no advice on the lengths its own model takes
        )["input_ids"]
        if self.mask_id < self._known and any(self.mask_id in ids for ids in encoded):
            token = self._wrapped.convert_ids_to_tokens(self.mask_id)
            raise DataError(
                f"a text becomes the mask {token!r} of tokenizer "
                f"'{self.name}'; remove that from the text"
            )
        return encoded

    def decode(self, ids: Sequence[int], *, mask: str = "▒") -> str:
        """Return the text of `ids`; special tokens vanish."""
        check_ids(ids, self)
        return decode_around_masks(
            ids,
            self.mask_id,
            mask,
            lambda run: self._wrapped.decode(
                [i for i in run if i < self._known],
                skip_special_tokens=True,
                clean_up_tokenization_spaces=False,
            ),
        )

    def token_bytes(self) -> list[int] | None:
        """Return ``(V,)``: the bytes of text behind each id; None if they have none.

        They have if pieces are of bytes, one character for each. Where text is brought
        to a normal form (NFC), the bytes are those of that form.
        """
        backend = getattr(self._wrapped, "backend_tokenizer", None)
        state = {} if backend is None else json.loads(backend.to_str())
        if not of_bytes(state):
            return None
        added = {token["id"]: token for token in state.get("added_tokens", ())}
        sizes = [0] * self.vocab_size
        for piece, id_ in self._wrapped.get_vocab().items():
            if id_ not in added:
                sizes[id_] = len(piece)
            elif not added[id_]["special"]:
                sizes[id_] = len(utf8(piece))
        for special in (self.eod_id, self.mask_id, self.pad_id):
            sizes[special] = 0
        return sizes

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` needs."""
        self._wrapped.save_pretrained(str(folder))
        save_definition(
            folder,
            kind="hugging-face",
            name=self.name,
            fingerprint=self._fingerprint,
            mask_id=self._given_mask,
        )

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids."""
        return self._fingerprint

    def _hash(self) -> str:
        backend = getattr(self._wrapped, "backend_tokenizer", None)
        if backend is None:  # one written in Python
            state: dict[str, Any] = {"vocabulary": self._wrapped.get_vocab()}
            state["class"] = type(self._wrapped).__name__
        else:
            state = json.loads(backend.to_str())
            # set by each call, and no part of how text becomes ids here
            state = {**state, "truncation": None, "padding": None}
        state["special"] = [self.eod_id, self.mask_id, self.pad_id, self.vocab_size]
        return sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def of_bytes(state: dict[str, Any]) -> bool:
    """Return whether a tokenizer splits text into runs of bytes, and adds none."""
    normal = (state.get("normalizer") or {"type": "NFC"})["type"]
    steps = state.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    levels = [step for step in steps if step.get("type") == "ByteLevel"]
    decoder = (state.get("decoder") or {}).get("type")
    spaces = any(step.get("add_prefix_space") for step in steps)
    return normal == "NFC" and decoder == "ByteLevel" and bool(levels) and not spaces


def load_pretrained(name: str, mask_id: int | None = None) -> PretrainedTokenizer:
    """Return the Hugging Face tokenizer `name`, a folder or a name on the hub.

    What is in the local cache is used before the network is. No code that comes with
    a tokenizer is run.

    Args:
        name: which.
        mask_id: the mask, for a tokenizer that does not name one.

    Raises:
        DataError: if it cannot be loaded.
        MissingExtraError: without the extra ``hf``.
    """
    transformers = require("transformers", f"data.tokenizer={name}")
    load = transformers.AutoTokenizer.from_pretrained

    def wrap(place: str, **options: Any) -> PretrainedTokenizer:
        options |= _without_its_code(transformers, place, **options)
        return PretrainedTokenizer(name, load(place, **options), mask_id)

    local = Path(name).expanduser()
    if local.is_dir():
        try:
            return wrap(str(local), local_files_only=True)
        except _FAILURES as error:
            raise DataError(
                f"the folder '{name}' cannot be loaded as a tokenizer: "
                f"{_first_line(error)}"
            ) from error
    try:
        return wrap(name, local_files_only=True)
    except _FAILURES:
        pass  # not in the cache, or not all of it
    if name.count("/") != 1 and name not in _WITHOUT_OWNER:
        raise DataError(  # not worth asking the network
            f"the tokenizer '{name}' is neither a folder nor in the Hugging Face "
            f"cache, and the hub has names of the form OWNER/NAME"
            f"{_near(name)}; name one of these, or use byte, char or bpe:<n>"
        )
    try:
        with quiet():
            return wrap(name)
    except _FAILURES as error:
        reason = _first_line(error)
        raise DataError(
            f"the tokenizer '{name}' is neither a folder, nor in the Hugging Face "
            f"cache, nor could it be fetched from the hub: {reason} Check the name and "
            "the network, or use byte, char or bpe:<n>, which need none"
        ) from error


def _first_line(error: BaseException) -> str:
    """Return what an error says, without the advice that follows."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _near(name: str) -> str:
    """Return what is called almost like `name`, as part of a sentence."""
    path = Path(name).expanduser()
    there = []
    with suppress(OSError):
        there = [str(other) for other in path.parent.iterdir() if other.is_dir()]
    near = get_close_matches(str(path), [*there, *_WITHOUT_OWNER], n=3)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def _without_its_code(
    transformers: ModuleType, place: str, **options: Any
) -> dict[str, Any]:
    """Return the options with which no code of a tokenizer's model is asked for.

    A model that transformers does not know brings a class for its settings; the
    tokenizer is told by its own files which class it is.
    """
    found: dict[str, Any] = {"trust_remote_code": False}
    try:
        settings, _ = transformers.PreTrainedConfig.get_config_dict(place, **options)
    except _FAILURES:
        return found  # a tokenizer without a model
    if settings.get("model_type", "") not in ("", *transformers.CONFIG_MAPPING):
        found["config"] = transformers.PreTrainedConfig()
    return found


def load_saved(
    folder: Path, name: str, fingerprint: str, mask_id: int | None = None
) -> PretrainedTokenizer:
    """Return the tokenizer that `PretrainedTokenizer.save` wrote to `folder`.

    Raises:
        DataError: if it is damaged, or does not have that fingerprint.
        MissingExtraError: without the extra ``hf``.
    """
    loaded = load_pretrained(str(folder), mask_id)
    loaded.name = name
    if loaded.fingerprint() != fingerprint:
        raise DataError(
            f"the tokenizer in '{folder}' is not the one that was saved there as "
            f"'{name}': its fingerprint differs; it was changed, or another version "
            "of transformers reads it differently"
        )
    return loaded
