"""Rows as they come in, piece by piece, in little more memory than they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdlm_msa.alphabet import Ids


class Builder:
    """Collects rows; keeps all of them, or the first and a random choice of others.

    The choice keeps the rows with the smallest of random keys, one key per row in the
    order of the file, so that it depends on the seed and the file alone.
    """

    def __init__(self, length: int, max_rows: int = 0, seed: int = 0) -> None:
        """Begin with no row.

        Args:
            length: columns of a row, L.
            max_rows: rows that are kept besides the first, at most; 0 keeps all.
            seed: decides which.
        """
        self.length = length
        self.seen = 0
        self._max = max_rows
        self._seed = seed
        self._data = bytearray()
        self._headers: list[bytes] = []
        self._letters: list[bytes] | None = None
        self._keys: NDArray[np.float64] = np.zeros(0)
        self._random: Any = None

    def add(
        self,
        rows: Ids,
        headers: Sequence[bytes],
        letters: Sequence[bytes] | None = None,
        keep: int | None = None,
    ) -> None:
        """Add rows ``(n, L)``; `keep` is the index of one that is never left out."""
        first = self.seen
        self.seen += len(rows)
        self._data += np.ascontiguousarray(rows).data
        self._headers.extend(headers)
        if letters is not None:
            self._letters = [] if self._letters is None else self._letters
            self._letters.extend(letters)
        if not self._max:
            return
        keys = self._draw(len(rows))
        if first == 0:
            keys[0] = -1.0
        if keep is not None:
            keys[keep] = -1.0
        self._keys = np.concatenate([self._keys, keys])
        if len(self._keys) > 2 * self._max + 1:
            self._prune()

    def _draw(self, count: int) -> NDArray[np.float64]:
        if self._random is None:
            from mdlm_core.kernels.noise import Noise

            key = Noise(self._seed).child("msa rows that are read").integer()
            self._random = np.random.default_rng(key)
        keys: NDArray[np.float64] = self._random.random(count)
        return keys

    def _prune(self) -> None:
        wanted = self._max + 1
        if len(self._keys) <= wanted:
            return
        kept = np.sort(np.argpartition(self._keys, wanted - 1)[:wanted])
        rows = np.frombuffer(self._data, np.uint8).reshape(-1, self.length)[kept]
        self._data = bytearray(rows.tobytes())
        self._headers = [self._headers[i] for i in kept]
        if self._letters is not None:
            self._letters = [self._letters[i] for i in kept]
        self._keys = self._keys[kept]

    def finish(self) -> tuple[Ids, list[bytes], list[bytes] | None]:
        """Return rows ``(R, L)``, headers, and letters if they were given."""
        if self._max:
            self._prune()
        rows = np.frombuffer(self._data, np.uint8).reshape(-1, self.length)
        return rows, self._headers, self._letters
