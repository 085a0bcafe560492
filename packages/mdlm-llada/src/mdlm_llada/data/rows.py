"""Rows of token ids, a prompt and an answer each, of different lengths.

Letters: B rows in this process's part of a batch, L length, R rows of a split.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.data.batch import Batch
from mdlm_core.data.split import is_held_out
from mdlm_core.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt with its answer."""

    ids: Sequence[int]
    """The prompt's tokens, then the answer's."""
    prompt_length: int
    """How many of them are the prompt; 0 for text without one."""
    name: str = ""
    """What an error calls the row: a file and a line, or an example's id."""


class Rows:
    """Rows side by side in one array, so that millions of them fit into memory."""

    def __init__(
        self,
        tokens: NDArray[np.int32],
        ends: NDArray[np.int64],
        prompts: NDArray[np.int32],
    ) -> None:
        """Take over the arrays.

        Args:
            tokens: all rows' tokens, one row after the other.
            ends: ``(R,)`` where each row ends in `tokens`.
            prompts: ``(R,)`` the length of each row's prompt.
        """
        self.tokens = tokens
        self.ends = ends
        self.prompts = prompts
        self.starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
        self.lengths = ends - self.starts  # (R,)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        """Gather `rows`, reading them once."""
        tokens, ends, prompts = array("i"), array("q"), array("i")
        for row in rows:
            tokens.extend(row.ids)
            ends.append(len(tokens))
            prompts.append(row.prompt_length)
        return cls(
            np.asarray(tokens, dtype=np.int32),
            np.asarray(ends, dtype=np.int64),
            np.asarray(prompts, dtype=np.int32),
        )

    def __len__(self) -> int:
        return len(self.ends)

    def row(self, index: int) -> NDArray[np.int32]:
        """Return the tokens of one row."""
        return self.tokens[self.starts[index] : self.ends[index]]

    def digest(self, index: int) -> bytes:
        """Return the SHA-256 of a row: of its prompt's length and its tokens."""
        numbers = np.concatenate([self.prompts[index : index + 1], self.row(index)])
        return sha256(numbers.astype("<i4").tobytes()).digest()

    def sha256(self) -> str:
        """Return the SHA-256 of the rows' digests, in order."""
        whole = sha256()
        for index in range(len(self)):
            whole.update(self.digest(index))
        return whole.hexdigest()

    def take(self, indices: NDArray[np.int64]) -> Rows:
        """Return the rows `indices`, in that order."""
        return Rows.of(
            Row(self.row(i).tolist(), int(self.prompts[i])) for i in indices.tolist()
        )

    def divide(self, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices of the rows to learn from, and of those held out.

        A row is on the same side whatever other rows there are and in whatever order,
        and a row that occurs twice is never on both.

        Args:
            share: the expected share of rows to learn from, in (0, 1].
        """
        held = np.array(
            [is_held_out(self.digest(i), 1 - share) for i in range(len(self))], bool
        )
        return np.flatnonzero(~held), np.flatnonzero(held)


@dataclass(slots=True)
class Fit:
    """Makes rows fit into a length, and counts what that took."""

    length: int
    """Tokens of a row, at most."""
    too_long: str
    """``drop`` leaves longer rows out; ``truncate`` cuts the end of their answers, and
    leaves out those whose prompt alone fills the length; ``error`` refuses them."""
    kept: int = 0
    """Rows that are there, truncated ones among them."""
    dropped: int = 0
    truncated: int = 0
    longest: int = 0
    """Tokens of the longest row, before anything was cut."""

    def __call__(self, row: Row) -> Row | None:
        """Return the row as it fits, or None if it is left out.

        Raises:
            DataError: if it is too long and that is an error.
        """
        size = len(row.ids)
        self.longest = max(self.longest, size)
        if size <= self.length:
            self.kept += 1
            return row
        if self.too_long == "error":
            raise DataError(
                f"{row.name or 'a row'} has {size} tokens, and data.max_length is "
                f"{self.length}; raise it, or set data.too_long to drop or truncate"
            )
        if self.too_long == "truncate" and row.prompt_length < self.length:
            self.kept += 1
            self.truncated += 1
            return Row(row.ids[: self.length], row.prompt_length, row.name)
        self.dropped += 1
        return None

    def check(self, what: str) -> None:
        """Refuse to go on with nothing.

        Raises:
            DataError: if no row is left.
        """
        if self.kept:
            return
        if not self.dropped:
            raise DataError(f"{what} has no rows; give more data")
        raise DataError(
            f"{what} has no rows left: all {self.dropped} have more than "
            f"{self.length} tokens, the longest {self.longest}; raise data.max_length, "
            "or set data.too_long=truncate"
        )

    def card(self) -> dict[str, object]:
        """Return what was done, for a card."""
        return {
            "rule": self.too_long,
            "dropped": self.dropped,
            "truncated": self.truncated,
            "longest": self.longest,
        }


def collate(
    rows: Rows,
    indices: NDArray[np.int64],
    *,
    width: int,
    learned: NDArray[np.int64],
    eod_id: int,
    pad_id: int,
    epoch: int = 0,
) -> Batch:
    """Return rows as a batch: prompt, answer, learned ends of text, padding.

    Args:
        rows: where they are.
        indices: ``(B,)`` which ones; they are also the sample ids.
        width: L; what stands beyond it is cut.
        learned: ``(B,)`` up to which position a row is learned; what is beyond its
            own tokens is `eod_id`.
        eod_id: the end of text.
        pad_id: what stands where nothing is.
        epoch: which pass over the data this is.
    """
    count = len(indices)
    tokens = np.full((count, width), pad_id, dtype=np.int64)
    for place, index in enumerate(indices.tolist()):
        row = rows.row(index)[:width]
        tokens[place, : len(row)] = row
        tokens[place, len(row) : learned[place]] = eod_id
    columns = np.arange(width)
    return Batch.of(
        torch.from_numpy(tokens),
        frozen=torch.from_numpy(columns < rows.prompts[indices][:, None]),
        pad=torch.from_numpy(columns >= learned[:, None]),
        sample_id=torch.from_numpy(indices.astype(np.int64)),
        epoch=epoch,
    )
