"""Documents of a split become one array of tokens, and the array becomes rows.

Packing is global: the documents of a split are joined in their order, once, in one
process; rows are cut from the result. So what a row holds never depends on the number
of workers or processes. Letters: L length, V vocabulary.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdlm_core.cache import cached
from mdlm_core.protocols import Tokenizer

from .split import SplitFacts

_PAYS = 2**20  # bytes of text from which tokens are kept on disk
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Packed:
    """The tokens of one split, end to end."""

    tokens: NDArray[Any]
    """One dimension, in the smallest of uint8, uint16 and int32 that holds V."""
    ends: NDArray[np.int64]
    """For each document, where it ends in `tokens` (its end token included)."""

    def full_rows(self, length: int) -> int:
        """Return how many rows of `length` tokens it fills."""
        return len(self.tokens) // length

    def cut(self, length: int, *, pad_id: int, remainder: bool) -> NDArray[Any]:
        """Return rows ``(R, L)``; the `remainder` is dropped, or padded to a row."""
        full = self.full_rows(length) * length
        if not remainder or full == len(self.tokens):
            return self.tokens[:full].reshape(-1, length)
        padding = np.full(full + length - len(self.tokens), pad_id, self.tokens.dtype)
        return np.concatenate([self.tokens, padding]).reshape(-1, length)


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest type that holds the ids of a vocabulary."""
    for dtype in (np.uint8, np.uint16):
        if vocab_size - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.int32)


def encode_documents(
    tokenizer: Tokenizer, documents: Iterable[str], *, eod: bool, chunk: int = 1000
) -> Iterator[NDArray[Any]]:
    """Yield the ids of each document, with the end of document after it if `eod`.

    `chunk` documents are read and encoded at a time.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    end = np.array([tokenizer.eod_id] if eod else [], dtype=dtype)
    array = getattr(tokenizer, "encode_array", None)
    many = getattr(tokenizer, "encode_many", None)
    iterator = iter(documents)
    while texts := list(islice(iterator, chunk)):
        if array is not None:
            encoded = [array(text) for text in texts]
        elif many is not None:
            encoded = many(texts)
        else:
            encoded = [tokenizer.encode(text) for text in texts]
        for ids in encoded:
            yield np.concatenate([np.asarray(ids, dtype=dtype), end])


def pack(
    tokenizer: Tokenizer,
    documents: Iterable[str],
    facts: SplitFacts,
    *,
    eod: bool,
    cache: Path | None = None,
) -> Packed:
    """Join the documents of one split.

    Large texts whose encoding is slow are kept in the cache, under a hash of the
    split, the tokenizer and the end-of-document policy.

    Args:
        tokenizer: what encodes them.
        documents: the texts of the split, in order.
        facts: their number, size and hash.
        eod: whether an end-of-document token stands after each.
        cache: the cache folder; the default is `cache_folder()`.
    """

    def build() -> Packed:
        parts = list(encode_documents(tokenizer, documents, eod=eod))
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return Packed(np.concatenate(parts), ends)

    if facts.bytes < _PAYS or hasattr(tokenizer, "encode_array"):
        return build()
    key = f"{_FORMAT}:{tokenizer.fingerprint()}:{facts.sha256}:{eod}"
    name = f"tokens/{sha256(key.encode()).hexdigest()[:32]}.npy"
    return _from_bytes(cached(name, lambda: _to_bytes(build()), folder=cache))


def _to_bytes(packed: Packed) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, packed.ends, allow_pickle=False)
    np.save(buffer, packed.tokens, allow_pickle=False)
    return buffer.getvalue()


def _from_bytes(data: bytes) -> Packed:
    buffer = io.BytesIO(data)
    ends = np.load(buffer, allow_pickle=False)
    return Packed(np.load(buffer, allow_pickle=False), ends)
