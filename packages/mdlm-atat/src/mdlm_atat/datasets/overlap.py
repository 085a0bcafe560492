"""How much of a validation text stands in a training text. Heavy: numpy.

The unit is a run of 50 words, lower-cased: long enough that no phrase is found by
chance, as with the 50 tokens of Lee et al. (2022, "Deduplicating training data makes
language models better"). Runs of the validation text stay inside a document; those of
the training text go on from one document to the next, so that it does not matter
where a long text was cut. A validation document of fewer words is compared as a whole
with training documents of fewer words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.data.files import JSONL_SUFFIXES, JsonlDocuments, TextDocuments
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

WORDS = 50
"""Words in a run."""
_BASE = 0x9E3779B97F4A7C15  # odd, so that a product loses no bits
_BLOCK = 2**20  # words hashed at a time
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Overlap:
    """The share of validation runs that stand in the training text."""

    runs: int
    """Runs of the validation text that were looked for."""
    found: int
    """How many of them were found."""
    searched: float
    """The share of the training documents that were read; below 1, `share` is low."""
    example: str
    """The first run that was found, in words, or nothing."""

    @property
    def share(self) -> float:
        """`found` over `runs`."""
        return self.found / self.runs


def overlap(train_file: Path | str, val_file: Path | str) -> float:
    """Return the share of the validation text that stands in the training text.

    See `find_overlap`.
    """
    return find_overlap(train_file, val_file).share


def find_overlap(
    train_file: Path | str,
    val_file: Path | str,
    *,
    words: int = WORDS,
    runs: int = 100_000,
    train_bytes: int = 500_000_000,
    seed: int = 0,
) -> Overlap:
    """Look for runs of words of one file in another.

    Args:
        train_file: JSON lines with ``text``, or text, compressed or not.
        val_file: likewise.
        words: words in a run.
        runs: how many are looked for, at most; of more, that many at random.
        train_bytes: of a larger training file, a random share of the documents of
            about that size is read.
        seed: decides what is taken at random.

    Raises:
        DataError: if a file cannot be read or holds no words.
    """
    noise = Noise(seed).child("overlap")
    hasher = _Words()
    places = _places(Path(val_file), words, hasher)
    if not len(places):
        raise DataError(f"'{val_file}' holds no words to look for")
    if len(places) > runs:
        keys = noise.child("runs").uniform(torch.arange(len(places)), 1)[:, 0]
        places = places[np.sort(np.argsort(keys.numpy(), kind="stable")[:runs])]
    wanted = np.unique(places[:, 0])
    share = min(1.0, train_bytes / max(Path(train_file).stat().st_size, 1))
    known = np.zeros(len(wanted), dtype=bool)
    chosen = _chosen(_documents(Path(train_file)), share, noise.child("documents"))
    for block in _runs_of_stream(chosen, words, hasher):
        at = np.searchsorted(wanted, block)
        at[at == len(wanted)] = 0
        known[at[wanted[at] == block]] = True
    hit = known[np.searchsorted(wanted, places[:, 0])]
    example = ""
    if hit.any():
        _, document, first = places[int(np.argmax(hit))].tolist()
        example = _excerpt(Path(val_file), document, first, words)
    return Overlap(len(places), int(hit.sum()), share, example)


class _Words:
    """Words to 64-bit hashes; each word is hashed once."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> Hashes:
        known, result = self._known, []
        for word in text.lower().split():
            value = known.get(word)
            if value is None:
                digest = blake2b(word.encode(errors="replace"), digest_size=8).digest()
                value = known[word] = int.from_bytes(digest, "little")
            result.append(value)
        return np.array(result, dtype=np.uint64)


def hash_runs(values: Hashes, words: int) -> Hashes:
    """Return the hash of each run of `words` words, from those of the words.

    ``h_i = sum_k v_(i+k) B^(words-1-k) mod 2^64``, one for each start i; fewer words
    than that are one run, with their number in its hash.
    """
    with np.errstate(over="ignore"):
        base = np.uint64(_BASE)
        if len(values) < words:
            if not len(values):
                return values
            result = np.full(1, len(values), dtype=np.uint64)
            for value in values:
                result = result * base + value
            return result
        starts = len(values) - words + 1
        result = np.zeros(starts, dtype=np.uint64)
        for k in range(words):
            result = result * base + values[k : k + starts]
        return result


def _places(path: Path, words: int, hasher: _Words) -> NDArray[Any]:
    """Return ``(N, 3)``: hash, document and first word of each run."""
    found = [np.zeros((0, 3), dtype=np.uint64)]
    for number, text in enumerate(_documents(path)):
        hashes = hash_runs(hasher(text), words)
        if len(hashes):
            row = np.empty((len(hashes), 3), dtype=np.uint64)
            row[:, 0], row[:, 1], row[:, 2] = hashes, number, np.arange(len(hashes))
            found.append(row)
    return np.concatenate(found)


def _runs_of_stream(
    texts: Iterable[str], words: int, hasher: _Words
) -> Iterator[Hashes]:
    """Yield the hashes of all runs of `texts`, joined, in blocks of bounded size."""
    waiting: list[Hashes] = []
    size = 0
    for text in texts:
        values = hasher(text)
        if len(values) < words:
            yield hash_runs(values, words)
        waiting.append(values)
        size += len(values)
        if size >= _BLOCK:
            joined = np.concatenate(waiting)
            yield hash_runs(joined, words)
            waiting = [joined[len(joined) - words + 1 :]]
            size = len(waiting[0])
    if size >= words:
        yield hash_runs(np.concatenate(waiting), words)


def _documents(path: Path) -> Iterable[str]:
    if path.name.endswith(JSONL_SUFFIXES):
        return JsonlDocuments([path])
    return TextDocuments([path], "blank-line")


def _chosen(texts: Iterable[str], share: float, noise: Noise) -> Iterator[str]:
    """Yield a share of the documents, decided by their numbers."""
    for number, text in enumerate(texts):
        if share >= 1 or _uniform(noise, number) < share:
            yield text


def _uniform(noise: Noise, number: int) -> float:
    return float(noise.uniform(torch.tensor([number]), 1)[0, 0])


def _excerpt(path: Path, document: int, first: int, words: int) -> str:
    for number, text in enumerate(_documents(path)):
        if number == document:
            return " ".join(text.split()[first : first + words])
    return ""
