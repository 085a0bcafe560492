"""Byte pairs learned from the text at hand. Needs the extra ``hf``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from mdlm_core.cache import cached, write_atomic
from mdlm_core.errors import ConfigError, DataError

from .hub import require
from .tokenizers import check_ids, decode_around_masks, save_definition, utf8

_MERGES = "merges.json"
_SMALLEST = 258  # 256 bytes, the end of document, the mask


class BpeTokenizer:
    """Byte pairs: the learned pieces, then the end of document, then the mask.

    Every byte is a piece, so any text can be encoded.
    """

    def __init__(self, name: str, merges: Any) -> None:
        """Wrap `merges`, a `tokenizers.Tokenizer`."""
        self.name = name
        self._merges = merges
        self.eod_id = self.pad_id = merges.get_vocab_size()
        self.mask_id = self.eod_id + 1
        self.vocab_size = self.eod_id + 2

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`."""
        utf8(text)
        return list(self._merges.encode(text).ids)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of several texts, encoded in parallel."""
        return [encoding.ids for encoding in self._merges.encode_batch(list(texts))]

    def decode(self, ids: Sequence[int], *, mask: str = "▒") -> str:
        """Return the text of `ids`; bytes that are no UTF-8 show as U+FFFD."""
        check_ids(ids, self)
        return decode_around_masks(
            ids,
            self.mask_id,
            mask,
            lambda run: self._merges.decode([i for i in run if i < self.eod_id]),
        )

    def token_bytes(self) -> list[int]:
        """Return ``(V,)``: the bytes of text behind each id.

        A piece is written with one character for each of its bytes.
        """
        sizes = [0] * self.vocab_size
        for piece, id_ in self._merges.get_vocab().items():
            sizes[id_] = len(piece)
        return sizes

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` needs."""
        write_atomic(folder / _MERGES, self._merges.to_str().encode())
        save_definition(folder, kind="bpe", name=self.name)

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids."""
        return sha256(b"bpe:" + self._merges.to_str().encode()).hexdigest()


def train_bpe(size: int, documents: Iterable[str], cache: Path | None) -> BpeTokenizer:
    """Learn byte pairs from `documents`, or find them in the cache.

    They are kept under `size` and a hash of the text.

    Args:
        size: V, at most; a small text has fewer pairs worth merging.
        documents: texts; an iterable that may be read twice.
        cache: the cache folder; the default is `cache_folder()`.

    Raises:
        ConfigError: if `size` does not hold the 256 bytes and two special ids.
        DataError: if there is no text.
        MissingExtraError: without the extra ``hf``.
    """
    if size < _SMALLEST:
        raise ConfigError(
            f"data.tokenizer is 'bpe:{size}'; it must be at least bpe:{_SMALLEST}: 256 "
            "bytes, the end of document and the mask"
        )
    tokenizers = require("tokenizers", f"data.tokenizer=bpe:{size}")
    content, characters = sha256(), 0
    for text in documents:
        content.update(sha256(utf8(text)).digest())
        characters += len(text)
    if not characters:
        raise DataError(f"the bpe:{size} tokenizer has no text to learn from")

    def learn() -> bytes:
        level = tokenizers.pre_tokenizers.ByteLevel
        merges = tokenizers.Tokenizer(tokenizers.models.BPE())
        merges.pre_tokenizer = level(add_prefix_space=False)
        merges.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size - 2,
            initial_alphabet=sorted(level.alphabet()),
            show_progress=False,
        )
        merges.train_from_iterator(documents, trainer)
        return bytes(merges.to_str().encode())

    version = tokenizers.__version__
    name = f"tokenizers/bpe-{size}-{content.hexdigest()[:32]}-{version}.json"
    stored = cached(name, learn, folder=cache)
    merges = tokenizers.Tokenizer.from_str(stored.decode())
    return BpeTokenizer(f"bpe:{size}", merges)


def load_bpe(folder: Path, name: str) -> BpeTokenizer:
    """Return the tokenizer that `BpeTokenizer.save` wrote to `folder`.

    Raises:
        DataError: if it is damaged or incomplete.
        MissingExtraError: without the extra ``hf``.
    """
    tokenizers = require("tokenizers", f"the tokenizer '{name}'")
    path = folder / _MERGES
    try:
        merges = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing more precise
        raise DataError(f"'{path}' cannot be read as a tokenizer: {error}") from error
    return BpeTokenizer(name, merges)
