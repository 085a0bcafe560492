"""Uniform numbers as a pure function of a key, a row and a column.

The generator is Philox4x32-10 (Salmon et al., 2011, "Parallel random numbers: as
easy as 1, 2, 3"), a counter-based generator: there is no state to carry, so a row's
numbers do not depend on the other rows, on the device, on the number of processes or
on what was drawn before. Letters: B rows, n columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def _high_low(multiplier: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two halves of a 32 x 32 bit product, `word` in [0, 2^32).

    int64 products wrap modulo 2^64, which keeps every bit; the mask takes away the
    sign that an arithmetic shift drags in.
    """
    product = word * multiplier
    return (product >> 32) & _LOW, product & _LOW


def philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Encrypt four counter words with two key words; each is 32 bits in an int64."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _high_low(_MULTIPLIERS[0], a)
        high1, low1 = _high_low(_MULTIPLIERS[1], c)
        a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return a, b, c, d


@dataclass(frozen=True, slots=True)
class Noise:
    """An explicit generator: a seed, and a path that says what the numbers are for.

    ``Noise(seed).child("mask", epoch).uniform(batch.sample_id, L)`` is the corruption
    noise of a batch. Two different paths give independent numbers.
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def child(self, *path: str | int) -> Noise:
        """Return the generator one level down.

        Integers of other types, as numpy's, stand for the same level as Python's.
        """
        levels = tuple(
            level if isinstance(level, str) else int(level) for level in path
        )
        return Noise(self.seed, self.path + levels)

    def _key(self) -> tuple[int, int]:
        name = repr((self.seed, self.path)).encode()
        digest = int.from_bytes(blake2b(name, digest_size=8).digest(), "little")
        return digest & _LOW, digest >> 32

    def uniform(self, rows: Tensor, columns: int | Tensor) -> Tensor:
        """Return float64 numbers in the open interval (0, 1), 52 bits each.

        Args:
            rows: int64, any shape S, for example the sample ids ``(B,)``.
            columns: a number n for all of 0 to n - 1, giving S + (n,); or int64
                column numbers that broadcast against `rows`.
        """
        if isinstance(columns, int):
            rows = rows.unsqueeze(-1)
            columns = torch.arange(columns, device=rows.device)
        zero = torch.zeros_like(rows + columns)
        low, high = rows & _LOW, (rows >> 32) & _LOW
        counter = (low + zero, high + zero, (columns & _LOW) + zero, zero)
        word0, word1, _, _ = philox(counter, self._key())
        integer = ((word0 >> 6) << 26) | (word1 >> 6)
        return (integer.double() + 0.5) * 2.0**-52  # the middle of a cell: exact

    def integer(self) -> int:
        """Return one number of 63 bits, to seed a library's own generator."""
        low, high = self._key()
        return (high << 32 | low) >> 1


@contextmanager
def global_seed(noise: Noise) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore them after it.

    For what takes no generator: initial weights and dropout. Nothing else in this
    project touches global random state.
    """
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if used else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(noise.integer())  # noqa: TID251
        yield
