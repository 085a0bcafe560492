"""Rows of token ids, a prompt and an answer each, of different lengths.

Letters: B rows in this process's part of a batch, L length, R rows of a split.
"""

from __future__ import annotations

import logging
import os
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.data.batch import Batch
from mdlm_core.errors import DataError
from mdlm_llada.config import RowsConfig

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt with its answer."""

    ids: Sequence[int]
    """The prompt's tokens, then the answer's."""
    prompt_length: int
    """How many of them are the prompt; 0 for text without one."""
    name: str = ""
    """What an error calls the row: a file and a line, or an example's id."""

    def digest(self) -> bytes:
        """Return the SHA-256 of the prompt's length and the tokens."""
        numbers = array("i", [self.prompt_length, *self.ids])
        if sys.byteorder == "big":
            numbers.byteswap()
        return sha256(numbers.tobytes()).digest()


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

    def __len__(self) -> int:
        return len(self.ends)

    def row(self, index: int) -> NDArray[np.int32]:
        """Return the tokens of one row."""
        return self.tokens[self.starts[index] : self.ends[index]]

    def sha256(self) -> str:
        """Return the SHA-256 of the rows' digests, in order."""
        whole = sha256()
        for index, prompt in enumerate(self.prompts.tolist()):
            whole.update(Row(self.row(index).tolist(), prompt).digest())
        return whole.hexdigest()


@dataclass(slots=True)
class Fit:
    """Makes rows fit into a length, and counts what that took."""

    length: int
    """Tokens of a row, at most."""
    too_long: str
    """``drop`` leaves longer rows out; ``truncate`` cuts the end of their answers, and
    leaves out those whose prompt alone fills the length; ``error`` refuses them."""
    names: tuple[str, str] = ("data.max_length", "data.too_long")
    """What a message calls these two."""
    kept: int = 0
    """Rows that are there, truncated ones among them."""
    tokens: int = 0
    """Of the rows that are kept."""
    learned: int = 0
    """Those of their answers."""
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
            return self._keep(row)
        if self.too_long == "error":
            raise DataError(
                f"{row.name or 'a row'} has {size} tokens, and {self.names[0]} is "
                f"{self.length}; raise it, or set {self.names[1]} to drop or truncate"
            )
        if self.too_long == "truncate" and row.prompt_length < self.length:
            self.truncated += 1
            return self._keep(Row(row.ids[: self.length], row.prompt_length, row.name))
        self.dropped += 1
        return None

    def _keep(self, row: Row) -> Row:
        self.kept += 1
        self.tokens += len(row.ids)
        self.learned += len(row.ids) - row.prompt_length
        return row

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
            f"{self.length} tokens, the longest {self.longest}; raise "
            f"{self.names[0]}, or set {self.names[1]} to truncate"
        )

    def tell(self, what: str) -> None:
        """Warn of rows that are not there or not whole, on the first process alone.

        Args:
            what: whose rows they are, as in "the training split".
        """
        if os.environ.get("RANK", "0") != "0":
            return
        total = self.kept + self.dropped
        for count, fate in (
            (self.dropped, "are left out"),
            (self.truncated, "are cut"),
        ):
            if count:
                _LOG.warning(
                    "%s: %s of %s rows have more than %s=%s tokens and %s",
                    what,
                    f"{count:,}",
                    f"{total:,}",
                    self.names[0],
                    f"{self.length}",
                    fate,
                )

    def card(self) -> dict[str, object]:
        """Return what was done, for a card."""
        return {
            "rule": self.too_long,
            "dropped": self.dropped,
            "truncated": self.truncated,
            "longest": self.longest,
        }


class Gathered:
    """Rows that come one by one and are made to fit."""

    def __init__(self, config: RowsConfig) -> None:
        self.fit = Fit(config.max_length, config.too_long)
        self._tokens, self._ends, self._prompts = array("i"), array("q"), array("i")

    def add(self, row: Row) -> bool:
        """Take a row, and return whether it is kept.

        Raises:
            DataError: if it is too long and that is an error.
        """
        fitted = self.fit(row)
        if fitted is None:
            return False
        self._tokens.extend(fitted.ids)
        self._ends.append(len(self._tokens))
        self._prompts.append(fitted.prompt_length)
        return True

    def rows(self) -> Rows:
        """Return what was kept."""
        return Rows(
            np.asarray(self._tokens, dtype=np.int32),
            np.asarray(self._ends, dtype=np.int64),
            np.asarray(self._prompts, dtype=np.int32),
        )


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
