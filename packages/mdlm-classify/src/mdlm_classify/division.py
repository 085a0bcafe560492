"""Divide texts for a comparison, so that nothing is tested on that was learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mdlm_core.errors import DataError, UsageError

from .data.duplicates import overlap, signatures
from .data.split import holdout, subset
from .data.texts import LabelledTexts

HOLDOUT = 0.2
"""The share of each class that is tested on, where there are no test texts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """The texts of a comparison."""

    train: LabelledTexts
    test: LabelledTexts
    validation: LabelledTexts | None
    unlabelled: tuple[str, ...]
    card: dict[str, Any]
    """What was found twice, and what was done about it."""


def divide(
    train: LabelledTexts,
    test: LabelledTexts | None = None,
    *,
    validation: LabelledTexts | None = None,
    unlabelled: Sequence[str] = (),
    rows: int = 0,
    test_rows: int = 0,
    duplicates: Literal["drop", "keep"] = "drop",
    seed: int = 0,
) -> Division:
    """Divide texts, and take out of the others what is tested on.

    Texts are the same if their letters and digits are. First texts that stand twice,
    or are tested on, are dropped from the training texts; then `rows` of them are
    chosen, so that a smaller choice lies within a larger one.

    Args:
        train: texts with labels to learn from.
        test: texts with labels to test on; None takes a fifth of each class of `train`.
        validation: texts with labels to choose a checkpoint by.
        unlabelled: texts without labels.
        rows: learn from that many texts, the same share of each class; 0 means all.
        test_rows: test on that many; 0 means all.
        duplicates: "keep" leaves everything in, and only counts.
        seed: decides what is chosen.

    Raises:
        UsageError: if a number is negative, or `duplicates` is neither.
        DataError: if nothing is left to learn from, or `rows` is more than there is.
    """
    if duplicates not in ("drop", "keep"):
        raise UsageError(f"duplicates is '{duplicates}'; it must be drop or keep")
    for name, value in (("rows", rows), ("test rows", test_rows)):
        if value < 0:
            raise UsageError(f"{name} is {value}; it must be 0 (all) or more")
    drop = duplicates == "drop"
    if test is None:
        if drop:  # before the division, so that no two copies are parted by it
            keys = signatures(train.texts)
            train = train.select(overlap(keys, train.labels, ()).fresh)
        learned, tested = holdout(_labels(train), HOLDOUT, seed)
        train, test = train.select(learned), train.select(tested)
    if test_rows:
        test = _choose(test, test_rows, seed, "tested on")
    tested_on = set(signatures(test.texts))
    card: dict[str, Any] = {"duplicates": duplicates}

    own = overlap(signatures(train.texts), train.labels, tested_on)
    card["train"] = own.card()
    if drop:
        train = train.select(own.fresh)
    if not len(train):
        raise DataError(
            "all training texts are tested on too; give other texts, or keep them with "
            "duplicates=keep"
        )
    if rows:
        train = _choose(train, rows, seed, "learned from")
    both = sum(key in tested_on for key in signatures(train.texts))
    card["learned_from_and_tested_on"] = both
    if validation is not None:
        found = overlap(signatures(validation.texts), None, tested_on)
        card["validation"] = {"also_held_out": found.held_out}
        if drop:
            validation = validation.select(found.fresh)
    if unlabelled:
        found = overlap(signatures(unlabelled), None, tested_on)
        card["unlabelled"] = {"also_held_out": found.held_out}
        if drop:
            unlabelled = [unlabelled[i] for i in found.fresh]
    return Division(
        train=train,
        test=test,
        validation=validation,
        unlabelled=tuple(unlabelled),
        card=card,
    )


def _choose(texts: LabelledTexts, rows: int, seed: int, what: str) -> LabelledTexts:
    if rows > len(texts):
        raise DataError(f"{rows} texts are to be {what}, and there are {len(texts)}")
    return texts.select(subset(_labels(texts), rows, seed))


def _labels(texts: LabelledTexts) -> np.ndarray[Any, Any]:
    if texts.labels is None:
        raise DataError("the texts have no labels; a comparison needs them")
    return np.asarray(texts.labels)
