"""Which authors are held out: decided by a hash of the author alone.

An author is on the same side whatever else there is and in whatever order, and all
texts of an author are on one side. Names that differ in case, in white space or in the
form of their characters alone are taken for one author here: if they are two, nothing
is lost.
"""

from __future__ import annotations

import unicodedata
from hashlib import sha256

import numpy as np

from mdlm_core.data.split import SPLITS, is_held_out
from mdlm_core.errors import DataError

from .texts import PersonaTexts


def same_author(author: str) -> str:
    """Return what the spellings of an author's name have in common."""
    folded = unicodedata.normalize("NFKC", author).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def held_out(author: str, holdout: float) -> bool:
    """Return whether an author is in the validation split."""
    raw = same_author(author).encode("utf-8", "surrogatepass")
    return is_held_out(sha256(raw).digest(), holdout)


def divide(texts: PersonaTexts, holdout: float) -> dict[str, PersonaTexts]:
    """Return the texts of each split, in their order.

    Args:
        texts: all texts.
        holdout: the expected share of the authors held out, in (0, 1).

    Raises:
        DataError: if there is no text, or a split is empty.
    """
    authors = set(texts.authors)
    if not authors:
        raise DataError("there are no persons: the data holds no row that can be used")
    out = {author for author in authors if held_out(author, holdout)}
    if not 0 < len(out) < len(authors):
        empty, way = ("training", "lower") if out else ("validation", "raise")
        raise DataError(
            f"the {empty} split is empty: of {len(authors)} "
            f"author{'s' * (len(authors) > 1)}, data.holdout={holdout:g} leaves none "
            f"for it; whole authors are held out, chosen by a hash of their name; "
            f"{way} data.holdout, give more authors, or name the column of the authors "
            f"with data.author"
        )
    sides = np.array([author in out for author in texts.authors])
    return {
        split: texts.select(np.flatnonzero(sides == bool(side)))
        for side, split in enumerate(SPLITS)
    }
