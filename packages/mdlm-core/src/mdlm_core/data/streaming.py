"""Batches from a stream of documents that is too large to hold or to count.

Letters: B rows in this process's part of a batch, L length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.config.components import TextConfig
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Tokenizer

from .batch import Batch
from .packing import encode_documents
from .source import check_request, share
from .split import SPLITS, is_held_out
from .tokenizers import build_tokenizer, utf8

PROBE = 256
"""Documents looked at when a stream is opened."""
_CHUNK = 32  # documents read ahead to be encoded together
LEARN = 10_000
"""Documents that byte pairs are learned from."""


class _Row(NamedTuple):
    tokens: NDArray[Any]
    """``(L,)``, or fewer in the last row."""
    owners: NDArray[Any]
    """For each token, the number of its document."""
    number: int
    """Of the row, in a pass over the stream."""


class _Restartable:
    """An iterable from a function that makes iterators."""

    def __init__(self, start: Callable[[], Iterator[str]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[str]:
        return self._start()


def _shuffled(rows: Iterator[_Row], size: int, noise: Noise) -> Iterator[_Row]:
    """Pass `rows` through a buffer: each that arrives pushes out a random one."""
    buffer: list[_Row] = []
    draws = _uniforms(noise)
    for row in rows:
        if len(buffer) < size:
            buffer.append(row)
            continue
        place = int(next(draws) * size)
        yield buffer[place]
        buffer[place] = row
    while buffer:
        place = int(next(draws) * len(buffer))
        buffer[place], buffer[-1] = buffer[-1], buffer[place]
        yield buffer.pop()


def _uniforms(noise: Noise, chunk: int = 1024) -> Iterator[float]:
    """Yield uniform numbers one by one, without end."""
    for first in count(0, chunk):
        yield from noise.uniform(torch.arange(first, first + chunk), 1)[:, 0].tolist()


class StreamedSource:
    """Rows packed while documents arrive; a `protocols.DataSource` of unknown size.

    Every process reads the whole stream and takes its rows of each batch, so that
    batches do not depend on the number of processes. Training rows pass a shuffle
    buffer of bounded size, whose draws are decided by (seed, epoch). A later start
    reads the stream again up to there. The held-out split is the first
    `held_out_rows` rows of the held-out documents; they are kept once read.
    """

    def __init__(
        self,
        documents: Iterable[str],
        config: TextConfig,
        *,
        buffer: int = 4096,
        held_out_rows: int = 4096,
        card: Mapping[str, object] | None = None,
        cache: Path | None = None,
    ) -> None:
        """Look at the first documents and build the tokenizer.

        Args:
            documents: texts; each iteration starts from the first.
            config: length, tokenizer, packing and held-out share.
            buffer: rows in the shuffle buffer; 1 means the order of the stream.
            held_out_rows: rows of the validation split, at most.
            card: more entries for the card.
            cache: the cache folder; the default is `cache_folder()`.

        Raises:
            ConfigError: if the tokenizer needs all of the text.
            DataError: if the stream holds no text.
        """
        if config.tokenizer == "char":
            raise ConfigError(
                "data.tokenizer=char takes its characters from all of the text, which "
                "a stream does not show; use byte or bpe:<n>, or data.streaming=false"
            )
        self.length = config.length
        self.packing = config.packing
        self._documents = documents
        self._holdout = config.holdout
        self._buffer = buffer
        self._held_out_rows = held_out_rows
        self._extra = dict(card or {})
        self._probe = [text for text in islice(documents, PROBE) if text]
        if not self._probe:
            raise DataError(f"the stream has no text in its first {PROBE} documents")
        first = _Restartable(lambda: islice(self._side("train"), LEARN))
        self.tokenizer: Tokenizer = build_tokenizer(config.tokenizer, first, cache)
        self._held_out: list[_Row] = []
        self._more_held_out = islice(self._rows("validation"), held_out_rows)

    def size(self, split: str) -> None:
        """Return None: a stream is not counted."""
        check_request(split, 1, 0, 0, 1)

    def batches(
        self,
        split: str,
        *,
        size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """Yield this process's rows of global batch `start`, `start + 1`, ...

        As `PackedSource.batches`; a pass over the stream is an epoch, and what does
        not fill the last batch of an epoch is dropped.

        Raises:
            DataError: while it runs, if a pass does not fill one batch.
        """
        check_request(split, size, start, rank, world)
        batches = (
            self._train(size, seed) if split == "train" else self._validation(size)
        )
        return (
            self._batch([rows[i] for i in share(np.arange(len(rows)), rank, world)], n)
            for rows, n in islice(batches, start, None)
        )

    def _train(self, size: int, seed: int) -> Iterator[tuple[list[_Row], int]]:
        epoch = 0
        while True:
            noise = Noise(seed).child("data", "buffer", epoch)
            rows = _shuffled(self._rows("train"), self._buffer, noise)
            full = 0
            while len(batch := list(islice(rows, size))) == size:
                yield batch, epoch
                full += 1
            if not full:
                raise DataError(
                    f"a pass over the stream gives {len(batch)} training rows of "
                    f"{self.length} tokens, and train.batch_size={size} asks for more "
                    "in one batch; lower train.batch_size or data.length"
                )
            epoch += 1

    def _validation(self, size: int) -> Iterator[tuple[list[_Row], int]]:
        first = 0
        while True:
            missing = first + size - len(self._held_out)
            if missing > 0:
                self._read_held_out(missing)
            batch = self._held_out[first : first + size]
            if not batch:
                break
            yield batch, 0
            first += size
        if not self._held_out:
            raise DataError(
                "the validation split is empty: no document of the stream is held out "
                f"at data.holdout={self._holdout}; raise it"
            )

    def _read_held_out(self, missing: int) -> None:
        try:
            self._held_out += islice(self._more_held_out, missing)
        except BaseException:  # a broken iterator ends: the next one goes on from here
            self._more_held_out = islice(
                self._rows("validation"), len(self._held_out), self._held_out_rows
            )
            raise

    def _side(self, split: str) -> Iterator[str]:
        wanted = split == "validation"
        for text in self._documents:
            if text:
                digest = sha256(utf8(text)).digest()
                if is_held_out(digest, self._holdout) == wanted:
                    yield text

    def _rows(self, split: str) -> Iterator[_Row]:
        """Yield the full rows of one pass, and for validation the padded remainder."""
        length = self.length
        encoded = encode_documents(
            self.tokenizer, self._side(split), eod=self.packing.eod, chunk=_CHUNK
        )
        tokens: list[NDArray[Any]] = []
        owners: list[NDArray[Any]] = []
        waiting = number = 0
        for document, ids in enumerate(encoded):
            tokens.append(ids)
            owners.append(np.full(len(ids), document))
            waiting += len(ids)
            if waiting < length:
                continue
            joined, owner = np.concatenate(tokens), np.concatenate(owners)
            for at in range(0, waiting - length + 1, length):
                yield _Row(joined[at : at + length], owner[at : at + length], number)
                number += 1
            rest = waiting % length
            tokens, owners = [joined[waiting - rest :]], [owner[waiting - rest :]]
            waiting = rest
        if waiting and split == "validation":
            yield _Row(np.concatenate(tokens), np.concatenate(owners), number)

    def _batch(self, rows: list[_Row], epoch: int) -> Batch:
        shape = (len(rows), self.length)
        tokens = np.full(shape, self.tokenizer.pad_id, dtype=np.int64)
        owners = np.full(shape, -1, dtype=np.int64)  # -1 where nothing is
        for row, into, owner in zip(rows, tokens, owners, strict=True):
            into[: len(row.tokens)] = row.tokens
            owner[: len(row.owners)] = row.owners
        documents = torch.from_numpy(owners)
        return Batch.of(
            torch.from_numpy(tokens),
            pad=documents < 0,
            sample_id=torch.tensor([row.number for row in rows], dtype=torch.int64),
            documents=documents if self.packing.isolate else None,
            epoch=epoch,
        )

    def card(self) -> dict[str, object]:
        """Return what identifies the data.

        A stream is not read to its end for that: `bytes_per_token` is measured on the
        first documents, `probe` of them, and `probe_sha256` is theirs. There is no
        hash of a split.
        """
        encoded = encode_documents(self.tokenizer, self._probe, eod=self.packing.eod)
        tokens = sum(len(ids) for ids in encoded)
        size = sum(len(utf8(text)) for text in self._probe)
        content = sha256()
        for text in self._probe:
            content.update(sha256(utf8(text)).digest())
        split = {
            "documents": None,
            "rows": None,
            "tokens": None,
            "bytes": None,
            "bytes_per_token": size / tokens,
            "probe_sha256": content.hexdigest(),
            "probe": len(self._probe),
        }
        return {
            "holdout": self._holdout,
            "streaming": True,
            "held_out_rows": self._held_out_rows,
            **self._extra,
            "tokenizer": {
                "name": self.tokenizer.name,
                "vocab_size": self.tokenizer.vocab_size,
                "fingerprint": self.tokenizer.fingerprint(),
            },
            "length": self.length,
            "eod": self.packing.eod,
            "isolate": self.packing.isolate,
            "splits": {name: dict(split) for name in SPLITS},
        }
