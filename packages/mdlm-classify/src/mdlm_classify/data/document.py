"""A text as the model sees it: windows of ids, and a key for its masks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from mdlm_core.errors import UsageError
from mdlm_core.protocols import Tokenizer

_BLANK = re.compile(r"_{3,}(?:\{(\d+)\})?")  # as in a prompt of `mdlm sample`
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Document:
    """The ids of a text, cut into windows.

    log p(text | class) is the sum over the windows, each of which is scored alone.
    """

    windows: tuple[tuple[int, ...], ...]
    """At most L ids each; a missing token is the mask. None for a text without one."""
    key: int
    """63 bits of a hash of the ids: what decides the masks of the text."""
    gaps: int = 0
    """Missing tokens: always hidden, never scored."""

    @property
    def tokens(self) -> int:
        """How many tokens are scored."""
        return sum(map(len, self.windows)) - self.gaps


def of_ids(ids: Sequence[int], *, length: int, mask_id: int) -> Document:
    """Cut `ids` into consecutive windows of `length`; the mask is a missing token."""
    ids = tuple(map(int, ids))
    digest = blake2b(np.array(ids, dtype="<i8").tobytes(), digest_size=8).digest()
    return Document(
        windows=tuple(ids[at : at + length] for at in range(0, len(ids), length)),
        key=int.from_bytes(digest, "little") >> 1,
        gaps=ids.count(mask_id),
    )


def encode(
    tokenizer: Tokenizer, text: str, *, length: int, gaps: bool = False
) -> Document:
    """Return the document of `text`.

    Args:
        tokenizer: the one of the model.
        text: may be empty, and then has no window.
        length: L, ids in a window at most.
        gaps: whether three or more underscores are a missing token, and ``____{12}``
            twelve of them.

    Raises:
        DataError: if the text cannot be encoded.
        UsageError: if a gap has no tokens, or too many.
    """
    ids = _with_gaps(tokenizer, text) if gaps else tokenizer.encode(text)
    return of_ids(ids, length=length, mask_id=tokenizer.mask_id)


def _with_gaps(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = []
    end = 0
    for match in _BLANK.finditer(text):
        size = int(match.group(1) or 1)
        if not 1 <= size <= _MOST:
            raise UsageError(
                f"the gap '{match.group()}' has {size} tokens; it must have 1 to "
                f"{_MOST}"
            )
        ids += tokenizer.encode(text[end : match.start()])
        ids += [tokenizer.mask_id] * size
        end = match.end()
    return ids + tokenizer.encode(text[end:])
