"""The vocabularies that models of alignments were trained with, and how they differ.

All agree on ids 0 to 27: padding, letters, `.` and `-`. The special tokens after them
are elsewhere in each, so that a model read with the wrong one sees other separators
than it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import CheckpointError, DataError, UnknownNameError

from .alphabet import BANNED, GAP, TOKENS

if TYPE_CHECKING:
    from torch import Tensor

INITIAL_SPREAD = 0.02
"""Standard deviation of the numbers of an embedding before training."""

_SHARED = {token: i for i, token in enumerate(TOKENS[: GAP + 1])}
_ENDS = ("eod", "eop", "</s>")
"""Special tokens that may have stood at the end of one."""
_LAYOUT = ("gMASK", "sop", "<M>", "dMASK")
"""Special tokens that stand on every canvas, so that training moves their rows."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Which id each token has."""

    name: str
    """As users write it."""
    size: int
    """Ids that mean something; embeddings are often padded to 128 rows."""
    ids: Mapping[str, int]
    """Id of each token by its name in `alphabet.TOKENS`."""
    where: str
    """Who uses it."""

    @property
    def tokens(self) -> dict[int, str]:
        """The token of each id; letters win where a special token has the id too."""
        return {i: token for token, i in reversed(list(self.ids.items()))}


def _vocabulary(name: str, size: int, where: str, **special: int) -> Vocabulary:
    names = {"eos": "</s>", "separator": "<M>"}
    ids = _SHARED | {names.get(token, token): i for token, i in special.items()}
    return Vocabulary(name, size, MappingProxyType(ids), where)


_MSAGPT = {token: i for i, token in enumerate(TOKENS[:36])}

VOCABULARIES: Mapping[str, Vocabulary] = MappingProxyType(
    {
        vocabulary.name: vocabulary
        for vocabulary in (
            Vocabulary("msagpt36", 36, MappingProxyType(_MSAGPT), "MSAGPT"),
            Vocabulary(
                "seed37",
                37,
                MappingProxyType(_MSAGPT | {"dMASK": 36}),
                "this package; MSAGPT's with a mask of diffusion",
            ),
            _vocabulary(
                "seed37-train",
                37,
                "a training set for MSAGPT with diffusion, one off after the gap",
                MASK=27,
                gMASK=28,
                sMASK=29,
                eod=30,
                sop=31,
                eop=32,
                eos=33,
                separator=34,
                dMASK=36,
            ),
            _vocabulary(
                "compact32",
                32,
                "a later one of the same, without end tokens",
                gMASK=28,
                sop=29,
                separator=30,
                dMASK=31,
            ),
        )
    }
)
"""All vocabularies by name."""


def vocabulary(name: str | Vocabulary) -> Vocabulary:
    """Return a vocabulary by its name.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    if isinstance(name, Vocabulary):
        return name
    if name in VOCABULARIES:
        return VOCABULARIES[name]
    near = get_close_matches(name, VOCABULARIES, n=1)
    raise UnknownNameError(
        f"there is no vocabulary '{name}'; "
        + (f"did you mean {near[0]}?" if near else f"use {', '.join(VOCABULARIES)}")
    )


def convert_ids(
    ids: Sequence[int] | NDArray[Any],
    source: str | Vocabulary,
    target: str | Vocabulary,
) -> NDArray[np.int64]:
    """Return ids of one vocabulary as ids of another, of the same shape.

    Raises:
        DataError: if an id means nothing in `source`, or its token has no id in
            `target`; it says which.
        UnknownNameError: if there is no such vocabulary.
    """
    source, target = vocabulary(source), vocabulary(target)
    array = np.asarray(ids, np.int64)
    tokens = source.tokens
    table = {i: target.ids.get(token, -1) for i, token in tokens.items()}
    unique, places = np.unique(array, return_inverse=True)
    converted = np.empty(len(unique), np.int64)
    for n, old in enumerate(unique.tolist()):
        if old not in table:
            raise DataError(
                f"id {old} means nothing in the vocabulary {source.name}, which has "
                f"{source.size} ids"
            )
        if table[old] < 0:
            raise DataError(
                f"the token {tokens[old]} (id {old} in {source.name}) has no id in "
                f"{target.name}; remove it before the conversion"
            )
        converted[n] = table[old]
    return converted[places].reshape(array.shape)


def detect_vocabulary(embedding: NDArray[Any] | Tensor) -> Vocabulary:
    """Return the vocabulary a model was trained with, from its embedding ``(V, D)``.

    A row that training never saw keeps the norm of its random start, which is that of
    the rows 37 and above where there are such, and of N(0, 0.02^2) otherwise. The
    tokens of every canvas ([gMASK], sop, ``<M>``, the mask) must have moved, and none
    besides them but end tokens.

    Raises:
        CheckpointError: if not exactly one vocabulary fits; name it then.
    """
    if not isinstance(embedding, np.ndarray):
        embedding = embedding.detach().cpu().float().numpy()
    matrix = np.asarray(embedding, np.float64)
    if matrix.ndim != 2 or len(matrix) < 32:
        raise CheckpointError(
            f"an embedding of shape {tuple(matrix.shape)} is none of letters: it needs "
            "at least 32 rows"
        )
    count, width = matrix.shape
    spread = np.sqrt((matrix**2).mean(axis=1))
    padding = spread[37:]
    start = float(np.median(padding)) if len(padding) >= 8 else INITIAL_SPREAD
    tolerance = 6 / np.sqrt(2 * width)  # of the relative norm: six standard deviations
    moved = {
        i
        for i in range(28, min(37, count))
        if abs(spread[i] / max(start, 1e-12) - 1) > tolerance
    }
    fitting = [v for v in VOCABULARIES.values() if _fits(v, moved)]
    if len(fitting) == 1:
        return fitting[0]
    rows = ", ".join(map(str, sorted(moved))) or "none"
    raise CheckpointError(
        f"of the embedding's rows 28 to 36 training moved {rows}, which fits "
        + (" and ".join(v.name for v in fitting) or "no known vocabulary")
        + f"; name the vocabulary: {', '.join(VOCABULARIES)}"
    )


def _fits(candidate: Vocabulary, moved: set[int]) -> bool:
    needed = {candidate.ids[token] for token in _LAYOUT if token in candidate.ids}
    ends = {candidate.ids[token] for token in _ENDS if token in candidate.ids}
    return needed <= moved <= needed | ends


Bans = Literal["strict", "msagpt"]


def bans(style: Bans = "strict", *, no_gap: bool = False) -> tuple[int, ...]:
    """Return the ids that a new row may not have.

    Args:
        style: strict bans all but residues and the gap; msagpt only what MSAGPT bans,
            which leaves X, B, U, Z, O and the end tokens.
        no_gap: whether the gap is banned too.
    """
    banned = set(BANNED) if style == "strict" else {0, 26, 28, 29, 30, 31, 32}
    return tuple(sorted(banned | ({GAP} if no_gap else set())))
