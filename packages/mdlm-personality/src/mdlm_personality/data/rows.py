"""The texts of each person, one after the other, cut into windows.

Letters: R rows, L length, M persons, K columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdlm_core.data.packing import encode_documents
from mdlm_core.protocols import Tokenizer

from .texts import PersonaTexts, Places, Values


@dataclass(frozen=True, slots=True)
class Rows:
    """The windows of a split."""

    tokens: NDArray[Any]
    """``(R, W)``: W is L, or less where no author has that many tokens."""
    sizes: Places
    """``(R,)``: the tokens of each row that are there."""
    owner: Places
    """``(R,)``: the place of its person."""
    values: Values
    """``(M, K)``: of each person; NaN is not known."""
    untold: bool
    """Whether there are no texts: a row is an end token that is never scored."""

    def __len__(self) -> int:
        """R."""
        return len(self.tokens)

    @classmethod
    def cut(
        cls, texts: PersonaTexts, tokenizer: Tokenizer, length: int, untold: bool
    ) -> Rows:
        """Join the texts of each person, and cut the windows."""
        names, owner, values = texts.persons()
        order = np.argsort(owner, kind="stable")
        encoded = list(
            encode_documents(tokenizer, (texts.texts[i] for i in order), eod=True)
        )
        flat = np.concatenate(encoded)
        counts = np.bincount(
            owner[order], weights=[len(ids) for ids in encoded], minlength=len(names)
        ).astype(np.int64)  # (M,)
        windows = -(-counts // length)
        of = np.repeat(np.arange(len(names), dtype=np.int64), windows)  # (R,)
        nth = np.arange(len(of)) - (np.cumsum(windows) - windows)[of]
        starts = (np.cumsum(counts) - counts)[of] + nth * length
        sizes = np.minimum(length, counts[of] - nth * length)
        tokens = np.full(
            (len(of), int(sizes.max())), tokenizer.pad_id, dtype=flat.dtype
        )
        for row, (start, size) in enumerate(zip(starts.tolist(), sizes, strict=True)):
            tokens[row, :size] = flat[start : start + size]
        return cls(tokens, sizes, of, values, untold)
